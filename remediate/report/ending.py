"""The last lines of a run: the outcome, why, how fast, and what to do now."""

from __future__ import annotations

from remediate.model.run import Cause, Outcome, Run, State
from remediate.report.layout import one_line, pad, seconds
from remediate.report.live import Line
from remediate.report.messages import say
from remediate.report.run import between_ms

_TONES = {
    Outcome.RECOVERED: "good",
    Outcome.SELF_HEALED: "good",
    Outcome.DRY_RUN: "",
    Outcome.REFUSED: "attention",
    Outcome.ROLLED_BACK: "attention",
}
#: Columns of the labels.
_LABEL = 10


def end_lines(run: Run, lang: str) -> list[Line]:
    """What a person reads when a run is closed or waits; the first line carries the tone."""
    tone = "attention" if run.outcome is None else _TONES.get(run.outcome, "bad")
    word = run.state.value if run.outcome is None else say(lang, run.outcome.value)
    lines = [Line(_labelled(lang, "state" if run.outcome is None else "outcome", word), tone)]
    lines.append(Line(_labelled(lang, "reason", one_line(run.reason))))
    restored = between_ms(run.request.detected_at or run.accepted_at, run.restored_at)
    if restored is not None:
        took = say(lang, "end_restored", took=seconds(restored))
        lines.append(Line(_labelled(lang, "restored", took)))
    first, *rest = _advice(run, lang)
    lines.append(Line(_labelled(lang, "next", first)))
    lines += [Line(" " * _LABEL + line) for line in rest]
    return lines


def _labelled(lang: str, label: str, text: str) -> str:
    return pad(say(lang, label), _LABEL) + text


def _advice(run: Run, lang: str) -> list[str]:
    """What a person does now."""
    show = f"remediate runs show {run.id}"
    target = run.request.target
    if run.state is State.AWAITING_APPROVAL:
        return [
            say(lang, "next_decide"),
            f"remediate approvals approve {run.id}",
            f"remediate approvals reject {run.id} --reason TEXT",
            say(lang, "next_alone"),
        ]
    if run.outcome is Outcome.REFUSED:
        command = f"remediate explain {run.request.code} --target {target}"
        return [say(lang, "next_explain", command=command), show]
    if run.outcome is Outcome.ROLLED_BACK:
        return [say(lang, "next_rolled_back", show=show)]
    if run.outcome is Outcome.UNKNOWN or (run.outcome is Outcome.FAILED and run.acted):
        return [say(lang, "next_look", target=target, show=show)]
    if run.cause is Cause.UNREACHABLE:
        return [say(lang, "next_unreachable", target=target, show=show)]
    return [show]

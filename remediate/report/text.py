"""The run report for people: what was asked, decided, done, seen and signed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from remediate.report.layout import one_line, pad, printable, seconds, table, width, wrap
from remediate.report.messages import say
from remediate.report.run import PhaseReport, RunReport, between_ms

_LABEL_COLUMNS = 16
_TERMINAL = 100


def run_text(report: RunReport, lang: str = "en", *, columns: int = _TERMINAL) -> str:
    """The report as text."""
    parts = [
        _head(report, lang, columns),
        _times(report, lang),
        _guards(report, lang, columns),
        _people(report, lang, columns),
        _phases(report, lang, columns),
        _rollback(report, lang),
        _audit(report, lang),
    ]
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part)))


def outcome_word(report: RunReport, lang: str) -> str:
    """How the run ended, or where it stands."""
    run = report.run
    if run.outcome is None:
        return say(lang, "open", state=run.state.value)
    return say(lang, run.outcome.value)


def _head(report: RunReport, lang: str, columns: int) -> Iterator[str]:
    run, request = report.run, report.run.request
    yield f"{say(lang, 'report_run')} {run.id}"
    facts = {
        "outcome": outcome_word(report, lang),
        "reason": run.reason,
        "code": request.code,
        "target": request.target,
        "touches": ", ".join(run.touches),
        "vantage": run.vantage,
        "params": " ".join(f"{name}={value}" for name, value in sorted(request.params.items())),
        "plan": run.plan,
        "plan_version": report.plan_version[:16],
        "plan_hash": run.plan_hash[:16],
        "case": run.case_id,
        "tier_risk": _tier_risk(report, lang),
        "asked_by": f"{request.actor.id} ({request.trigger}, {request.actor.auth})",
        "asked_reason": request.reason,
        "mode": _mode(report, lang),
        "approved_by": _approved_by(report, lang),
    }
    for key, value in facts.items():
        if value:
            yield from _labelled(say(lang, key), value, columns)


def _labelled(label: str, value: str, columns: int) -> Iterator[str]:
    indent = max(_LABEL_COLUMNS, width(label) + 2)
    first, *more = wrap(one_line(value), max(24, columns - indent - 2))
    yield f"  {pad(label, indent)}{first}"
    for line in more:
        yield " " * (indent + 2) + line


def _tier_risk(report: RunReport, lang: str) -> str:
    run = report.run
    if not run.tier:
        return ""
    return f"{run.tier}, {run.risk}; {say(lang, 'armed', level=run.arming)}"


def _mode(report: RunReport, lang: str) -> str:
    request = report.run.request
    words = {"mode_check": request.check, "mode_break_glass": request.break_glass}
    return ", ".join(say(lang, key) for key, given in words.items() if given)


def _approved_by(report: RunReport, lang: str) -> str:
    granted = [one for one in report.decisions if one.what == "granted"]
    if granted:
        return ", ".join(f"{one.by} ({one.data.get('role', '')})" for one in granted)
    if any(one.what == "requested" for one in report.decisions):
        return say(lang, "none_yet")
    # Of a run that was never allowed to start nobody can say whether somebody would have had to agree.
    return say(lang, "nobody_needed") if report.run.started_at else ""


def _times(report: RunReport, lang: str) -> Iterator[str]:
    yield say(lang, "times")
    accepted = report.run.accepted_at
    for name, moment in report.moments().items():
        if not moment:
            continue
        took = between_ms(accepted, moment)
        later = f"  {say(lang, 'after', took=seconds(took))}" if took and took > 0 else ""
        yield f"  {pad(say(lang, name), _LABEL_COLUMNS)}{moment}{later}"


def _guards(report: RunReport, lang: str, columns: int) -> Iterator[str]:
    if not report.guards:
        return
    yield say(lang, "guards")
    decisive = [guard for guard in report.guards if guard["verdict"] in ("refuse", "hold")]
    others = [str(guard["name"]) for guard in report.guards if guard not in decisive]
    for guard in decisive:
        yield from _labelled(f"{guard['name']}: {guard['verdict']}", str(guard["reason"]), columns)
    passed = say(lang, "guards_passed", count=len(others), names=", ".join(others))
    for line in wrap(passed, columns - 2):
        yield f"  {line}"


def _people(report: RunReport, lang: str, columns: int) -> Iterator[str]:
    if not report.decisions:
        return
    yield say(lang, "people")
    rows = []
    for one in report.decisions:
        said = one.as_json()
        rows.append((one.at, one.what, one.by, said["reason"]))
    lines = table(("", "", "", ""), rows, columns=columns - 2)[1:]
    for line in lines:
        yield f"  {line}"


def _phases(report: RunReport, lang: str, columns: int) -> Iterator[str]:
    yield say(lang, "phases")
    if not report.phases:
        yield f"  {say(lang, 'no_phase')}"
    for phase in report.phases:
        yield from _phase(phase, lang, columns)


def _phase(phase: PhaseReport, lang: str, columns: int) -> Iterator[str]:
    line = say(
        lang,
        "phase_line",
        state=phase.state,
        took=seconds(phase.duration_ms or 0),
        changed=say(lang, "live_changed") if phase.changed else "",
    )
    yield f"  {pad(say(lang, phase.key), _LABEL_COLUMNS)}{line}"
    if phase.reason and phase.state != "ok":
        yield from _indented(phase.reason, columns)
    for step in phase.steps:
        yield from _step(step, columns)
    for seen in phase.observations:
        verdict = say(lang, "sample_ok" if seen.ok else "sample_bad")
        text = say(
            lang, "sample", verdict=verdict, name=seen.name, expected=seen.expected, observed=seen.observed
        )
        yield from _indented(text, columns)
    for finding in phase.findings:
        yield from _indented(say(lang, "finding", text=finding), columns)


def _step(step: Mapping[str, Any], columns: int) -> Iterator[str]:
    status = str(step.get("status", ""))
    if status == "skipped":
        return
    took = f" ({seconds(int(step['duration_ms']))})" if step.get("duration_ms") else ""
    yield f"      {pad(status, 9)}{one_line(str(step.get('name', '')))} [{step.get('host', '')}]{took}"
    if step.get("message") and status in ("failed", "unreachable"):
        for line in wrap(one_line(str(step["message"])), columns - 15):
            yield " " * 15 + line
    for line in printable(str(step.get("diff", "")), lines=True).splitlines():
        yield f"        {line}"


def _indented(text: str, columns: int) -> Iterator[str]:
    for line in wrap(one_line(text), columns - 6):
        yield f"      {line}"


def _rollback(report: RunReport, lang: str) -> Iterator[str]:
    if not report.run.acted:
        return
    yield say(lang, "rollback_title")
    looks = [phase for phase in report.phases if phase.key == "verify_rollback"]
    tried = any(phase.name == "rollback" for phase in report.phases)
    if not tried:
        yield f"  {say(lang, 'rollback_not_needed')}"
    elif looks and looks[-1].verified:
        yield f"  {say(lang, 'rollback_proved')}"
    else:
        yield f"  {say(lang, 'rollback_not_proved')}"


def _audit(report: RunReport, lang: str) -> Iterator[str]:
    if report.first_seq is None:
        return
    yield say(lang, "audit")
    entries = say(lang, "audit_entries", first=report.first_seq, last=report.last_seq)
    if report.checkpoint is None:
        yield f"  {entries}; {say(lang, 'audit_unsigned')}"
    else:
        yield f"  {entries}; {say(lang, 'audit_checkpoint', size=report.checkpoint)}"

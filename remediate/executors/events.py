"""Turns the events of a playbook run into steps, and remembers what the judgement needs. Pure.

Only named fields of a result are ever looked at, and every text passes the scrubber before it is cut
or kept.
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from remediate.executors.redact import Scrubber
from remediate.model.plan import Phase
from remediate.model.result import Step

#: What is kept of a failed task's output, from its end.
TAIL = 2048
_LONGEST_MESSAGE = 4096
_LONGEST_DIFF = 65536
_SCRUBBED_AT_ONCE = 65536

_KINDS = ("CHECK", "SNAP", "ISOLATE", "SWITCH", "REPAIR", "VERIFY", "RESTORE", "CLOSE")
_KIND_OF_PHASE = {
    Phase.PRECHECK: "CHECK",
    Phase.SNAPSHOT: "SNAP",
    Phase.APPLY: "REPAIR",
    Phase.VERIFY: "VERIFY",
    Phase.ROLLBACK: "RESTORE",
    Phase.CLOSE: "CLOSE",
}
_OUTPUT_OF_A_FAILURE = ("stderr", "stdout", "module_stderr")
_SETTING_FACTS = ("ansible.builtin.set_fact", "ansible.legacy.set_fact", "set_fact")
_GATHERING = ("ansible.builtin.setup", "ansible.builtin.gather_facts")
_HIDDEN = "hidden by no_log"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNote:
    """What the gate saw of a task before its name was templated."""

    name: str
    kind: str = ""


@dataclass(slots=True)
class Tally:
    """What happened in a phase, as far as its events tell."""

    phase: Phase
    target: str
    scrub: Scrubber
    keep_diff: bool
    #: The gate's note on a task, by its uuid.
    note: Callable[[str], TaskNote | None]
    steps: list[Step] = field(default_factory=list)
    #: Per-host counters of `playbook_on_stats`; None until the play came to its end.
    stats: Mapping[str, Mapping[str, int]] | None = None
    #: What a role handed back, not looked at yet; None when there was nothing.
    handed_back: Any = None
    #: Tasks that did something on the target, other than gathering facts.
    acted: int = 0
    #: Results of the running loop's items that failed; since 2.21 only their own events tell.
    _failed_items: list[Mapping[str, Any]] = field(default_factory=list)
    _errors: list[str] = field(default_factory=list)
    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    def take(self, event: Mapping[str, Any]) -> Step | None:
        """Take note of an event; the step it ended, if it ended one."""
        kind = event.get("event")
        data = event.get("event_data") or {}
        if kind == "playbook_on_stats":
            self.stats = {name: data.get(name) or {} for name in _COUNTERS}
        elif kind == "error":
            self._errors.append(str(event.get("stdout", "")))
        elif kind == "verbose":
            self._lines.append(str(event.get("stdout", "")))
        elif kind == "runner_item_on_failed":
            self._failed_items.append(data.get("res") or {})
        elif kind in _STATUS:
            return self._step(_STATUS[kind], data)
        return None

    @property
    def last_words(self) -> str:
        """What ansible-playbook said of itself: its errors, or else the end of its output."""
        return self._text("\n".join(self._errors or self._lines), TAIL)

    def _step(self, status: str, data: Mapping[str, Any]) -> Step:
        result = data.get("res") or {}
        if status == "ok" and result.get("changed") is True:
            status = "changed"
        note = self.note(str(data.get("task_uuid", "")))
        name = self._text(note.name if note else str(data.get("task") or ""), 256)
        step = Step(
            name=name,
            kind=(note.kind if note else "") or _kind_in(name) or _KIND_OF_PHASE[self.phase],
            host=str(data.get("host", "")),
            status=status,
            changed=result.get("changed") is True,
            message=self._message(result, failed=status in ("failed", "unreachable")),
            diff=self._diff(result) if self.keep_diff else "",
            duration_ms=round(float(data.get("duration") or 0) * 1000),
            ignored=data.get("ignore_errors") is True,
        )
        self._remember_result(data, result)
        looked_only = data.get("resolved_action") in _GATHERING
        self.acted += step.host == self.target and status != "skipped" and not looked_only
        self.steps.append(step)
        return step

    def _remember_result(self, data: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Only `set_fact` on the target counts: facts of a module come from the target's own mouth."""
        facts = result.get("ansible_facts")
        if (
            data.get("resolved_action") in _SETTING_FACTS
            and data.get("host") == self.target
            and isinstance(facts, Mapping)
            and "remediate_result" in facts
        ):
            self.handed_back = facts["remediate_result"]

    def _message(self, result: Mapping[str, Any], *, failed: bool) -> str:
        if "censored" in result:
            return _HIDDEN
        parts = [str(result["msg"])] if isinstance(result.get("msg"), (str, int)) else []
        if failed:
            parts += self._why_failed(result)
        return self._text("\n".join(part for part in parts if part), _LONGEST_MESSAGE)

    def _why_failed(self, result: Mapping[str, Any]) -> list[str]:
        failed_items, self._failed_items = self._failed_items, []
        parts = [f"rc {result['rc']}"] if isinstance(result.get("rc"), int) else []
        parts += [
            f"{name}: {self._text(result[name], TAIL)}"
            for name in _OUTPUT_OF_A_FAILURE
            if isinstance(result.get(name), str) and result[name].strip()
        ]
        return parts + [self._message(item, failed=True) for item in failed_items[:3]]

    def _diff(self, result: Mapping[str, Any]) -> str:
        found = result.get("diff")
        entries = found if isinstance(found, list) else [found]
        return self._text(
            "".join(_as_text(each) for each in entries if isinstance(each, Mapping)), _LONGEST_DIFF
        )

    def _text(self, text: str, longest: int) -> str:
        """The end of a text, scrubbed before it is cut, so that no secret is cut in half."""
        return self.scrub.text(text[-_SCRUBBED_AT_ONCE:]).strip()[-longest:]


_COUNTERS = ("ok", "changed", "failures", "dark", "skipped", "rescued", "ignored", "processed")
_STATUS = {
    "runner_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_on_unreachable": "unreachable",
    "runner_on_skipped": "skipped",
}


def _kind_in(name: str) -> str:
    """The kind that a task name opens with (`isolate | Shut the port`), if it names one."""
    first = name.partition("|")[0].strip().upper()
    return first if first in _KINDS else ""


def _as_text(entry: Mapping[str, Any]) -> str:
    """One diff of a result as a person reads it."""
    if isinstance(entry.get("prepared"), str):
        return str(entry["prepared"])
    before, after = (str(entry.get(side) or "").splitlines(keepends=True) for side in ("before", "after"))
    old, new = (str(entry.get(f"{side}_header") or side) for side in ("before", "after"))
    return "".join(difflib.unified_diff(before, after, old, new))

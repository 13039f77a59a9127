"""A run as its entries tell it: the one reading behind the text report and the JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from remediate.model.entry import Entry, Kind
from remediate.model.result import Observation
from remediate.model.run import Run

#: The moments of a run, in the order in which they come.
MOMENTS = ("fault_at", "detected_at", "accepted_at", "decided_at", "started_at", "restored_at", "ended_at")
_PEOPLE = {
    Kind.APPROVAL_REQUESTED: "requested",
    Kind.APPROVAL_GRANTED: "granted",
    Kind.APPROVAL_REJECTED: "rejected",
    Kind.APPROVAL_EXPIRED: "expired",
    Kind.GUARD_OVERRIDE: "break_glass",
    Kind.OVERRIDE_REVIEWED: "reviewed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseReport:
    """One phase that was begun, with what is recorded of it."""

    name: str
    #: `apply` or `rollback` for a verification, else empty.
    purpose: str
    attempt: int
    started_at: str
    #: `running` until a result is recorded; `interrupted` when the run went on without one.
    state: str = "running"
    ended_at: str = ""
    changed: bool = False
    reason: str = ""
    steps: tuple[Mapping[str, Any], ...] = ()
    observations: tuple[Observation, ...] = ()
    findings: tuple[str, ...] = ()
    #: The recorded verdict of a verification.
    verified: bool = False

    @property
    def duration_ms(self) -> int | None:
        """Milliseconds from intent to result."""
        return between_ms(self.started_at, self.ended_at)

    @property
    def key(self) -> str:
        """What the message catalogue calls the phase."""
        return "verify_rollback" if self.purpose == "rollback" and self.name == "verify" else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """What people said about a run."""

    at: str
    what: str
    by: str
    data: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The form of `runs show -o json`."""
        return {
            "decision": self.what,
            "by": self.by,
            "role": str(self.data.get("role", "")),
            "reason": str(self.data.get("reason", self.data.get("needed", ""))),
            "plan_hash": str(self.data.get("plan_hash", "")),
            "at": self.at,
            "expires_at": str(self.data.get("expires_at", "")),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Everything there is to tell about one run."""

    run: Run
    guards: tuple[Mapping[str, Any], ...]
    decisions: tuple[Decisions, ...]
    phases: tuple[PhaseReport, ...]
    #: SHA-256 of the content the plan was made from: its version.
    plan_version: str
    first_seq: int | None
    last_seq: int | None
    #: Size of the newest signed checkpoint, when it covers the run's last entry.
    checkpoint: int | None

    @classmethod
    def build(cls, run: Run, entries: Sequence[Entry], *, checkpoint: int | None = None) -> RunReport:
        """Read a run's entries; `checkpoint` is the size of the newest signed head, if there is one."""
        decided = [entry for entry in entries if entry.kind is Kind.DECISION]
        plans = [entry for entry in entries if entry.kind is Kind.PLAN]
        numbers = [entry.seq for entry in entries if entry.seq >= 0]
        last = max(numbers, default=None)
        signed = checkpoint is not None and last is not None and checkpoint > last
        return cls(
            run=run,
            guards=tuple(decided[-1].data["guards"]) if decided else (),
            decisions=tuple(_decisions(entries)),
            phases=_phases(entries, closed=run.closed),
            plan_version=str(plans[-1].data["content_sha256"]) if plans else "",
            first_seq=min(numbers, default=None),
            last_seq=last,
            checkpoint=checkpoint if signed else None,
        )

    def moments(self) -> dict[str, str]:
        """Every moment of the run; the empty string for those that were not reached or are not known."""
        request = self.run.request
        known = {"fault_at": request.fault_at, "detected_at": request.detected_at}
        return {name: known.get(name, getattr(self.run, name, "")) for name in MOMENTS}

    def as_json(self) -> dict[str, Any]:
        """The JSON of a run."""
        run, request = self.run, self.run.request
        return {
            "id": run.id,
            "case_id": run.case_id,
            "code": request.code,
            "plan": run.plan,
            "plan_hash": run.plan_hash,
            "target": request.target,
            "params": dict(request.params),
            "trigger": {
                "kind": request.trigger,
                "source": request.actor.src,
                "actor": request.actor.id,
                "reason": request.reason,
            },
            "tier": run.tier,
            "risk": run.risk,
            "arming": run.arming,
            "state": run.state.value,
            "outcome": None if run.outcome is None else run.outcome.value,
            "reason": run.reason,
            "guards": [dict(guard) for guard in self.guards],
            "approvals": [decision.as_json() for decision in self.decisions],
            "phases": [_phase_json(phase, run) for phase in self.phases],
            "timings": {name: moment or None for name, moment in self.moments().items()},
            "audit": {
                "first_seq": self.first_seq,
                "last_seq": self.last_seq,
                "checkpoint": self.checkpoint,
            },
        }


def between_ms(start: str, end: str) -> int | None:
    """Whole milliseconds between two recorded moments; None while one of them is missing."""
    if not start or not end:
        return None
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() * 1000)


def _decisions(entries: Iterable[Entry]) -> Iterable[Decisions]:
    for entry in entries:
        if what := _PEOPLE.get(entry.kind):
            yield Decisions(at=entry.ts, what=what, by=entry.actor.id, data=entry.data)


def _phases(entries: Iterable[Entry], *, closed: bool) -> tuple[PhaseReport, ...]:
    """The phases in order; a step or verdict belongs to the phase begun last."""
    found: list[PhaseReport] = []
    for entry in entries:
        if entry.kind is Kind.PHASE_INTENT:
            _note_interruption(found)
            found.append(_begun(entry))
        elif found and (change := _CHANGES.get(entry.kind)):
            found[-1] = change(found[-1], entry)
    if closed:
        _note_interruption(found)
    return tuple(found)


def _begun(entry: Entry) -> PhaseReport:
    return PhaseReport(
        name=str(entry.data["phase"]),
        purpose=str(entry.data.get("purpose", "")),
        attempt=int(entry.data["attempt"]),
        started_at=entry.ts,
    )


def _note_interruption(found: list[PhaseReport]) -> None:
    if found and found[-1].state == "running":
        found[-1] = replace(found[-1], state="interrupted")


def _with_step(phase: PhaseReport, entry: Entry) -> PhaseReport:
    return replace(phase, steps=(*phase.steps, entry.data))


def _with_verdict(phase: PhaseReport, entry: Entry) -> PhaseReport:
    return replace(phase, verified=entry.data.get("ok") is True)


def _with_result(phase: PhaseReport, entry: Entry) -> PhaseReport:
    data = entry.data
    return replace(
        phase,
        state=str(data["status"]),
        ended_at=entry.ts,
        changed=bool(data.get("changed")),
        reason=str(data.get("reason", "")),
        observations=tuple(Observation.from_json(one) for one in data.get("observations", ())),
        findings=tuple(str(one) for one in data.get("findings", ())),
    )


_CHANGES = {
    Kind.STEP_END: _with_step,
    Kind.VERIFY: _with_verdict,
    Kind.PHASE_RESULT: _with_result,
}


def _phase_json(phase: PhaseReport, run: Run) -> dict[str, Any]:
    """A phase with its steps; each thing it looked at is a step as well."""
    return {
        "name": phase.name,
        "state": phase.state,
        "started_at": phase.started_at,
        "ended_at": phase.ended_at or None,
        "duration_ms": phase.duration_ms,
        "changed": phase.changed,
        "steps": [
            *(_step_json(step) for step in phase.steps),
            *(_look_json(one, phase, run) for one in phase.observations),
        ],
    }


def _step_json(step: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": step.get("name", ""),
        "kind": step.get("kind", ""),
        "host": step.get("host", ""),
        "status": step.get("status", ""),
        "changed": bool(step.get("changed")),
        "diff": step.get("diff", ""),
        "message": step.get("message", ""),
    }


def _look_json(seen: Observation, phase: PhaseReport, run: Run) -> dict[str, Any]:
    verifying = phase.name == "verify"
    return {
        "name": seen.name,
        "kind": "VERIFY" if verifying else "CHECK",
        "host": run.vantage if verifying else run.request.target,
        "status": "ok" if seen.ok else "failed",
        "changed": False,
        "diff": "",
        "message": f"expected {seen.expected}, found {seen.observed}",
    }

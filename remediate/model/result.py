"""What a phase brought back, as the executor reports it and the trail keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self


class Status(StrEnum):
    """How a phase ended; judged from per-host results, never from a return code."""

    OK = "ok"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    #: No host was acted on although one was named.
    NOTHING_MATCHED = "nothing_matched"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    #: The child vanished: what it did is not known.
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One task or operation as it ended on one host."""

    name: str
    host: str
    #: `ok`, `changed`, `failed`, `skipped` or `unreachable`.
    status: str
    changed: bool = False
    kind: str = ""
    message: str = ""
    diff: str = ""
    duration_ms: int = 0
    ignored: bool = False

    def as_json(self) -> dict[str, Any]:
        """The form the trail and `runs show` use."""
        return {
            "name": self.name,
            "kind": self.kind,
            "host": self.host,
            "status": self.status,
            "changed": self.changed,
            "diff": self.diff,
            "message": self.message,
            "duration_ms": self.duration_ms,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One thing that was looked at."""

    name: str
    expected: str
    observed: str
    ok: bool

    def as_json(self) -> dict[str, Any]:
        """The form the trail and `runs show` use."""
        return {"name": self.name, "expected": self.expected, "observed": self.observed, "ok": self.ok}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what a role or the trail gives; anything that is not plainly true is not ok."""
        return cls(
            name=str(data.get("name", "")),
            expected=str(data.get("expected", "")),
            observed=str(data.get("observed", "")),
            ok=data.get("ok") is True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseResult:
    """How one phase ended, and what the role handed back as `remediate_result`."""

    status: Status
    #: One sentence for people: why it ended so.
    reason: str = ""
    changed: bool = False
    #: Precheck only: nothing is wrong with the target.
    healthy: bool = False
    observations: tuple[Observation, ...] = ()
    findings: tuple[str, ...] = ()
    #: Snapshot only: what rollback and verification need to know of the state before.
    snapshot: Mapping[str, Any] = field(default_factory=dict)
    undo: tuple[str, ...] = ()
    #: Steps that ended, in order.
    steps: int = 0
    #: Milliseconds from the launch of the phase to its first task.
    first_task_ms: int = 0
    duration_ms: int = 0

    def as_json(self) -> dict[str, Any]:
        """The form the trail keeps."""
        return {
            "status": self.status.value,
            "reason": self.reason,
            "changed": self.changed,
            "healthy": self.healthy,
            "observations": [o.as_json() for o in self.observations],
            "findings": list(self.findings),
            "snapshot": dict(self.snapshot),
            "undo": list(self.undo),
            "steps": self.steps,
            "first_task_ms": self.first_task_ms,
            "duration_ms": self.duration_ms,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read a recorded result back."""
        return cls(
            status=Status(data["status"]),
            reason=str(data.get("reason", "")),
            changed=bool(data.get("changed")),
            healthy=bool(data.get("healthy")),
            observations=tuple(Observation.from_json(o) for o in data.get("observations", ())),
            findings=tuple(str(f) for f in data.get("findings", ())),
            snapshot=dict(data.get("snapshot", {})),
            undo=tuple(str(u) for u in data.get("undo", ())),
            steps=int(data.get("steps", 0)),
            first_task_ms=int(data.get("first_task_ms", 0)),
            duration_ms=int(data.get("duration_ms", 0)),
        )

"""What the audit trail holds: drafts handed in by the product, entries as they were recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

#: What an entry's data may be made of: no floats, integers below 2**53, string keys.
Json = None | bool | int | str | list["Json"] | dict[str, "Json"]


class Kind(StrEnum):
    """Every kind of entry there is; `docs/reference/audit-entries.md` says what each one holds."""

    LOG_CREATED = "log.created"
    SCHEMA_CHANGE = "schema.change"
    TRIGGER_RECEIVED = "trigger.received"
    TRIGGER_REJECTED = "trigger.rejected"
    DECISION = "decision"
    PLAN = "plan"
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_GRANTED = "approval.granted"
    APPROVAL_REJECTED = "approval.rejected"
    APPROVAL_EXPIRED = "approval.expired"
    RUN_START = "run.start"
    RUN_RESUMED = "run.resumed"
    PHASE_INTENT = "phase.intent"
    PHASE_RESULT = "phase.result"
    STEP_INTENT = "step.intent"
    STEP_END = "step.end"
    VERIFY = "verify"
    RUN_CANCEL_REQUESTED = "run.cancel_requested"
    RUN_END = "run.end"
    ESCALATION = "escalation"
    OPERATOR_COMMAND = "operator.command"
    CONFIG_CHANGE = "config.change"
    GUARD_OVERRIDE = "guard.override"
    OVERRIDE_REVIEWED = "guard.override_reviewed"
    KILL_SWITCH = "killswitch"
    KEY_ROTATE = "key.rotate"
    KEY_REVOKE = "key.revoke"
    CHECKPOINT_ANCHORED = "checkpoint.anchored"
    PRUNE = "prune"
    HEARTBEAT = "heartbeat"
    AUDIT_DEGRADED = "audit.degraded"
    AUDIT_RESTORED = "audit.restored"
    CLOCK_STEP = "clock.step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who caused an entry."""

    #: `operator`, `webhook`, `schedule`, `drill` or `system`.
    type: str
    #: Name of the token, or `uid:1000(alice)`.
    id: str
    #: How the identity was established: `token`, `uid`, `peer` (control socket) or `none`.
    auth: str = "none"
    #: Where from, e.g. `tty:/dev/pts/1 loginuid:1000`; empty when not known.
    src: str = ""

    def as_json(self) -> dict[str, Json]:
        """The form an entry holds."""
        return {"type": self.type, "id": self.id, "auth": self.auth, "src": self.src}


#: What the toolkit does by itself.
SYSTEM = Actor(type="system", id="remediate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An entry that is not recorded yet; the log adds sequence, chain, clock and node."""

    kind: Kind
    actor: Actor = SYSTEM
    #: Run (or, before there is one, the case) the entry belongs to; empty for the log's own.
    run_id: str = ""
    case_id: str = ""
    target: str = ""
    fault_code: str = ""
    data: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A recorded entry, with the very bytes that were hashed."""

    seq: int
    #: RFC 3339, UTC, microseconds.
    ts: str
    kind: Kind
    actor: Actor
    run_id: str
    case_id: str
    target: str
    fault_code: str
    data: Mapping[str, Any]
    #: RFC 6962 leaf hash (hex) of the previous entry's bytes; 64 zeros for the first.
    prev: str
    #: Canonical JSON as stored.
    body: bytes = field(repr=False)

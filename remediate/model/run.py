"""Requests, cases and runs, and the words for how they end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

from remediate.errors import ExitCode
from remediate.model.entry import Actor


class Outcome(StrEnum):
    """How a run or a case ended."""

    RECOVERED = "recovered"
    SELF_HEALED = "self_healed"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    DRY_RUN = "dry_run"
    CANCELLED = "cancelled"


#: The exit code that tells the shell how a run ended; `cancelled` did not do what was asked.
EXIT_CODES: Mapping[Outcome, ExitCode] = {
    Outcome.RECOVERED: ExitCode.OK,
    Outcome.SELF_HEALED: ExitCode.OK,
    Outcome.DRY_RUN: ExitCode.OK,
    Outcome.ROLLED_BACK: ExitCode.ROLLED_BACK,
    Outcome.FAILED: ExitCode.FAILED,
    Outcome.CANCELLED: ExitCode.FAILED,
    Outcome.REFUSED: ExitCode.REFUSED,
    Outcome.UNKNOWN: ExitCode.UNKNOWN,
}


class State(StrEnum):
    """Where a run is on its way; every arrow between two is an audit entry."""

    RECEIVED = "received"
    DECIDED = "decided"
    AWAITING_APPROVAL = "awaiting_approval"
    QUEUED = "queued"
    PRECHECK = "precheck"
    SNAPSHOT = "snapshot"
    APPLYING = "applying"
    VERIFYING = "verifying"
    ROLLING_BACK = "rolling_back"
    CLOSED = "closed"

    @property
    def under_way(self) -> bool:
        """Whether something is being decided or done, so that its end is near."""
        return self not in (State.AWAITING_APPROVAL, State.CLOSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A wish to run one plan on one target, from whichever door it came."""

    code: str
    target: str
    params: Mapping[str, Any] = field(default_factory=dict)
    actor: Actor
    #: `operator`, `webhook`, `schedule` or `drill`.
    trigger: str = "operator"
    reason: str = ""
    check: bool = False
    diff: bool = False
    break_glass: bool = False
    #: Raw alert or command, as received; handed to the playbook as a file, never as a variable.
    raw: str = "{}"
    #: Moments the trigger knows of, RFC 3339 or empty.
    fault_at: str = ""
    detected_at: str = ""

    def as_json(self) -> dict[str, Any]:
        """The form that travels between processes and into the operational tables."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read `as_json` back."""
        return cls(**{**data, "actor": Actor(**data["actor"])})


class Cause(StrEnum):
    """What, besides the outcome, the caller has to know of an end that was not wished for."""

    NONE = ""
    UNREACHABLE = "unreachable"
    STOPPED = "stopped"
    NOT_VERIFIED = "not_verified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of one plan on one target; also stands for its case while that waits."""

    id: str
    case_id: str
    request: Request
    plan: str = ""
    plan_hash: str = ""
    tier: str = ""
    risk: str = ""
    arming: str = ""
    state: State = State.RECEIVED
    outcome: Outcome | None = None
    cause: Cause = Cause.NONE
    reason: str = ""
    #: Further hosts the plan may change, exact and sorted.
    touches: tuple[str, ...] = ()
    #: Exact host (or `localhost`) from which recovery is looked at.
    vantage: str = "localhost"
    failure_domain: str = ""
    accepted_at: str = ""
    decided_at: str = ""
    started_at: str = ""
    restored_at: str = ""
    ended_at: str = ""
    #: The remedy was begun: something may have changed.
    acted: bool = False

    @property
    def closed(self) -> bool:
        """Whether nothing more will happen."""
        return self.state is State.CLOSED

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host the run may change, in the order in which their locks are taken."""
        return tuple(sorted({self.request.target, *self.touches}))

    @property
    def exit_code(self) -> ExitCode:
        """What the shell is told about the run as it stands."""
        if self.state is State.AWAITING_APPROVAL:
            return ExitCode.AWAITING_APPROVAL
        if self.outcome is None:
            return ExitCode.UNKNOWN
        if self.outcome is Outcome.FAILED and self.cause is Cause.UNREACHABLE:
            return ExitCode.UNREACHABLE
        return EXIT_CODES[self.outcome]

    def as_json(self) -> dict[str, Any]:
        """The form of the operational tables and the control socket."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read `as_json` back."""
        return cls(
            **{
                **data,
                "request": Request.from_json(data["request"]),
                "state": State(data["state"]),
                "outcome": None if data["outcome"] is None else Outcome(data["outcome"]),
                "cause": Cause(data["cause"]),
                "touches": tuple(data["touches"]),
            }
        )

"""What the flow needs from the outside, as Protocols; `app.py` brings the real ones.

Each has a fake in `remediate.testing`, and a contract suite that runs over both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from remediate.model.entry import Draft, Entry, Kind
from remediate.model.plan import Phase, Plan, VerifySpec
from remediate.model.result import Observation, PhaseResult, Step
from remediate.model.run import Outcome, Run, State

T = TypeVar("T")


class Clock(Protocol):
    """Time, so that tests can say what time it is."""

    def now(self) -> datetime:
        """Wall clock, UTC, aware."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go backwards within a boot."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Secrets(Protocol):
    """Where secret values come from."""

    def get(self, name: str) -> str | None:
        """The value of a secret, or None when there is none of that name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseOrder:
    """Everything a child needs to carry out one phase of one run."""

    run_id: str
    phase: Phase
    attempt: int
    #: Absolute path of the playbook.
    playbook: Path
    #: Absolute path of the inventory (file or folder).
    inventory: Path
    target: str
    #: Hosts that may be acted on or delegated to: target, touches, vantage.
    allowed: tuple[str, ...]
    #: Plan parameters under their Ansible names; plain str, int, bool or list of str.
    variables: Mapping[str, Any] = field(default_factory=dict)
    #: `REMEDIATE_SECRET_<NAME>` -> value, for the environment of the phase only.
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: Run-scoped directory on this machine, 0700, deleted when the run is closed.
    run_dir: Path
    timeout: int
    check: bool = False
    diff: bool = False
    #: A playbook without phases; it is not asked for `remediate_result`.
    foreign: bool = False


#: Called for each step that ended, from the thread that called `carry_out`.
StepSink = Callable[[Step], None]
#: Polled while a phase runs; a sentence stops it before its next task, None lets it go on.
StopCheck = Callable[[], str | None]


class Session(Protocol):
    """One supervised child; it lives as long as its run."""

    def carry_out(self, order: PhaseOrder, *, on_step: StepSink, should_stop: StopCheck) -> PhaseResult:
        """Run one phase and say how it ended.

        A child that vanishes gives `Status.LOST`, a time-out `TIMED_OUT`, a stop `CANCELLED`.
        """
        ...


class Executor(Protocol):
    """Opens supervised children."""

    def open(self, run: Run, *, lock_fds: Sequence[int]) -> AbstractContextManager[Session]:
        """A child that inherits the lock descriptors, so that an orphan keeps its target locked."""
        ...


class Probe(Protocol):
    """Looks at a target from somewhere else than where it was changed."""

    def look(self, spec: VerifySpec, *, address: str, timeout: float) -> Observation:
        """One sample; an error of the probe itself is an observation that is not ok."""
        ...


class Transaction(Protocol):
    """Entries and operational rows that become durable together, or not at all."""

    def append(self, draft: Draft) -> Entry:
        """Record an entry."""
        ...

    def put_run(self, run: Run) -> None:
        """Insert or replace a run's row."""
        ...

    def run(self, run_id: str) -> Run | None:
        """A run as this transaction sees it."""
        ...

    def set_flag(self, scope: str, key: str, value: str) -> None:
        """Set a durable flag (`cancel`, `arming`, `outbox`, `review`...); empty value removes it."""
        ...

    def flag(self, scope: str, key: str) -> str:
        """A durable flag's value, or the empty string."""
        ...


class Ledger(Protocol):
    """The trail and the operational state that is committed with it."""

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Do `work` in one transaction; returns when it is durable, else raises AuditUnavailable."""
        ...

    def append(self, *drafts: Draft) -> tuple[Entry, ...]:
        """Record entries; durable when it returns."""
        ...

    def entries(
        self,
        *,
        run_id: str | None = None,
        case_id: str | None = None,
        kinds: Sequence[Kind] = (),
        since: int = 0,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Sequence[Entry]:
        """Recorded entries from `since` (a sequence number) on."""
        ...

    def run(self, run_id: str) -> Run | None:
        """One run."""
        ...

    def runs(
        self,
        *,
        open_only: bool = False,
        code: str | None = None,
        target: str | None = None,
        since: str = "",
        limit: int | None = None,
    ) -> Sequence[Run]:
        """Runs, newest first; `since` compares with `accepted_at`."""
        ...

    def flag(self, scope: str, key: str) -> str:
        """A durable flag's value, or the empty string."""
        ...

    def flags(self, scope: str) -> Mapping[str, str]:
        """All durable flags of a scope."""
        ...

    def checkpoint(self, reason: str) -> object:
        """Sign the head of the log and hand it to the anchors."""
        ...


class Catalog(Protocol):
    """The plans there are."""

    def plan(self, code: str) -> Plan:
        """The plan for a fault code; UsageError with the nearest code when there is none."""
        ...

    def plans(self) -> Sequence[Plan]:
        """Every plan, by code."""
        ...

    def playbook(self, plan: Plan) -> Path:
        """Absolute path of a plan's playbook."""
        ...

    def check_playbook(self, plan: Plan) -> Path:
        """Absolute path of the playbook that proves a foreign plan whose probe is `playbook`."""
        ...


class Engine(Protocol):
    """Schedules runs durably; what to do comes from `dispatch`."""

    def start(self, run_id: str) -> None:
        """Begin, or go on with, a recorded run; one that waits is judged again.

        Calling it again for a living one changes nothing.
        """
        ...

    def failure(self, run_id: str) -> BaseException | None:
        """What stopped the work on a run that is still open, if anything did."""
        ...

    def close(self) -> None:
        """Take no more work; what is under way is taken up by the next worker."""
        ...


class Inventory(Protocol):
    """The one inventory, as data."""

    @property
    def path(self) -> Path:
        """Where Ansible reads it."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of its content."""
        ...

    def hosts(self) -> Sequence[str]:
        """Exact host names."""
        ...

    def groups_of(self, host: str) -> Sequence[str]:
        """Groups a host belongs to, with parents."""
        ...

    def members(self, group: str) -> Sequence[str]:
        """Hosts of a group."""
        ...

    def variables(self, host: str) -> Mapping[str, Any]:
        """A host's variables."""
        ...


class Work(Protocol):
    """What an engine schedules; `remediate.dispatch.Dispatcher` is one."""

    def decide(self, run_id: str) -> State:
        """Judge a recorded request; the state it is in afterwards."""
        ...

    def drive(self, run_id: str) -> Outcome:
        """Carry a decided run to its end from wherever it stands."""
        ...

    def run(self, run_id: str) -> Run:
        """The run as recorded."""
        ...

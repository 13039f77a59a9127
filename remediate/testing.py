"""Public fakes, one per port, and builders; for our own tests and for those of a site's plans.

Every fake passes the same contract suite as the real thing (`tests/contract`).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from remediate.errors import AuditUnavailable, UsageError
from remediate.model.entry import Actor, Draft, Entry, Kind
from remediate.model.plan import (
    Arming,
    GuardSpec,
    Phase,
    PhaseSpec,
    Plan,
    Risk,
    Tier,
    Title,
    VerifySpec,
)
from remediate.model.result import Observation, PhaseResult, Status, Step
from remediate.model.run import Request, Run
from remediate.ports import PhaseOrder, Session, StepSink, StopCheck, Transaction, Work

T = TypeVar("T")

#: Who asks in a test, unless it says otherwise.
ALICE = Actor(type="operator", id="alice", auth="token")


# --- fakes ---------------------------------------------------------------------------------------------


class FakeClock:
    """A clock that moves only when it is told to, or when somebody sleeps on it."""

    def __init__(self, start: datetime = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 0

    def now(self) -> datetime:
        """The moment it was set to."""
        return self._now

    def monotonic_ns(self) -> int:
        """Nanoseconds that were slept or advanced so far."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Advance without waiting."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += round(seconds * 1e9)


@dataclass
class FakeSecrets:
    """Secrets from a mapping."""

    values: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """The value of that name."""
        return self.values.get(name)


class MemoryLedger:
    """The trail and the operational state in memory; `fail()` makes every write impossible."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self._clock = clock or FakeClock()
        self._entries: list[Entry] = []
        self._runs: dict[str, Run] = {}
        self._flags: dict[tuple[str, str], str] = {}
        self._lock = threading.RLock()
        self._broken = ""
        #: Reasons for which a checkpoint was asked for.
        self.checkpoints: list[str] = []

    def fail(self, why: str = "no space left on device") -> None:
        """From now on nothing can be recorded."""
        self._broken = why

    def mend(self) -> None:
        """Recording works again."""
        self._broken = ""

    def write(self, work: Callable[[Transaction], T]) -> T:
        """All of `work`, or nothing of it."""
        with self._lock:
            if self._broken:
                raise AuditUnavailable(f"the audit trail cannot be written: {self._broken}")
            before = (list(self._entries), dict(self._runs), dict(self._flags))
            try:
                return work(_MemoryTransaction(self))
            except BaseException:
                self._entries, self._runs, self._flags = before
                raise

    def append(self, *drafts: Draft) -> tuple[Entry, ...]:
        """Record entries."""
        return self.write(lambda tx: tuple([tx.append(draft) for draft in drafts]))

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
        """Recorded entries from `since` on."""
        found = [
            entry
            for entry in self._entries
            if entry.seq >= since
            and (run_id is None or entry.run_id == run_id)
            and (case_id is None or entry.case_id == case_id)
            and (not kinds or entry.kind in kinds)
        ]
        return (found[::-1] if newest_first else found)[:limit]

    def run(self, run_id: str) -> Run | None:
        """One run."""
        return self._runs.get(run_id)

    def runs(
        self,
        *,
        open_only: bool = False,
        code: str | None = None,
        target: str | None = None,
        since: str = "",
        limit: int | None = None,
    ) -> Sequence[Run]:
        """Runs, newest first."""
        found = [
            run
            for run in self._runs.values()
            if not (open_only and run.closed)
            and (code is None or run.request.code == code)
            and (target is None or run.request.target == target)
            and run.accepted_at >= since
        ]
        return sorted(found, key=lambda run: (run.accepted_at, run.id), reverse=True)[:limit]

    def flag(self, scope: str, key: str) -> str:
        """A flag's value, or the empty string."""
        return self._flags.get((scope, key), "")

    def flags(self, scope: str) -> Mapping[str, str]:
        """All flags of a scope."""
        return {key: value for (of, key), value in sorted(self._flags.items()) if of == scope}

    def checkpoint(self, reason: str) -> object:
        """Note that one was asked for."""
        self.checkpoints.append(reason)
        return reason


class _MemoryTransaction:
    """What `MemoryLedger.write` hands out."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger

    def append(self, draft: Draft) -> Entry:
        ledger = self._ledger
        body = json.dumps(
            {"seq": len(ledger._entries), "kind": draft.kind, "data": dict(draft.data)}
        ).encode()
        last = ledger._entries[-1].body if ledger._entries else None
        entry = Entry(
            seq=len(ledger._entries),
            ts=ledger._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            kind=draft.kind,
            actor=draft.actor,
            run_id=draft.run_id,
            case_id=draft.case_id,
            target=draft.target,
            fault_code=draft.fault_code,
            data=json.loads(json.dumps(dict(draft.data))),
            prev="0" * 64 if last is None else hashlib.sha256(last).hexdigest(),
            body=body,
        )
        ledger._entries.append(entry)
        return entry

    def put_run(self, run: Run) -> None:
        self._ledger._runs[run.id] = run

    def run(self, run_id: str) -> Run | None:
        return self._ledger._runs.get(run_id)

    def set_flag(self, scope: str, key: str, value: str) -> None:
        if value:
            self._ledger._flags[scope, key] = value
        else:
            self._ledger._flags.pop((scope, key), None)

    def flag(self, scope: str, key: str) -> str:
        return self._ledger.flag(scope, key)


#: What a fake executor does for one phase: a result, or a function of the order that gives one.
Script = PhaseResult | Callable[[PhaseOrder], PhaseResult]


class FakeExecutor:
    """Answers each phase from a script and remembers what it was asked to do.

    Without a script a phase succeeds the way a remedy that helps does: the precheck finds the target
    unhealthy, apply changes something, verify observes that all is well.
    """

    def __init__(self, script: Mapping[Phase, Script | Sequence[Script]] | None = None) -> None:
        self.orders: list[PhaseOrder] = []
        self.open_sessions = 0
        self._script = {
            phase: list(answers) if isinstance(answers, Sequence) else [answers]
            for phase, answers in {**HELPS, **(script or {})}.items()
        }

    def answers(self, phase: Phase, *script: Script) -> None:
        """Change what it does for a phase from now on."""
        self._script[phase] = list(script)

    @property
    def phases(self) -> list[Phase]:
        """The phases it carried out, in order."""
        return [order.phase for order in self.orders]

    @contextmanager
    def open(self, run: Run, *, lock_fds: Sequence[int]) -> Iterator[Session]:  # noqa: ARG002 - the port's
        """A session that answers from the script."""
        self.open_sessions += 1
        try:
            yield self
        finally:
            self.open_sessions -= 1

    def carry_out(self, order: PhaseOrder, *, on_step: StepSink, should_stop: StopCheck) -> PhaseResult:
        """The next answer of the script for this phase; the last one repeats."""
        if stopped := should_stop():
            return PhaseResult(status=Status.CANCELLED, reason=stopped)
        self.orders.append(order)
        answers = self._script[order.phase]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        result = answer(order) if callable(answer) else answer
        if result.steps:
            on_step(
                Step(name=f"{order.phase} | Do", host=order.target, status="changed", changed=result.changed)
            )
        return result


@dataclass
class FakeProbe:
    """A probe that sees what it is told to."""

    ok: bool = True

    def look(self, spec: VerifySpec, *, address: str, timeout: float) -> Observation:  # noqa: ARG002 - the port's
        """One sample."""
        return Observation(name=spec.probe, expected="healthy", observed=str(self.ok), ok=self.ok)


@dataclass(frozen=True)
class FakeInventory:
    """Hosts with their groups and variables."""

    groups: Mapping[str, Sequence[str]]
    host_variables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    path: Path = Path("/nowhere/hosts.yml")
    digest: str = "0" * 64

    def hosts(self) -> Sequence[str]:
        """Exact host names."""
        return sorted({host for members in self.groups.values() for host in members})

    def groups_of(self, host: str) -> Sequence[str]:
        """Groups a host belongs to."""
        return sorted(group for group, members in self.groups.items() if host in members)

    def members(self, group: str) -> Sequence[str]:
        """Hosts of a group."""
        return sorted(self.groups.get(group, ()))

    def variables(self, host: str) -> Mapping[str, Any]:
        """A host's variables."""
        return self.host_variables.get(host, {})


class FakeCatalog:
    """The plans it was given."""

    def __init__(self, *plans: Plan) -> None:
        self._plans = {plan.code: plan for plan in plans}

    def plan(self, code: str) -> Plan:
        """The plan of that code."""
        if code not in self._plans:
            raise UsageError(f"no plan for fault code {code!r}")
        return self._plans[code]

    def plans(self) -> Sequence[Plan]:
        """Every plan."""
        return [self._plans[code] for code in sorted(self._plans)]

    def playbook(self, plan: Plan) -> Path:
        """A path nobody opens."""
        return Path(f"/nowhere/playbooks/{plan.playbook}.yml")

    def check_playbook(self, plan: Plan) -> Path:
        """Another path nobody opens."""
        return Path(f"/nowhere/playbooks/{plan.verify.address}")


class InlineEngine:
    """Decides and drives in the caller's thread, as soon as it is told to start."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._failures: dict[str, BaseException] = {}

    def start(self, run_id: str) -> None:
        """Begin, or go on with, a recorded run."""
        run = self._work.run(run_id)
        if run.closed:
            return
        try:
            state = self._work.decide(run_id)
            if state.under_way:
                self._work.drive(run_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody asks for it with `failure`
            self._failures[run_id] = error

    def failure(self, run_id: str) -> BaseException | None:
        """What stopped the work on a run."""
        return self._failures.get(run_id)

    def close(self) -> None:
        """Nothing is under way."""


# --- builders ------------------------------------------------------------------------------------------


def seen(ok: bool, count: int = 3) -> tuple[Observation, ...]:
    """As many equal observations as a verification wants."""
    return tuple(
        Observation(name=f"sample {n}", expected="healthy", observed="healthy" if ok else "faulty", ok=ok)
        for n in range(1, count + 1)
    )


#: The answers of a remedy that helps.
HELPS: Mapping[Phase, Script] = {
    Phase.PRECHECK: PhaseResult(status=Status.OK, observations=seen(False)),
    Phase.SNAPSHOT: PhaseResult(status=Status.OK, snapshot={"epoch": 1}),
    Phase.APPLY: PhaseResult(status=Status.OK, changed=True, steps=1, undo=("epoch",)),
    Phase.VERIFY: PhaseResult(status=Status.OK, observations=seen(True)),
    Phase.ROLLBACK: PhaseResult(status=Status.OK, changed=True, steps=1),
}


def a_plan(**changes: Any) -> Plan:
    """The plan of the tests: all five phases, R2, on hosts of group `identity`."""
    phase = PhaseSpec(timeout=20, idempotent=True)
    return Plan(
        **{
            "code": "SEC-SESS-STALE",
            "slug": "session_token_reset",
            "title": Title(en="Session-token reset", zh="重置会话令牌"),
            "layer": "application",
            "groups": ("identity",),
            "parameters": (),
            "tier": Tier.L1,
            "risk": Risk.R2,
            "arming": Arming.APPROVE,
            "playbook": "session_token_reset",
            "phases": {p: phase for p in Phase if p is not Phase.CLOSE},
            "verify": VerifySpec(probe="playbook", vantage="observers"),
            "guards": GuardSpec(),
            "digest": "1" * 64,
            **changes,
        }
    )


def a_request(**changes: Any) -> Request:
    """Alice's wish to run the tests' plan on `iam1`."""
    return Request(**{"code": "SEC-SESS-STALE", "target": "iam1", "actor": ALICE, **changes})

"""The flow of one request, as a table of contents.

    accept   durable before it is acknowledged
    decide   guards -> run, wait for approval, or refuse
    drive    locks -> (precheck -> snapshot -> apply -> verify -> rollback) -> close

`decide` and `drive` may be called again at any moment, also after a crash: they read what is
recorded and go on from there. The engine only schedules them.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from remediate.crashpoints import CrashPoint, crash_point
from remediate.flow import closing, decision, intake, locks, recovery
from remediate.flow.context import Parts, phase_context
from remediate.flow.phases import perform
from remediate.flow.record import RunRecord
from remediate.guard.locks import LockWaitStopped
from remediate.model.driver import Circumstances, Close, next_move
from remediate.model.entry import Kind
from remediate.model.guard import GuardVerdict
from remediate.model.run import Outcome, Request, Run, State


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """Takes a request from intake to a verified, recorded outcome."""

    parts: Parts

    def accept(self, request: Request) -> Run:
        """Make a request durable; raises UsageError when it cannot be understood."""
        run = intake.accept(
            request,
            ledger=self.parts.ledger,
            catalog=self.parts.catalog,
            inventory=self.parts.inventory,
            clock=self.parts.clock,
        )
        crash_point(CrashPoint.INTAKE_RECORDED)
        return run

    def explain(self, request: Request) -> tuple[GuardVerdict, ...]:
        """Every guard's input and verdict on a request; nothing is recorded and nothing runs."""
        return decision.explain(self.parts, request)

    def decide(self, run_id: str) -> State:
        """Judge a recorded request; the state it is in afterwards."""
        run = decision.judge(self.parts, self.parts.run(run_id))
        crash_point(CrashPoint.DECISION_RECORDED)
        return run.state

    def drive(self, run_id: str) -> Outcome:
        """Carry a decided run from wherever it stands to its end."""
        run = self.parts.run(run_id)
        if run.outcome is not None:
            return run.outcome
        record = RunRecord(run, ledger=self.parts.ledger, journal=self.parts.journal, clock=self.parts.clock)
        with ExitStack() as held:
            try:
                descriptors = locks.hold(self.parts, run, held)
            except LockWaitStopped as stopped:
                return closing.close(self.parts, record, locks.stopped_waiting(record, stopped))
            crash_point(CrashPoint.LOCKS_HELD)
            end = self._refused_late(record) or self._play(record, descriptors)
            return closing.close(self.parts, record, end)

    def run(self, run_id: str) -> Run:
        """The run as recorded."""
        return self.parts.run(run_id)

    def due(self) -> tuple[str, ...]:
        """Runs that wait for a person and have to be judged again: somebody decided, or the time is over."""
        waiting = self.parts.ledger.runs(open_only=True)
        return tuple(run.id for run in waiting if decision.is_due(self.parts, run))

    def recover(self) -> recovery.Recovered:
        """Take up what a crash left: merge the emergency journal, list runs that must go on."""
        return recovery.recover(self.parts)

    def _refused_late(self, record: RunRecord) -> Close | None:
        """What changed while the run waited for its turn, as long as it has not begun."""
        if record.has(Kind.RUN_START):
            return None
        return decision.still_allowed(self.parts, record.run)

    def _play(self, record: RunRecord, descriptors: tuple[int, ...]) -> Close:
        """Play move after move until the driver says how it ends."""
        context, stack = phase_context(self.parts, record, descriptors)
        with stack:
            closing.note_start(record)
            crash_point(CrashPoint.RUN_STARTED)
            while True:
                move = next_move(
                    context.plan,
                    record.attempts,
                    Circumstances(
                        check=record.run.request.check,
                        stop=context.halted() or context.cancelled() or "",
                        degraded=record.degraded,
                    ),
                )
                if isinstance(move, Close):
                    return move
                perform(context, move)

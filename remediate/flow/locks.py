"""One run per device and per failure domain, held for as long as the run or its orphan lives."""

from __future__ import annotations

from contextlib import ExitStack

from remediate.flow.context import Parts
from remediate.flow.record import RunRecord
from remediate.guard.locks import LockWaitStopped
from remediate.model.driver import Close
from remediate.model.run import Cause, Outcome, Run

#: Seconds a run waits for its turn; longer than any plan's deadline, so it ends only with a hung peer.
LONGEST_WAIT = 3600.0


def hold(parts: Parts, run: Run, stack: ExitStack) -> tuple[int, ...]:
    """Lock the run's hosts and its failure domain; the descriptors are for its child to inherit.

    Raises LockWaitStopped when somebody stopped the run while it waited.
    """
    held = parts.locks.hold(
        run.hosts,
        run.failure_domain,
        run_id=run.id,
        should_stop=lambda: parts.halted() or parts.cancelled(run.id),
        wait=LONGEST_WAIT,
    )
    return tuple(stack.enter_context(held))


def stopped_waiting(record: RunRecord, stopped: LockWaitStopped) -> Close:
    """How a run ends that was stopped while it waited for its locks."""
    if record.run.acted:
        return Close(
            outcome=Outcome.UNKNOWN,
            reason=f"{stopped}; an earlier worker had begun to act: look at the target yourself",
            cause=Cause.STOPPED,
            escalate=True,
        )
    return Close(outcome=Outcome.CANCELLED, reason=f"{stopped}; nothing was changed", cause=Cause.STOPPED)

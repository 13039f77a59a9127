"""One run per device and per failure domain, held for as long as the run or its orphan lives."""

from __future__ import annotations

from contextlib import ExitStack

from remediate.flow.context import Parts
from remediate.model.run import Run

#: Seconds a run waits for its turn; longer than any plan's deadline, so it ends only with a hung peer.
_LONGEST_WAIT = 3600.0


def hold(parts: Parts, run: Run, stack: ExitStack) -> tuple[int, ...]:
    """Lock the run's hosts and its failure domain; the descriptors are for its child to inherit."""
    held = parts.locks.hold(
        run.hosts,
        run.failure_domain,
        run_id=run.id,
        should_stop=lambda: parts.halted() or parts.cancelled(run.id),
        wait=_LONGEST_WAIT,
    )
    return tuple(stack.enter_context(held))

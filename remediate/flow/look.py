"""Native probes: samples taken by this process, which never made the change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from remediate.flow.phases import Look
from remediate.model.plan import Plan
from remediate.model.result import Observation, PhaseResult, Status
from remediate.model.run import Run
from remediate.ports import Clock, Inventory, Probe, StopCheck
from remediate.probes import render_address, sample


def looker(
    probe_for: Callable[[str], Probe], plan: Plan, run: Run, inventory: Inventory, clock: Clock
) -> Look:
    """A function that takes the plan's samples of the run's target and says what they show."""

    def look(should_stop: StopCheck) -> PhaseResult:
        started = clock.monotonic_ns()
        address = render_address(
            plan.verify.address, run.request.target, inventory.variables(run.request.target)
        )
        ok, observations = sample(probe_for(plan.verify.probe), plan.verify, address, clock, should_stop)
        stopped = should_stop()
        return PhaseResult(
            status=Status.CANCELLED if stopped else Status.OK,
            reason=stopped or _reason(plan, ok, observations),
            healthy=ok,
            observations=tuple(observations),
            duration_ms=(clock.monotonic_ns() - started) // 1_000_000,
        )

    return look


def _reason(plan: Plan, ok: bool, observations: Sequence[Observation]) -> str:
    if ok:
        return f"the {plan.verify.probe} probe finds the target healthy"
    bad = [o for o in observations if not o.ok]
    what = f": {bad[-1].name}: expected {bad[-1].expected}, found {bad[-1].observed}" if bad else ""
    return f"the {plan.verify.probe} probe does not find the target healthy{what}"

"""Several looks, because one good answer of a service that comes and goes proves nothing."""

from __future__ import annotations

from remediate.model.plan import VerifySpec
from remediate.model.result import Observation
from remediate.ports import Clock, Probe, StopCheck
from remediate.probes.address import shown

_NS = 1_000_000_000
#: How long a wait between two samples goes on before it is asked whether to stop.
_SLICE_SECONDS = 0.25
#: A sample is not begun with less time than this: it could only fail.
_SHORTEST_LOOK = 0.05


def sample(
    probe: Probe, spec: VerifySpec, address: str, clock: Clock, should_stop: StopCheck
) -> tuple[bool, tuple[Observation, ...]]:
    """Whether at least `min_ok` of `samples` looks were good, and what each of them saw.

    All of it ends within `spec.timeout`: what is left is shared among the looks that are left, and a
    look for which no time is left is not ok. At least one look must have been good, whatever the plan says.
    """
    deadline = clock.monotonic_ns() + spec.timeout * _NS
    seen: list[Observation] = []
    for number in range(spec.samples):
        stopped = should_stop() or (_pause(spec.interval, clock, should_stop) if number else None)
        if stopped:
            seen.append(_not_looked(spec, address, f"stopped: {stopped}"))
            return False, tuple(seen)
        left = spec.samples - number
        share = ((deadline - clock.monotonic_ns()) / _NS - spec.interval * (left - 1)) / left
        if share < _SHORTEST_LOOK:
            seen.append(_not_looked(spec, address, f"the {spec.timeout} s for verification are used up"))
            break
        seen.append(probe.look(spec, address=address, timeout=share))
    good = sum(observation.ok for observation in seen)
    return good >= max(1, spec.min_ok), tuple(seen)


def _pause(seconds: float, clock: Clock, should_stop: StopCheck) -> str | None:
    """Wait between two samples; a reason to stop ends it early."""
    until = clock.monotonic_ns() + int(seconds * _NS)
    while (left := (until - clock.monotonic_ns()) / _NS) > 0:
        if stopped := should_stop():
            return stopped
        clock.sleep(min(left, _SLICE_SECONDS))
    return should_stop()


def _not_looked(spec: VerifySpec, address: str, why: str) -> Observation:
    return Observation(name=f"{spec.probe} {shown(address)}", expected="a sample", observed=why, ok=False)

"""Several looks, with a clock that only moves when told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediate.errors import UsageError
from remediate.model.plan import VerifySpec
from remediate.model.result import Observation
from remediate.probes import PROBES, probe_for, sample


class StillClock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.ns = 0

    def now(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(microseconds=self.ns // 1000)

    def monotonic_ns(self) -> int:
        return self.ns

    def sleep(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


class ScriptedProbe:
    """Sees what the script says; each look takes `takes` seconds."""

    def __init__(self, clock: StillClock, script: list[bool], takes: float = 0.0) -> None:
        self.clock, self.script, self.takes = clock, script, takes
        self.looked_at: list[float] = []
        self.allowed: list[float] = []

    def look(self, spec: VerifySpec, *, address: str, timeout: float) -> Observation:
        self.looked_at.append(self.clock.ns / 1e9)
        self.allowed.append(timeout)
        self.clock.sleep(self.takes)
        ok = self.script[len(self.looked_at) - 1]
        return Observation(name="scripted", expected="yes", observed="yes" if ok else "no", ok=ok)


def spec(**changes: int) -> VerifySpec:
    return VerifySpec(**({"probe": "tcp", "samples": 3, "min_ok": 2, "interval": 5, "timeout": 60} | changes))


def take(script: list[bool], takes: float = 0.0, stop=lambda: None, **changes: int):
    clock = StillClock()
    probe = ScriptedProbe(clock, script, takes)
    ok, seen = sample(probe, spec(**changes), "h:1", clock, stop)
    return ok, seen, probe, clock


@pytest.mark.parametrize(
    ("script", "ok"),
    [
        ([True, True, True], True),
        ([True, False, True], True),
        ([True, False, False], False),
        ([False, False, False], False),
    ],
)
def test_enough_good_looks_are_needed(script: list[bool], ok: bool) -> None:
    found, seen, _, _ = take(script)

    assert found is ok
    assert [o.ok for o in seen] == script


def test_looks_are_an_interval_apart() -> None:
    _, _, probe, _ = take([True, True, True])

    assert probe.looked_at == [0, 5, 10]


def test_a_service_that_needs_three_good_looks_is_not_well_after_two() -> None:
    assert take([True, True, False], min_ok=3)[0] is False


@pytest.mark.parametrize("changes", [{"samples": 0}, {"min_ok": 0, "samples": 0}, {"min_ok": 4}])
def test_a_plan_that_asks_for_nothing_proves_nothing(changes: dict[str, int]) -> None:
    assert take([True, True, True], **changes)[0] is False


def test_without_one_good_look_nothing_is_proved() -> None:
    assert take([False, False, False], min_ok=0)[0] is False


def test_the_time_is_shared_among_the_looks() -> None:
    _, _, probe, _ = take([True, True, True], takes=1.0, timeout=40)

    assert probe.allowed == pytest.approx([10.0, 14.5, 28.0])


def test_a_look_for_which_no_time_is_left_is_not_ok() -> None:
    ok, seen, probe, clock = take([True, True, True], takes=9.0, timeout=12, min_ok=2)

    assert ok is False
    assert len(probe.looked_at) == 1
    assert "used up" in seen[-1].observed
    assert clock.ns / 1e9 <= 15


def test_a_stop_ends_the_wait_between_two_looks() -> None:
    asked = iter([None, None, None, "cancelled by alice"])

    ok, seen, probe, clock = take([True, True, True], stop=lambda: next(asked))

    assert ok is False
    assert seen[-1].observed == "stopped: cancelled by alice"
    assert len(probe.looked_at) == 1
    assert clock.ns / 1e9 < 1


def test_a_stop_comes_before_the_first_look() -> None:
    ok, seen, probe, _ = take([True], stop=lambda: "kill switch")

    assert (ok, probe.looked_at, seen[0].ok) == (False, [], False)


def test_a_probe_is_found_by_its_name() -> None:
    assert set(PROBES) == {"http", "tcp", "ping", "segment"}
    with pytest.raises(UsageError, match="no probe 'telepathy'; there are http, ping, segment, tcp"):
        probe_for("telepathy")

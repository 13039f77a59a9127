"""kill -9 at every boundary of a run and at random moments: nothing is lost, nothing overlaps."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter

import pytest

from remediate.crashpoints import CrashPoint
from remediate.model.run import Outcome
from tests.reliability.world import World

#: Points that a run which helps does not pass in `rollback`; these need the phase they are tried in.
POINTS = [
    *(
        f"{point}"
        for point in CrashPoint
        if point not in (CrashPoint.INTENT_RECORDED, CrashPoint.RESULT_RECORDED)
    ),
    *(f"{CrashPoint.INTENT_RECORDED}:{phase}" for phase in ("precheck", "snapshot", "apply", "verify")),
    *(f"{CrashPoint.RESULT_RECORDED}:{phase}" for phase in ("precheck", "snapshot", "apply", "verify")),
]
FAILING_POINTS = [
    f"{point}:rollback"
    for point in (CrashPoint.INTENT_RECORDED, CrashPoint.ACT_DONE, CrashPoint.RESULT_RECORDED)
]


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_at_a_boundary_is_followed_by_one_that_ends_its_run(tmp_path, point):
    world = World(tmp_path / "world")

    assert world.start("h1", crash_at=point).wait(timeout=120) == -signal.SIGKILL, world.log()
    world.settle()

    assert sum(world.check().values()) == 1
    assert world.runs()[0].outcome in (Outcome.RECOVERED, Outcome.SELF_HEALED)
    print(f"COUNT kill -9 at {point}: 1 run, 0 lost, 0 overlaps")


@pytest.mark.parametrize("point", FAILING_POINTS)
def test_a_worker_killed_on_the_way_back_is_followed_by_one_that_ends_it(tmp_path, point):
    world = World(tmp_path / "world", helps=False)

    assert world.start("h1", crash_at=point).wait(timeout=120) == -signal.SIGKILL, world.log()
    world.settle()

    assert world.check() == {"rolled_back": 1}
    print(f"COUNT kill -9 at {point}: 1 run, 0 lost, 0 overlaps")


def test_kills_at_random_lose_nothing_and_let_nothing_overlap(tmp_path, full_count):
    kills = 300 if full_count else 30
    chance = random.Random(20260301)
    world = World(tmp_path / "world", hosts=3)

    for n in range(kills):
        host = f"h{n % 3 + 1}"
        (world.folder / host / "state").write_text("broken")  # so that there is something to do
        worker = world.start(host)
        time.sleep(chance.uniform(0.3, 6.0))
        worker.send_signal(signal.SIGKILL)
        worker.wait(timeout=30)
        if n % 5 == 4:
            world.settle()
    world.settle()

    outcomes = Counter(run.outcome.value for run in world.runs() if run.outcome)
    world.verified()
    assert not list(world.folder.glob("*/overlaps"))
    assert all(run.closed for run in world.runs())
    assert world.acknowledged() <= {run.id for run in world.runs()}
    print(
        f"COUNT kill -9 at random: {kills} kills, {len(world.runs())} accepted runs, "
        f"all terminal {dict(outcomes)}, 0 lost, 0 overlaps"
    )

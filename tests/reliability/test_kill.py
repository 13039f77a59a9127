"""kill -9 at every boundary of a run and at random moments: nothing is lost, nothing overlaps."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from remediate.app import open_reader
from remediate.audit.verify import verify
from remediate.config import Settings, load_settings
from remediate.crashpoints import CrashPoint
from remediate.model.run import Outcome, Run

ROOT = Path(__file__).parents[2]
CONTENT = ROOT / "tests" / "data" / "proof"
CLIENT = Path(__file__).with_name("client.py")
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


class World:
    """A broken folder, the host that can mend it, and the worker's state directory."""

    def __init__(self, folder: Path, *, helps: bool = True, hosts: int = 1) -> None:
        self.folder = folder
        folder.mkdir()
        inventory = {"victims": {"hosts": {}, "vars": {"ansible_connection": "local"}}}
        for n in range(1, hosts + 1):
            world = folder / f"h{n}"
            world.mkdir()
            (world / "state").write_text("broken")
            inventory["victims"]["hosts"][f"h{n}"] = {
                "kill_proof_world": str(world),
                "kill_proof_helps": helps,
            }
        (folder / "hosts.json").write_text(json.dumps(inventory))
        (folder / "remediate.toml").write_text(
            f'inventory = "hosts.json"\ncontent = ["{CONTENT}"]\n'
            'anchors = ["file:anchors"]\nattempts = "1000 in 6h"\n'
        )
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "REMEDIATE_CONFIG": str(folder / "remediate.toml"),
        }

    @property
    def settings(self) -> Settings:
        return load_settings(environ=self.environ)

    def start(self, *arguments: str, crash_at: str = "") -> subprocess.Popen[bytes]:
        environ = self.environ | ({"REMEDIATE_CRASH_AT": crash_at} if crash_at else {})
        with (self.folder / "client.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(CLIENT), *arguments], env=environ, stdout=log, stderr=log
            )

    def runs(self) -> list[Run]:
        from remediate.audit.ledger import AuditLedger

        with open_reader(self.settings) as reader:
            return list(AuditLedger(reader).runs())

    def settle(self) -> None:
        """Start workers until nothing is open any more."""
        for _ in range(5):
            assert self.start().wait(timeout=120) == 0, self.log()
            if all(run.closed for run in self.runs()):
                return
        pytest.fail(f"still open: {[run for run in self.runs() if not run.closed]}\n{self.log()}")

    def check(self) -> Counter[str]:
        """What must hold after any kill; the outcomes."""
        report = verify(
            self.settings.home / "audit.db", anchors=self.folder / "anchors", keys=None, strict=True
        )
        assert report.ok, report.findings
        assert not list(self.folder.glob("*/overlaps")), "two acts at once on one target"
        runs = self.runs()
        assert all(run.closed and run.outcome for run in runs)
        for run in runs:
            mended = (self.folder / run.request.target / "state").read_text() == "mended"
            assert mended == (run.outcome in (Outcome.RECOVERED, Outcome.SELF_HEALED)), run
        return Counter(run.outcome.value for run in runs if run.outcome)

    def log(self) -> str:
        return (self.folder / "client.log").read_text()[-4000:]


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
    report = verify(
        world.settings.home / "audit.db", anchors=world.folder / "anchors", keys=None, strict=True
    )
    assert report.ok, report.findings
    assert not list(world.folder.glob("*/overlaps"))
    assert all(run.closed for run in world.runs())
    print(
        f"COUNT kill -9 at random: {kills} kills, {len(world.runs())} accepted runs, "
        f"all terminal {dict(outcomes)}, 0 lost, 0 overlaps"
    )

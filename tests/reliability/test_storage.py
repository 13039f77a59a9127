"""A trail that cannot be written: nothing is done, and the error says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

from remediate.errors import ExitCode
from remediate.model.run import Outcome
from tests.reliability.test_sabotage import remediate
from tests.reliability.world import World

RUN = ("run", "SEC-SESS-STALE", "--yes")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="a small or read-only file system needs root to be mounted"
)


@contextmanager
def small_disk(folder: Path, size: str):
    """A tmpfs of that size."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_lets_nothing_be_done_and_work_goes_on_when_there_is_space(stage, tmp_path):
    before = stage.leak_the_signing_key()["epoch"]
    with small_disk(tmp_path / "disk", "6m") as home:
        filler = home / "filler"
        assert remediate(stage, "runs", "list", REMEDIATE_HOME=str(home)).returncode == ExitCode.USAGE
        fill(filler)

        refused = remediate(stage, *RUN, "--target=iam1", REMEDIATE_HOME=str(home))

        assert refused.returncode == ExitCode.AUDIT, refused.stdout + refused.stderr
        assert "space" in refused.stderr or "full" in refused.stderr
        assert stage.leak_the_signing_key()["epoch"] == before
        filler.unlink()
        mended = remediate(stage, *RUN, "--target=iam1", REMEDIATE_HOME=str(home))
        assert mended.returncode == 0, mended.stdout + mended.stderr
        assert remediate(stage, "audit", "verify", REMEDIATE_HOME=str(home)).returncode == 0


def test_a_read_only_disk_lets_nothing_be_done_and_the_trail_can_still_be_read(stage, tmp_path):
    before = stage.leak_the_signing_key()["epoch"]
    with small_disk(tmp_path / "disk", "32m") as home:
        first = remediate(stage, *RUN, "--target=rec1", REMEDIATE_HOME=str(home))
        assert first.returncode == ExitCode.REFUSED
        subprocess.run(["mount", "-o", "remount,ro", home], check=True)

        refused = remediate(stage, *RUN, "--target=iam1", REMEDIATE_HOME=str(home))
        read = remediate(stage, "audit", "verify", REMEDIATE_HOME=str(home))

    assert refused.returncode in (ExitCode.AUDIT, ExitCode.INTERNAL, ExitCode.USAGE), refused.stderr
    assert "read-only" in refused.stderr.lower()
    assert read.returncode == 0, read.stdout + read.stderr
    assert stage.leak_the_signing_key()["epoch"] == before


def test_a_disk_that_fills_up_during_the_act_ends_in_the_safe_state_and_is_recorded_later(tmp_path):
    """The trail cannot be written: roll back, keep the record in the journal, say so, merge it later."""
    world = World(tmp_path / "world", seconds=3)
    with small_disk(tmp_path / "disk", "8m") as home:
        world.environ["REMEDIATE_HOME"] = str(home)
        command = [sys.executable, "-m", "remediate", "run", "TST-KILL-PROOF", "--target=h1", "--yes"]
        running = subprocess.Popen(
            command, env=world.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for(lambda: (world.folder / "h1" / "acts").exists())
        filler = home / "filler"
        fill(filler)
        out, err = running.communicate(timeout=120)

        assert running.returncode == ExitCode.AUDIT, out + err
        assert "emergency journal" in err
        assert (world.folder / "h1" / "state").read_text() == "broken", err
        filler.unlink()
        world.settle()
        assert [run.outcome for run in world.runs()] == [Outcome.ROLLED_BACK]
        world.verified()


def fill(filler: Path) -> None:
    """Take every free byte of its file system."""
    with filler.open("wb") as file:
        free = os.statvfs(filler.parent)
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_bsize)


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    """Until it is so."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)

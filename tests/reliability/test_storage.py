"""A trail that cannot be written: nothing is done, and the error says what to do."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from remediate.errors import ExitCode
from tests.reliability.test_sabotage import remediate

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
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, os.statvfs(home).f_bavail * os.statvfs(home).f_bsize)

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

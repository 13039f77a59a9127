"""Private directories of phases lie in memory where that is safe, and leave nothing there."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediate.app import work_dir
from remediate.control import connect
from tests.reliability.world import World

pytestmark = pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="this machine has no /dev/shm")


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def test_it_is_private_the_same_each_time_and_not_another_homes(home, tmp_path):
    work = work_dir(home)

    assert work.parent == Path("/dev/shm")
    assert work.stat().st_mode & 0o777 == 0o700
    assert work_dir(home) == work
    assert work_dir(tmp_path) != work
    work.rmdir()
    work_dir(tmp_path).rmdir()


def test_a_folder_that_somebody_else_could_read_is_not_used(home):
    work = work_dir(home)
    work.chmod(0o755)

    assert work_dir(home) == home / "work"
    work.rmdir()


def test_a_link_in_its_place_is_not_followed(home):
    work = work_dir(home)
    work.rmdir()
    work.symlink_to(home)

    assert work_dir(home) == home / "work"
    work.unlink()


def test_a_worker_leaves_no_folder_behind(tmp_path):
    world = World(tmp_path / "world")

    with connect(world.settings):
        work = work_dir(world.settings.home)

    assert not work.exists()

"""A file that stops everything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from remediate.errors import UsageError
from remediate.guard.killswitch import KillSwitch


@pytest.fixture
def switch(tmp_path: Path) -> KillSwitch:
    return KillSwitch(tmp_path / "killswitch")


def test_nothing_is_stopped_until_it_is_engaged(switch: KillSwitch) -> None:
    assert switch.engaged() is None


def test_the_reason_and_the_person_are_told(switch: KillSwitch) -> None:
    switch.engage("core work", "alice")

    assert switch.engaged() == "core work (engaged by alice)"


def test_releasing_lets_runs_start_again_and_may_be_repeated(switch: KillSwitch) -> None:
    switch.engage("core work", "alice")

    switch.release()
    switch.release()

    assert switch.engaged() is None


def test_touching_the_file_by_hand_is_enough(switch: KillSwitch) -> None:
    switch.file.touch()

    assert str(switch.file) in (switch.engaged() or "")


def test_a_reason_is_needed(switch: KillSwitch) -> None:
    with pytest.raises(UsageError, match="needs a reason"):
        switch.engage(" \n", "alice")

    assert switch.engaged() is None


def test_control_characters_do_not_reach_a_terminal(switch: KillSwitch) -> None:
    switch.engage("look\x1b[2J\nhere", "al\x07ice")

    assert switch.engaged() == "look [2J here (engaged by al ice)"


def test_only_the_owner_may_read_it_and_no_draft_is_left(switch: KillSwitch) -> None:
    switch.engage("core work", "alice")

    assert switch.file.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in switch.file.parent.iterdir()] == ["killswitch"]


def _as_directory(file: Path) -> None:
    file.mkdir()


def _as_dangling_link(file: Path) -> None:
    file.symlink_to("nowhere")


def _as_pipe(file: Path) -> None:
    os.mkfifo(file)


def _as_bytes(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("make", [_as_directory, _as_dangling_link, _as_pipe, _as_bytes])
def test_what_cannot_be_understood_counts_as_engaged(switch: KillSwitch, make) -> None:
    make(switch.file)

    assert switch.engaged()


def test_a_state_directory_that_vanished_counts_as_engaged(tmp_path: Path) -> None:
    assert KillSwitch(tmp_path / "gone" / "killswitch").engaged()
    (tmp_path / "file").touch()
    assert KillSwitch(tmp_path / "file" / "killswitch").engaged()


def test_it_engages_even_when_nothing_can_be_written(switch: KillSwitch) -> None:
    # A file size limit of zero is how a full disk looks to a writer.
    program = (
        "import resource, sys; from pathlib import Path; from remediate.guard.killswitch import KillSwitch;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0));"
        "KillSwitch(Path(sys.argv[1])).engage('disk full', 'alice')"
    )

    subprocess.run([sys.executable, "-c", program, str(switch.file)], check=True, timeout=60)

    assert switch.engaged()
    assert [p.name for p in switch.file.parent.iterdir()] == ["killswitch"]

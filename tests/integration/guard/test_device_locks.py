"""Device locks between real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from remediate.errors import WorkerError
from remediate.guard.locks import DeviceLocks, LockBusy, LockWaitStopped

NEVER: Callable[[], str | None] = lambda: None  # noqa: E731

#: Takes the locks, says so, and waits for a line.
HOLDER = """
import sys
from pathlib import Path
from remediate.guard.locks import DeviceLocks

with DeviceLocks(Path(sys.argv[1])).hold(["sw-01"], "", run_id="run-7", should_stop=lambda: None, wait=5):
    print("held", flush=True)
    sys.stdin.readline()
"""

#: Takes the lock, starts a child that inherits it, says its process id, and is killed by the test.
PARENT = """
import subprocess, sys, time
from pathlib import Path
from remediate.guard.locks import DeviceLocks

locks = DeviceLocks(Path(sys.argv[1]))
with locks.hold(["sw-01"], "", run_id="run-7", should_stop=lambda: None, wait=5) as fds:
    child = subprocess.Popen(["sleep", "60"], pass_fds=fds, stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    time.sleep(60)
"""

#: Contends for one host; inside, it alone may find the marker file missing.
CONTENDER = """
import os, sys, time
from contextlib import nullcontext
from pathlib import Path
from remediate.guard import locks

directory, rounds, locked = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "locked"
locks._POLL_SECONDS = 0.0005  # as shipped, whoever lost would sleep through most of the test
devices = locks.DeviceLocks(directory)
hosts = ["sw-01", "sw-02"]
overlaps = 0
for _ in range(rounds):
    held = devices.hold(hosts, "site-a", run_id="r", should_stop=lambda: None, wait=120)
    with held if locked else nullcontext():
        try:
            os.close(os.open(directory / "inside", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            overlaps += 1
        else:
            time.sleep(0.0005)
            os.unlink(directory / "inside")
print(overlaps)
"""


def hold(
    directory: Path, *hosts: str, domain: str = "", wait: float = 0.0, stop=NEVER, run_id: str = "run-1"
):
    return DeviceLocks(directory).hold(hosts, domain, run_id=run_id, should_stop=stop, wait=wait)


def is_free(directory: Path, host: str = "sw-01") -> bool:
    try:
        with hold(directory, host):
            return True
    except LockBusy:
        return False


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def overlaps(directory: Path, how: str) -> int:
    """How often two of four processes were inside at once, in 1,000 attempts."""
    contenders = [start(CONTENDER, directory, 250, how) for _ in range(4)]
    return sum(int(contender.communicate(timeout=300)[0]) for contender in contenders)


def wait_until(happened: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if happened():
            return True
        time.sleep(0.02)
    return False


def test_a_second_run_is_told_who_holds_the_host(tmp_path: Path) -> None:
    with start(HOLDER, tmp_path) as other:
        assert other.stdout.readline() == "held\n"

        told = rf"sw-01 is held by run run-7 .*process {other.pid}\)"
        with pytest.raises(LockBusy, match=told), hold(tmp_path, "sw-01"):
            pass

        other.communicate("\n", timeout=20)
    assert is_free(tmp_path)


def test_waiting_ends_when_the_other_run_does(tmp_path: Path) -> None:
    with start(HOLDER, tmp_path) as other:
        other.stdout.readline()
        threading.Timer(0.3, lambda: print(file=other.stdin, flush=True)).start()

        with hold(tmp_path, "sw-01", wait=20) as descriptors:
            assert len(descriptors) == 1


def test_a_failure_domain_admits_one_run(tmp_path: Path) -> None:
    with hold(tmp_path, "sw-01", domain="site-a") as descriptors:
        assert len(descriptors) == 2
        with pytest.raises(LockBusy, match="failure domain site-a"), hold(tmp_path, "sw-02", domain="site-a"):
            pass
        with hold(tmp_path, "sw-02", domain="site-b"):
            pass
        assert is_free(tmp_path, "sw-02"), "what was taken before the busy lock is given back"


def test_a_host_and_a_domain_of_the_same_name_are_two_things(tmp_path: Path) -> None:
    with hold(tmp_path, "a", domain="b"), hold(tmp_path, "b", domain="a"):
        pass


def test_waiting_can_be_stopped(tmp_path: Path) -> None:
    asked = iter([None, None, "cancelled by alice"])
    told = "stopped while waiting for sw-01: cancelled by alice"
    with (
        hold(tmp_path, "sw-01"),
        pytest.raises(LockWaitStopped, match=told),
        hold(tmp_path, "sw-01", wait=60, stop=lambda: next(asked)),
    ):
        pass


def test_an_orphan_keeps_the_host_locked_after_its_parent_was_killed(tmp_path: Path) -> None:
    parent = start(PARENT, tmp_path)
    orphan = int(parent.stdout.readline())

    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()

    try:
        assert not is_free(tmp_path)
    finally:
        os.kill(orphan, signal.SIGKILL)
    assert wait_until(lambda: is_free(tmp_path))


def test_leaving_does_not_unlock_under_a_child_that_still_acts(tmp_path: Path) -> None:
    with hold(tmp_path, "sw-01") as descriptors:
        child = subprocess.Popen(["sleep", "60"], pass_fds=descriptors)

    try:
        assert not is_free(tmp_path)
    finally:
        child.kill()
        child.wait()
    assert is_free(tmp_path)


def test_a_child_that_was_not_given_the_descriptors_does_not_hold_the_host(tmp_path: Path) -> None:
    with hold(tmp_path, "sw-01"):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)

    try:
        assert is_free(tmp_path)
    finally:
        child.kill()
        child.wait()


def test_a_killed_holder_leaves_nothing_locked(tmp_path: Path) -> None:
    with start(HOLDER, tmp_path) as other:
        other.stdout.readline()
        other.kill()
        other.wait()

        assert is_free(tmp_path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", ".", "", "a/b", "a\0b", "交换机", "x" * 5000])
def test_no_name_leaves_the_directory(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "deep" / "locks"

    with hold(directory, name, domain=name or "d"):
        made = list(directory.iterdir())

    assert len(made) == 2
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in made)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


def test_names_that_differ_are_different_hosts(tmp_path: Path) -> None:
    with hold(tmp_path, "a/b"), hold(tmp_path, "a%2Fb"), hold(tmp_path, "x" * 300), hold(tmp_path, "x" * 301):
        pass


def test_a_link_in_place_of_a_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "host-sw-01.lock").symlink_to(tmp_path / "victim")

    with pytest.raises(WorkerError, match="cannot be opened"), hold(tmp_path, "sw-01"):
        pass
    assert not (tmp_path / "victim").exists()


def test_a_thousand_contended_attempts_never_overlap(tmp_path: Path) -> None:
    assert overlaps(tmp_path, "locked") == 0


def test_the_same_attempts_without_the_lock_do_overlap(tmp_path: Path) -> None:
    assert overlaps(tmp_path, "unlocked") > 0


def test_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    inside, most = 0, 0
    guard = threading.Lock()

    def contend() -> None:
        nonlocal inside, most
        for _ in range(10):
            with hold(tmp_path, "sw-01", wait=60):
                with guard:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.001)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 1

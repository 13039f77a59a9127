"""Starts the child of a run so that it cannot outlive its worker, and ends it with all it started.

Where the worker may create PID namespaces (root, mostly) the child is the first process of its own:
the kernel ends everything in it when the thread that started it ends. An ordinary user gets the same
only inside a user namespace, and there `sudo` on this machine no longer works; so instead the child
adopts every orphan below it, ends the whole tree when its pipe closes, and `ansible-playbook` holds
the lock of its target for as long as it lives.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path


class Confinement(StrEnum):
    """What keeps the processes of a run together."""

    NAMESPACE = "pid namespace"
    TREE = "process tree"


_NAMESPACE_COMMAND = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL")


@functools.cache
def confinement() -> Confinement:
    """What this process is able to use; tried once."""
    if shutil.which("setpriv") is None or shutil.which("unshare") is None:
        return Confinement.TREE
    tried = subprocess.run([*_NAMESPACE_COMMAND, "true"], capture_output=True, check=False, timeout=10)  # noqa: S603
    return Confinement.NAMESPACE if tried.returncode == 0 else Confinement.TREE


def start(
    command: Sequence[str], *, how: Confinement, env: Mapping[str, str], cwd: Path, pass_fds: Sequence[int]
) -> subprocess.Popen[bytes]:
    """Start the child; the calling thread must live as long as the child should."""
    prefix = _NAMESPACE_COMMAND if how is Confinement.NAMESPACE else ()
    return subprocess.Popen(  # noqa: S603
        [*prefix, *command],
        env=dict(env),
        cwd=cwd,
        pass_fds=tuple(pass_fds),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes], *, grace: float) -> None:
    """Wait a moment for the child to go by itself, then end it and everything below it."""
    try:
        process.wait(timeout=grace)
    except subprocess.TimeoutExpired:
        kill_descendants(process.pid)
        process.kill()
        process.wait()


def descendants(pid: int) -> list[int]:
    """Every living process below this one, as seen in /proc."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has just ended
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    children[int(parent)].append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children[waiting.pop()]
        found += below
        waiting += below
    return found


def kill_descendants(pid: int, *, within: float = 2.0) -> None:
    """Kill everything below a process, again and again, until nothing new was forked meanwhile."""
    deadline = time.monotonic() + within
    while (found := descendants(pid)) and time.monotonic() < deadline:
        for each in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        time.sleep(0.01)

"""One run per host and per failure domain, kept by the kernel and not by anybody's memory.

Each host and each failure domain has a file; whoever holds an exclusive `flock` on it may act. The
lock belongs to the open file, so a child that inherits the descriptor keeps the host locked even when
the process that took the lock is killed: an orphan that still acts is never joined by a second run.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from remediate.errors import ExecutorError, WorkerError

_POLL_SECONDS = 0.05
#: Longest encoded name that is used as it is; file systems end at 255 bytes.
_LONGEST_NAME = 200


class LockBusy(ExecutorError):
    """Another run holds the host or the failure domain; worth another try."""


class LockWaitStopped(ExecutorError):
    """Waiting for a lock was stopped before it was free."""


class DeviceLocks:
    """The locks of one state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def hold(
        self,
        hosts: Sequence[str],
        failure_domain: str,
        *,
        run_id: str,
        should_stop: Callable[[], str | None],
        wait: float,
    ) -> Iterator[tuple[int, ...]]:
        """Descriptors that hold every host and the failure domain (empty: none), for `pass_fds`.

        `LockBusy` when one is still held after `wait` seconds, `LockWaitStopped` when `should_stop`
        gave a reason first; then nothing is held.
        """
        names = [_file_name("host", host) for host in sorted(set(hosts))]
        # Everyone takes hosts in sorted order and the domain last, so nobody waits in a circle.
        labels = sorted(set(hosts))
        if failure_domain:
            names.append(_file_name("domain", failure_domain))
            labels.append(f"failure domain {failure_domain}")
        deadline = time.monotonic() + wait
        with ExitStack() as held:
            descriptors = []
            for name, label in zip(names, labels, strict=True):
                descriptor = self._open(name)
                # Closing, never LOCK_UN: unlocking would free the host under a child that still acts.
                held.callback(os.close, descriptor)
                _acquire(descriptor, label, should_stop=should_stop, deadline=deadline)
                _sign(descriptor, run_id)
                descriptors.append(descriptor)
            yield tuple(descriptors)

    def _open(self, name: str) -> int:
        """The lock file, made when it is not there; it is never removed, or two files could be locked."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(
                self._directory / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise WorkerError(
                f"the lock {self._directory / name} cannot be opened ({error.strerror}); nothing is "
                "done without it; see that the directory belongs to this user"
            ) from error


def _file_name(kind: str, name: str) -> str:
    """A file name that no host name can leave the directory with."""
    encoded = quote(name, safe="")
    if len(encoded) > _LONGEST_NAME:
        encoded = hashlib.sha256(name.encode()).hexdigest()
    return f"{kind}-{encoded}.lock"


def _acquire(descriptor: int, label: str, *, should_stop: Callable[[], str | None], deadline: float) -> None:
    """Lock the file, asking again every 50 ms, so that a waiting run can be stopped."""
    while True:
        if stopped := should_stop():
            raise LockWaitStopped(f"stopped while waiting for {label}: {stopped}")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            return
        if time.monotonic() >= deadline:
            raise LockBusy(f"{label} is held by {_holder(descriptor)}; ask again when that has ended")
        time.sleep(_POLL_SECONDS)


def _sign(descriptor: int, run_id: str) -> None:
    """Write down who holds the lock; only a hint for people, the lock itself is the kernel's."""
    text = json.dumps({"run": run_id, "pid": os.getpid()}).encode()
    try:
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))
    except OSError:  # a full disk must not keep a run from its lock
        os.ftruncate(descriptor, 0)


def _holder(descriptor: int) -> str:
    """Who holds the lock, as far as the file tells."""
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
        return f"run {found['run']} (started by process {found['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"

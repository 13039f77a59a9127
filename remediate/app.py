"""Wiring: the only place where concrete classes meet.

One worker per state directory holds `worker.lock`. `Worker` is that worker, whether it is embedded in
`remediate run` or serves for days; everybody else reaches it over `control.sock`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from remediate.audit.anchors import parse_anchors
from remediate.audit.journal import EmergencyJournal
from remediate.audit.ledger import MIGRATIONS, AuditLedger, LedgerReader
from remediate.audit.store import AuditReader, AuditStore
from remediate.catalog import load_catalog
from remediate.config import EnvironmentSecrets, Settings
from remediate.content import ContentRoots
from remediate.dispatch import Dispatcher
from remediate.errors import RemediateError, UsageError, WorkerError
from remediate.executors.playbook import PlaybookExecutor
from remediate.flow.context import Parts
from remediate.guard.identity import Tokens
from remediate.guard.killswitch import KillSwitch
from remediate.guard.locks import DeviceLocks
from remediate.inventory import load_inventory
from remediate.model.run import Run
from remediate.ports import Engine, Ledger
from remediate.probes import probe_for

#: An empty hour is stated by a signed entry, so that it is no gap.
HEARTBEAT_SECONDS = 3600.0
#: Seconds between two looks at the runs that wait for a person.
LOOK_SECONDS = 1.0

log = logging.getLogger(__name__)


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> datetime:
        """Wall clock, UTC."""
        return datetime.now(UTC)

    def monotonic_ns(self) -> int:
        """Nanoseconds since some moment of this boot."""
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class WorkerBusy(WorkerError):
    """Another worker holds this state directory."""


def prepare_home(settings: Settings) -> Path:
    """The state directory, made private when it is not there yet."""
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the state directory {settings.home} cannot be made ({error.strerror}); "
            "set REMEDIATE_HOME to a directory you may write to"
        ) from error
    return settings.home


def open_store(settings: Settings) -> AuditStore:
    """The trail with the operational tables, for writing; what the emergency journal holds is merged."""
    home = prepare_home(settings)
    return AuditStore.open(
        home / "audit.db",
        keys=home / "keys",
        anchors=parse_anchors(settings.anchors),
        migrations=MIGRATIONS,
        journal=home / "journal",
    )


def open_reader(settings: Settings) -> AuditReader:
    """The trail for reading; UsageError when nothing was recorded yet."""
    path = settings.home / "audit.db"
    if not path.exists():
        raise UsageError(
            f"nothing is recorded in {settings.home} yet; run something first, or name another state "
            "directory with REMEDIATE_HOME"
        )
    return AuditStore.open_readonly(path)


def open_tokens(settings: Settings) -> Tokens:
    """The named identities of this state directory."""
    return Tokens(settings.home / "tokens")


def onlooker(settings: Settings, reader: AuditReader) -> Dispatcher:
    """A dispatcher that explains beside whichever worker lives; it can record nothing."""
    return Dispatcher(_parts(settings, LedgerReader(reader), EmergencyJournal(settings.home / "journal")))


def work_dir(home: Path) -> Path:
    """Where phases keep their private directories: in memory, so that no secret reaches a disk.

    A run can then be taken back, too, when the disk of the state directory is full. Where there is no
    memory file system of our own to be had, it is a folder of the state directory.
    """
    status = home.stat()
    folder = Path(f"/dev/shm/remediate-{os.getuid()}-{status.st_dev:x}-{status.st_ino:x}")  # noqa: S108
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        made = folder.lstat()
    except OSError:
        return home / "work"
    ours = stat.S_ISDIR(made.st_mode) and made.st_uid == os.getuid() and not made.st_mode & 0o077
    return folder if ours else home / "work"


def _leave(work: Path) -> None:
    """Remove the folder for private directories unless something is still in it."""
    with suppress(OSError):
        work.rmdir()


def build_parts(settings: Settings, store: AuditStore, *, work: Path | None = None) -> Parts:
    """The concrete parts of a dispatcher on this machine; only who carries out phases names `work`."""
    journal = store.journal or EmergencyJournal(settings.home / "journal")
    return _parts(settings, AuditLedger(store), journal, work)


def _parts(settings: Settings, ledger: Ledger, journal: EmergencyJournal, work: Path | None = None) -> Parts:
    content = ContentRoots.from_settings(settings)
    home = settings.home
    return Parts(
        settings=settings,
        ledger=ledger,
        journal=journal,
        catalog=load_catalog(content, home / "cache"),
        inventory=load_inventory(settings),
        executor=PlaybookExecutor(
            roots=content.roots,
            ansible_cfg=settings.ansible_cfg,
            vault_password_file=settings.vault_password_file,
            work=work or home / "work",
            stop_file=settings.kill_switch,
            extra_env={},
        ),
        probe_for=probe_for,
        kill_switch=KillSwitch(settings.kill_switch),
        locks=DeviceLocks(home / "locks"),
        secrets=EnvironmentSecrets(settings, os.environ),
        clock=SystemClock(),
    )


@contextmanager
def worker_lock(settings: Settings) -> Iterator[None]:
    """Be the one worker of the state directory; WorkerBusy when there is another."""
    home = prepare_home(settings)
    with (home / "worker.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorkerBusy(f"another worker holds {home / 'worker.lock'}") from error
        yield


class Worker:
    """The one process that decides and acts in a state directory."""

    def __init__(self, parts: Parts, engine: Engine, dispatcher: Dispatcher) -> None:
        self.parts = parts
        self.engine = engine
        self.dispatcher = dispatcher
        #: Runs that an earlier worker left open and that go on now.
        self.resumed: tuple[Run, ...] = ()

    @classmethod
    @contextmanager
    def embedded(cls, settings: Settings) -> Iterator[Worker]:
        """Take the worker lock, recover what a crash left, and work until the context ends."""
        from remediate.engine import DurableEngine  # importing the engine takes as long as all the rest

        with ExitStack() as stack:
            stack.enter_context(worker_lock(settings))
            work = work_dir(settings.home)
            stack.callback(_leave, work)
            store = stack.enter_context(open_store(settings))
            parts = build_parts(settings, store, work=work)
            dispatcher = Dispatcher(parts)
            engine = DurableEngine(settings.home, dispatcher, limits=settings.max_runs)
            stack.callback(engine.close)
            worker = cls(parts, engine, dispatcher)
            worker._take_up()
            stack.enter_context(_every(HEARTBEAT_SECONDS, store.heartbeat, "heartbeat"))
            stack.enter_context(_every(LOOK_SECONDS, worker._judge_again, "waiting runs"))
            yield worker

    def _take_up(self) -> None:
        """Go on with what is open: the trail says where each run stands."""
        recovered = self.dispatcher.recover()
        self.resumed = recovered.resume
        for run in recovered.resume:
            self.engine.start(run.id)
        self._judge_again()

    def _judge_again(self) -> None:
        """Look at the runs whose wait is over, however that came to be known."""
        for run_id in self.dispatcher.due():
            self.engine.start(run_id)

    def busy(self) -> bool:
        """Whether runs are under way that ending this process would interrupt."""
        return any(run.state.under_way for run in self.parts.ledger.runs(open_only=True))


@contextmanager
def _every(seconds: float, act: Callable[[], object], name: str) -> Iterator[None]:
    """Do something again and again, in a thread of its own, for as long as the context lasts."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds):
            try:
                act()
            except RemediateError as error:
                # The next turn tries again; what cannot be recorded is never done.
                log.warning("%s: %s", name, error)

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

"""Carries out phases as Ansible playbooks, in one supervised child per run."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from remediate.crashpoints import CrashPoint, crash_point
from remediate.errors import ExecutorError
from remediate.executors import environment, supervise
from remediate.executors.frames import Frame, Frames, send
from remediate.executors.redact import Scrubber
from remediate.model.plan import Phase
from remediate.model.result import PhaseResult, Status, Step
from remediate.model.run import Run
from remediate.ports import PhaseOrder, StepSink, StopCheck

log = logging.getLogger(__name__)

#: How often stop requests, the time-out and the kill switch are looked at.
_POLL_MS = 100
#: Seconds the child may take beyond its own grace to report a phase that was stopped.
_STOP_LIMIT = 3.0
_RUN_ID = re.compile(r"[\w-][\w.-]*")
#: A unix socket's path holds 107 bytes; ssh adds its own name and a random suffix.
_LONGEST_CONTROL_DIR = 72
_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setup:
    """What every session of an executor shares."""

    roots: tuple[Path, ...]
    ansible_cfg: Path | None
    vault_password_file: Path | None
    work: Path
    stop_file: Path
    extra_env: Mapping[str, str]
    python: Path


class _Refused(ExecutorError):
    """The child would not begin; nothing was run, and it waits for the next order."""


class PlaybookExecutor:
    """Opens supervised children that run playbooks.

    `roots` are content roots, the user's first and the packaged one last; `work` is where private
    directories are made (and left-over ones swept); while `stop_file` exists nothing starts a task.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        ansible_cfg: Path | None,
        vault_password_file: Path | None,
        work: Path,
        stop_file: Path,
        extra_env: Mapping[str, str],
        *,
        python: Path = Path(sys.executable),
    ) -> None:
        self._setup = _Setup(
            roots=tuple(root.resolve() for root in roots),
            ansible_cfg=ansible_cfg,
            vault_password_file=vault_password_file,
            work=work.resolve(),
            stop_file=stop_file.resolve(),
            extra_env=dict(extra_env),
            python=python.absolute(),
        )
        _sweep(self._setup.work)

    @contextmanager
    def open(self, run: Run, *, lock_fds: Sequence[int]) -> Iterator[PlaybookSession]:
        """A child that inherits the lock descriptors; call and use it from one thread.

        The kernel ends the child when the thread that opened it ends.
        """
        if not _RUN_ID.fullmatch(run.id):
            raise ExecutorError(
                f"{run.id!r} cannot name a folder; a run's id holds letters, digits, - and _."
            )
        with _session_dir(self._setup.work / run.id) as (folder, held):
            session = PlaybookSession(self._setup, folder, (*lock_fds, held))
            try:
                session.start()
                crash_point(CrashPoint.CHILD_STARTED)
                yield session
            finally:
                session.close()


class PlaybookSession:
    """The supervised child of one run, seen from the worker."""

    def __init__(self, setup: _Setup, folder: Path, hold: Sequence[int]) -> None:
        self._setup = setup
        self._folder = folder
        self._hold = tuple(hold)
        self._control = _control_dir(folder)
        self._child: _Child | None = None

    def start(self) -> None:
        """Start the child; it gets ready while the caller goes on."""
        self._child = _Child(self._command(), self._env(), self._hold, python=self._setup.python)

    def close(self) -> None:
        """End the child and everything below it."""
        if self._child is not None:
            self._child.close()
            self._child = None
        shutil.rmtree(self._control, ignore_errors=True)

    def carry_out(self, order: PhaseOrder, *, on_step: StepSink, should_stop: StopCheck) -> PhaseResult:
        """Run one phase and say how it ended."""
        began = time.monotonic()
        if reason := _reason_to_stop(self._setup.stop_file, should_stop):
            return PhaseResult(status=Status.CANCELLED, reason=reason)
        if self._child is None:
            self.start()
        watch = _Watch(order, began, on_step, should_stop)
        try:
            result = self._converse(order, watch)
        except _Refused:
            raise
        except BaseException:
            self.close()  # also when a step could not be recorded: then nothing more may be done
            raise
        if result.status is Status.LOST:
            self.close()
        return replace(
            result,
            first_task_ms=watch.first_task_ms,
            duration_ms=_milliseconds_since(began),
            steps=watch.steps,
        )

    def _converse(self, order: PhaseOrder, watch: _Watch) -> PhaseResult:
        """Hand the order over and listen until the phase has ended, one way or the other."""
        child = self._child
        if child is None or not child.tell(_order_frame(order)):
            return _lost(order, child)
        while True:
            for frame in child.hear():
                if frame["is"] == "refused":
                    raise _Refused(frame["reason"])
                if frame["is"] == "result":
                    return PhaseResult.from_json(frame["result"])
                watch.take(frame)
            if child.gone:
                return watch.stopped_result() or _lost(order, child)
            if stop := watch.due():
                child.tell(stop)
            if watch.overdue:
                self.close()
                return watch.stopped_result() or _lost(order, child)

    def _command(self) -> Frame:
        setup = self._setup
        return {
            "do": "settle",
            "roots": [str(root) for root in setup.roots],
            "gate_dir": str(_gate_dir(setup.roots)),
            "config": self._config(),
            "control_dir": str(self._control),
            "vault_password_file": str(setup.vault_password_file) if setup.vault_password_file else None,
            "session_dir": str(self._folder),
            "pause_file": str(setup.stop_file),
            "extra_env": dict(setup.extra_env),
        }

    def _config(self) -> str:
        """The user's ansible.cfg, or an empty one: never what lies in the current directory."""
        if self._setup.ansible_cfg is not None:
            return str(self._setup.ansible_cfg.resolve())
        empty = self._folder / "ansible.cfg"
        empty.touch()
        return str(empty)

    def _env(self) -> Mapping[str, str]:
        env = environment.base(os.environ, python=self._setup.python, extra=self._setup.extra_env)
        env["ANSIBLE_CONFIG"] = self._config()
        if self._setup.vault_password_file is not None:
            env["ANSIBLE_VAULT_PASSWORD_FILE"] = str(self._setup.vault_password_file)
        return env


class _Child:
    """The process at the other end of the pipes."""

    def __init__(self, settle: Frame, env: Mapping[str, str], hold: Sequence[int], *, python: Path) -> None:
        requests, self._requests = os.pipe()
        replies, answers = os.pipe()
        how = supervise.confinement()
        log.info("starting the child of a run, kept together by its %s", how.value)
        command = [str(python), "-m", "remediate.executors.child", *map(str, (requests, answers, *hold))]
        try:
            self._process = supervise.start(
                command, how=how, env=env, cwd=_PACKAGE_PARENT, pass_fds=(requests, answers, *hold)
            )
        finally:
            os.close(requests)
            os.close(answers)
        self._replies = Frames(replies)
        self._last_words: deque[bytes] = deque(maxlen=8)
        self._poll = select.poll()
        self._poll.register(replies, select.POLLIN)
        self._poll.register(_stderr(self._process), select.POLLIN)
        self.tell(settle)

    @property
    def gone(self) -> bool:
        """Whether nothing more will be heard."""
        return self._replies.ended

    @property
    def last_words(self) -> str:
        """The end of what the child complained about."""
        return b"".join(self._last_words)[-2048:].decode(errors="replace")

    def tell(self, frame: Frame) -> bool:
        """Send a frame; False when the child is gone."""
        try:
            send(self._requests, frame)
        except BrokenPipeError:
            return False
        return True

    def hear(self) -> Iterator[Frame]:
        """The frames that arrive within one poll."""
        for descriptor, _ in self._poll.poll(_POLL_MS):
            if descriptor == self._replies.fileno():
                yield from self._replies.read()
            elif chunk := os.read(descriptor, 1 << 16):
                self._last_words.append(chunk)
            else:
                self._poll.unregister(descriptor)

    def close(self) -> None:
        """Close the pipe, which ends the child; see to it that it does."""
        for descriptor in (self._requests, self._replies.fileno()):
            os.close(descriptor)
        supervise.end(self._process, grace=3.0)
        if self._process.stderr is not None:
            self._process.stderr.close()


class _Watch:
    """Follows one phase: its steps, its clock and the wish to stop it."""

    def __init__(self, order: PhaseOrder, began: float, on_step: StepSink, should_stop: StopCheck) -> None:
        self._order = order
        self._began = began
        self._on_step = on_step
        self._should_stop = should_stop
        self._stop: tuple[Status, str] | None = None
        self._stopped_at = 0.0
        self.first_task_ms = 0
        self.steps = 0

    def take(self, frame: Frame) -> None:
        """A frame of the running phase."""
        if frame["is"] == "task" and not self.first_task_ms:
            self.first_task_ms = max(1, _milliseconds_since(self._began))
        elif frame["is"] == "step":
            self.steps += 1
            if self.steps == 1 and self._order.phase is Phase.APPLY:
                crash_point(CrashPoint.ACT_UNDER_WAY, detail=self._order.phase.value)
            self._on_step(Step(**frame["step"]))

    def due(self) -> Frame | None:
        """The frame that stops the phase, once, when it is time to."""
        if self._stop is not None:
            return None
        if reason := self._should_stop():
            self._stop = (Status.CANCELLED, reason)
        elif time.monotonic() - self._began > self._order.timeout:
            self._stop = (
                Status.TIMED_OUT,
                f"the {self._order.phase} phase was stopped after {self._order.timeout} s, its limit in the "
                f"plan. A task that was under way on {self._order.target} may have ended there or not.",
            )
        else:
            return None
        self._stopped_at = time.monotonic()
        return {"do": "stop", "status": self._stop[0].value, "reason": self._stop[1]}

    @property
    def overdue(self) -> bool:
        """The phase was stopped and the child has still not reported."""
        return self._stop is not None and time.monotonic() - self._stopped_at > _STOP_LIMIT

    def stopped_result(self) -> PhaseResult | None:
        """The result of a phase that was stopped, when the child could not give it any more."""
        return PhaseResult(status=self._stop[0], reason=self._stop[1]) if self._stop else None


def _order_frame(order: PhaseOrder) -> Frame:
    return {
        "do": "phase",
        "phase": order.phase.value,
        "attempt": order.attempt,
        "playbook": str(order.playbook),
        "inventory": str(order.inventory),
        "target": order.target,
        "allowed": list(order.allowed),
        "variables": {
            **order.variables,
            "remediate_phase": order.phase.value,
            "remediate_target": order.target,
            "remediate_run_id": order.run_id,
            "remediate_run_dir": str(order.run_dir),
        },
        "secrets": dict(order.secrets),
        "check": order.check,
        "diff": order.diff,
        "foreign": order.foreign,
    }


def _lost(order: PhaseOrder, child: _Child | None) -> PhaseResult:
    said = Scrubber(order.secrets.values()).text(child.last_words).strip() if child is not None else ""
    return PhaseResult(
        status=Status.LOST,
        reason=f"the process that carried out the {order.phase} phase ended before it reported, so what it "
        f"did on {order.target} is not known. Look there before anything is repeated."
        + (f" It said: {said}" if said else ""),
    )


def _reason_to_stop(stop_file: Path, should_stop: StopCheck) -> str | None:
    if stop_file.exists():
        return "the kill switch is on, so the phase was not started. See `remediate resume`."
    return should_stop()


def _gate_dir(roots: Sequence[Path]) -> Path:
    """The folder of the gate plugin: the last root that has it is the one that travels with us."""
    for root in reversed(roots):
        folder = root / "plugins" / "callback"
        if (folder / f"{environment.GATE}.py").is_file():
            return folder
    raise ExecutorError(
        f"no content root holds plugins/callback/{environment.GATE}.py, without which no play may start. "
        f"Looked in {', '.join(map(str, roots)) or 'no root at all'}; reinstall the package."
    )


@contextmanager
def _session_dir(run_folder: Path) -> Iterator[tuple[Path, int]]:
    """A folder that lives as long as the run, and its lock, which tells `_sweep` to leave it alone."""
    run_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(prefix="session-", dir=run_folder))
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield folder, held
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)
        with contextlib.suppress(OSError):  # somebody else keeps files there
            run_folder.rmdir()


def _sweep(work: Path) -> None:
    """Remove what earlier workers left behind, unless a process of theirs still lives in it."""
    for folder in work.glob("*/session-*"):
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            log.info("removed %s, left behind by a worker that is gone", folder)
        except BlockingIOError:
            log.info("left %s alone: a process of its run still lives", folder)
        finally:
            os.close(held)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()


def _control_dir(folder: Path) -> Path:
    """Where ssh keeps the run's own connections: never shared, so no unchecked host key is inherited."""
    inside = folder / "ssh"
    if len(os.fsencode(inside)) > _LONGEST_CONTROL_DIR:
        return Path(tempfile.mkdtemp(prefix="remediate-ssh-"))
    inside.mkdir(mode=0o700)
    return inside


def _stderr(process: subprocess.Popen[bytes]) -> int:
    if process.stderr is None:
        raise ExecutorError("the child was started without its error pipe")
    return process.stderr.fileno()


def _milliseconds_since(moment: float) -> int:
    return round((time.monotonic() - moment) * 1000)

"""Carries out one phase with ansible-runner; runs inside the supervised child, nowhere else."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_runner import runner as ansible_runner
from ansible_runner.config.runner import RunnerConfig
from pexpect import pty_spawn  # type: ignore[import-untyped]

from remediate.errors import ExecutorError
from remediate.executors import environment, extravars
from remediate.executors.events import Tally, TaskNote
from remediate.executors.frames import Frame
from remediate.executors.judge import Ending, judge
from remediate.executors.redact import Scrubber, secret_values
from remediate.model.plan import Phase
from remediate.model.result import PhaseResult, Status

#: One exact host: nothing that Ansible reads as pattern, list, range, file or option.
_EXACT = re.compile(r"\w[\w.-]*")
_EVENT_ID = re.compile(r"[0-9A-Za-z_-]+")
#: Seconds a running task gets to end by itself once the phase was told to stop.
GRACE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the phases of one run share."""

    roots: tuple[Path, ...]
    gate_dir: Path
    config: Path
    control_dir: Path
    vault_password_file: Path | None
    #: Holds the private directory of every phase.
    session_dir: Path
    pause_file: Path
    #: Descriptors of the locks; ansible-playbook inherits them.
    hold: tuple[int, ...]
    extra_env: Mapping[str, str]

    def role_names(self) -> frozenset[str]:
        """The roles there are: their names prefix the variables of their hosts."""
        folders = (root / "roles" for root in self.roots)
        return frozenset(role.name for folder in folders if folder.is_dir() for role in folder.iterdir())


class PhaseRun:
    """One phase, from its order to its result."""

    def __init__(
        self,
        order: Mapping[str, Any],
        around: Surroundings,
        *,
        secrets_of: Callable[[Path, Sequence[str], Collection[str]], Sequence[str]],
        kill: Callable[[], None],
        send: Callable[[Frame], None],
    ) -> None:
        self._order = order
        self._around = around
        self._secrets_of = secrets_of
        self._kill = kill
        self._send = send
        self._private: Path | None = None
        self._stop: tuple[Status, str] | None = None
        self._over = threading.Event()
        self._notes: dict[str, TaskNote] = {}
        self._gated = True
        self._begun = False
        self._tally: Future[Tally] = Future()

    def stop(self, status: Status, reason: str) -> None:
        """Let no further task start, and end the running one after a short grace; from any thread."""
        self._stop = (status, reason)
        if self._private is not None:
            (self._private / "stop").touch()
        if not self._over.wait(GRACE):
            self._kill()

    def run(self) -> PhaseResult:
        """Carry the phase out; ExecutorError when it was refused before anything ran."""
        self._refuse_inexact()
        try:
            with self._private_dir() as private:
                config = self._prepare(private)
                if self._stop is not None:
                    return PhaseResult(status=self._stop[0], reason=self._stop[1])
                code = self._launch(config)
                return judge(
                    self._tally.result(), self._ending(private, code), foreign=self._order["foreign"]
                )
        except ExecutorError as error:
            if not self._begun:
                raise
            return PhaseResult(status=Status.LOST, reason=f"{error} Its first task had begun by then.")
        finally:
            self._over.set()

    def _refuse_inexact(self) -> None:
        for name in (self._order["target"], *self._order["allowed"]):
            if not _EXACT.fullmatch(name):
                raise ExecutorError(
                    f"{name!r} is not the exact name of one host; nothing was run. "
                    "Name the host as the inventory does."
                )
        for what in ("playbook", "inventory"):
            path = Path(self._order[what])
            if not path.is_absolute() or not path.exists():
                raise ExecutorError(
                    f"the {what} {path} does not exist; nothing was run. Check the installation."
                )

    @contextmanager
    def _private_dir(self) -> Iterator[Path]:
        prefix = f"{self._order['phase']}-{self._order['attempt']}-"
        private = Path(tempfile.mkdtemp(prefix=prefix, dir=self._around.session_dir))
        self._private = private
        try:
            yield private
        finally:
            self._private = None
            shutil.rmtree(private, ignore_errors=True)

    def _prepare(self, private: Path) -> Any:
        """Write the phase's files and the runner's configuration."""
        for folder in ("env", "tmp"):
            (private / folder).mkdir(mode=0o700)
        parameters = private / "env" / "extravars"
        extravars.write(parameters, self._order["variables"])
        settings = {"suppress_output_file": True, "pexpect_timeout": 0.1, "pexpect_use_poll": True}
        (private / "env" / "settings").write_text(json.dumps(settings), encoding="utf-8")
        (private / "gate.json").write_text(json.dumps(self._rules(private)), encoding="utf-8")
        flags = [flag for flag, wanted in (("--check", "check"), ("--diff", "diff")) if self._order[wanted]]
        config = RunnerConfig(
            private_data_dir=str(private),
            ident="phase",
            playbook=self._order["playbook"],
            inventory=self._order["inventory"],
            limit=self._order["target"],
            envvars=self._environment(private),
            cmdline=shlex.join(flags),
            fact_cache_type="memory",
            quiet=True,
        )
        config.prepare()
        return config

    def _rules(self, private: Path) -> Mapping[str, Any]:
        return {
            "allowed": list(self._order["allowed"]),
            "stop": str(private / "stop"),
            "pause": str(self._around.pause_file),
            "verdict": str(private / "verdict.json"),
            "notes": str(private / "notes"),
            "armed": str(private / "armed"),
            "checked": str(private / "checked"),
        }

    def _environment(self, private: Path) -> Mapping[str, str]:
        around = self._around
        pinned = environment.pinned(
            roots=around.roots,
            gate_dir=around.gate_dir,
            private=private,
            config=around.config,
            control_dir=around.control_dir,
            vault_password_file=around.vault_password_file,
            foreign=self._order["foreign"],
        )
        return pinned | dict(around.extra_env)

    def _launch(self, config: Any) -> int | None:
        """Run ansible-playbook; its exit code, None when a signal ended it."""
        ansible_runner.pexpect.spawn = _spawn_class(self._around.hold, self._order["secrets"])
        runner = _FileEventRunner(config=config, event_handler=self._on_event)
        with ThreadPoolExecutor(1) as beside:  # works while ansible-playbook starts
            checked = beside.submit(self._check_parameters)
            self._tally = beside.submit(self._new_tally)
            try:
                runner.run()
            except BaseException:
                self._kill()  # nothing may go on that nobody listens to
                raise
        checked.result()
        return runner.rc if isinstance(runner.rc, int) else None

    def _check_parameters(self) -> None:
        """Let the play begin only when Ansible reads its parameters as data; the gate waits for that."""
        try:
            extravars.recheck(self._file("env") / "extravars", self._order["variables"])
            self._file("checked").touch()
        except BaseException:
            self._file("stop").touch()  # the gate, which waits, ends the play
            raise

    def _new_tally(self) -> Tally:
        order = self._order
        roles = self._around.role_names()
        hosts = self._secrets_of(Path(order["inventory"]), order["allowed"], roles)
        given = secret_values(order["variables"], roles=roles)
        return Tally(
            phase=Phase(order["phase"]),
            target=order["target"],
            scrub=Scrubber([*order["secrets"].values(), *given, *hosts]),
            keep_diff=order["diff"],
            note=self._note,
        )

    def _on_event(self, event: Mapping[str, Any]) -> None:
        kind = event.get("event")
        if kind == "playbook_on_start" and not self._file("armed").exists():
            self._gated = False
            self._kill()
        elif kind == "playbook_on_task_start":
            self._begun = True
            self._send({"is": "task"})
        elif (step := self._tally.result().take(event)) is not None:
            self._send({"is": "step", "step": dataclasses.asdict(step)})

    def _note(self, task: str) -> TaskNote | None:
        """What the gate wrote down about a task; it does so before the task's first result."""
        path = self._file("notes")
        if task not in self._notes and path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            for line in map(json.loads, lines[len(self._notes) :]):
                self._notes[line["uuid"]] = TaskNote(name=line["name"], kind=line["kind"])
        return self._notes.get(task)

    def _file(self, name: str) -> Path:
        if self._private is None:
            raise ExecutorError("an event came after its phase had ended")
        return self._private / name

    def _ending(self, private: Path, code: int | None) -> Ending:
        verdict = private / "verdict.json"
        said = json.loads(verdict.read_text(encoding="utf-8")) if verdict.exists() else {}
        status, reason = self._stop or (None, "")
        return Ending(
            code=code,
            verdict=said.get("verdict", ""),
            verdict_reason=said.get("reason", ""),
            stopped=status,
            stop_reason=reason,
            gated=self._gated,
        )


class _FileEventRunner(ansible_runner.Runner):  # type: ignore[misc]  # the runner ships no types
    """Believes an event only if the callback plugin wrote it to its file, and keeps no copy on disk.

    The runner finds events in the terminal output of the play, where a host's own output stands too;
    a host could write there what looks like one. The files in the private directory it cannot write.
    """

    def event_callback(self, event_data: dict[str, Any]) -> None:
        event = {"event": "verbose", "stdout": event_data.get("stdout", "")}
        uuid = str(event_data.get("uuid", ""))
        if _EVENT_ID.fullmatch(uuid):
            path = Path(self.config.artifact_dir) / "job_events" / f"{uuid}-partial.json"
            if path.exists():
                event |= json.loads(path.read_text(encoding="utf-8"))
                path.unlink()
        self.event_handler(event)


def _spawn_class(hold: Sequence[int], secrets: Mapping[str, str]) -> type:
    """`pexpect.spawn` with what the runner has no setting for."""

    class Spawn(pty_spawn.spawn):  # type: ignore[misc]  # pexpect ships no types
        def __init__(self, *args: Any, env: Mapping[str, str], **options: Any) -> None:
            # The runner writes the environment it knows of to a file; secrets join it only here.
            super().__init__(*args, env={**env, **secrets}, **options)

        def _spawnpty(self, args: Sequence[str], **options: Any) -> Any:
            process = super()._spawnpty(args, pass_fds=hold, **options)
            process.delayafterclose = 0  # it has ended by then; the nap of 100 ms serves others
            return process

    return Spawn

"""A place to try playbooks: an inventory of local hosts, a real executor, and what came of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remediate.executors.playbook import PlaybookExecutor, PlaybookSession
from remediate.model.entry import SYSTEM
from remediate.model.plan import Phase
from remediate.model.result import PhaseResult, Step
from remediate.model.run import Request, Run
from remediate.ports import PhaseOrder

ROOT = Path(__file__).resolve().parents[3]
INVENTORY = """
[local]
h1
h2
[local:vars]
ansible_connection=local
"""
HAND_BACK = """
    - name: Hand back
      ansible.builtin.set_fact:
        remediate_result: {healthy: true, observations: [], findings: [], snapshot: {}, undo: []}
"""


def play(tasks: str, *, hosts: str = "h1", hand_back: bool = True) -> str:
    """A playbook of one play; the tasks are indented by four."""
    return f"- hosts: {hosts}\n  tasks:\n{tasks.rstrip()}\n{HAND_BACK if hand_back else ''}"


def a_run(target: str = "h1", run_id: str = "run-1") -> Run:
    return Run(id=run_id, case_id=run_id, request=Request(code="SYS-DISK-FULL", target=target, actor=SYSTEM))


def never() -> None:
    """Nobody asks to stop."""


@dataclass
class Stage:
    folder: Path
    inventory_text: str = INVENTORY
    extra_env: Mapping[str, str] = field(
        default_factory=lambda: {"_ANSIBLE_TEMPLAR_UNTRUSTED_TEMPLATE_BEHAVIOR": "error"}
    )
    python: Path = Path(sys.executable)
    steps: list[Step] = field(default_factory=list)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def pause(self) -> Path:
        return self.folder / "pause"

    def executor(self, *, ansible_cfg: Path | None = None) -> PlaybookExecutor:
        return PlaybookExecutor(
            [ROOT], ansible_cfg, None, self.work, self.pause, dict(self.extra_env), python=self.python
        )

    @contextmanager
    def session(self, *, lock_fds: Sequence[int] = ()) -> Iterator[PlaybookSession]:
        with self.executor().open(a_run(), lock_fds=lock_fds) as session:
            yield session

    def order(self, playbook: str, **changes: Any) -> PhaseOrder:
        (self.folder / "inventory").write_text(self.inventory_text)
        (self.folder / "play.yml").write_text(playbook)
        values: dict[str, Any] = {
            "run_id": "run-1",
            "phase": Phase.APPLY,
            "attempt": 1,
            "playbook": self.folder / "play.yml",
            "inventory": self.folder / "inventory",
            "target": "h1",
            "allowed": ("h1",),
            "run_dir": self.folder,
            "timeout": 60,
        }
        return PhaseOrder(**(values | changes))

    def carry_out(
        self,
        playbook: str,
        *,
        on_step: Callable[[Step], None] | None = None,
        should_stop: Callable[[], str | None] = never,
        session: PlaybookSession | None = None,
        **changes: Any,
    ) -> PhaseResult:
        """Run a playbook as one phase; its steps are in `steps`."""
        self.steps = []
        order = self.order(playbook, **changes)

        def take(step: Step) -> None:
            self.steps.append(step)
            if on_step is not None:
                on_step(step)

        if session is not None:
            return session.carry_out(order, on_step=take, should_stop=should_stop)
        with self.session() as opened:
            return opened.carry_out(order, on_step=take, should_stop=should_stop)


def alive(pid: int) -> bool:
    """Whether a process still runs; one that only waits to be reaped by its new parent does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def living(marker: str) -> list[int]:
    """Processes whose command line or environment holds a marker; this one not counted."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if marker.encode() in text and alive(int(entry.name)):
                found.append(int(entry.name))
    return found

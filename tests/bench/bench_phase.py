"""How long a phase takes to its first task, against a bare `ansible-playbook` of the same play.

Alternating A B C A B C, so that a busy machine is busy for all of them; each line gives the median,
its ratio to the bare median, and the bar.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, too

from remediate.model.result import Status
from tests.integration.executors.stage import Stage, a_run, play

ROUNDS = 9
BAR = 1.15
PLAY = play("    - name: First\n      ansible.builtin.debug: {msg: first}\n").replace(
    "  tasks:", "  gather_facts: false\n  tasks:"
)


def bare_ms(stage: Stage) -> float:
    """Launch of `ansible-playbook` to the line that announces its first task."""
    order = stage.order(PLAY)
    began = time.monotonic()
    with subprocess.Popen(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            "-i",
            order.inventory,
            "-l",
            "h1",
            order.playbook,
        ],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONUNBUFFERED": "1"},
        cwd=stage.folder,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"TASK ["):
                took = (time.monotonic() - began) * 1000
                process.stdout.read()
                return took
    raise AssertionError("the bare play announced no task")


def phases_ms(stage: Stage) -> tuple[float, float, float]:
    """First task of a run's first phase, opening included; of its second phase; the whole second."""
    began = time.monotonic()
    with stage.executor().open(a_run(), lock_fds=[]) as session:
        opened = (time.monotonic() - began) * 1000
        first = stage.carry_out(PLAY, session=session)
        second = stage.carry_out(PLAY, session=session)
    assert (first.status, second.status) == (Status.OK, Status.OK)
    return opened + first.first_task_ms, second.first_task_ms, second.duration_ms


def bare_whole_ms(stage: Stage) -> float:
    """A whole bare run of the play."""
    order = stage.order(PLAY)
    began = time.monotonic()
    subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            "-i",
            order.inventory,
            "-l",
            "h1",
            order.playbook,
        ],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        cwd=stage.folder,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return (time.monotonic() - began) * 1000


def line(name: str, values: list[float], base: list[float], bar: float | None) -> bool:
    """Print one figure; whether it is within its bar."""
    value, ratio = statistics.median(values), statistics.median(values) / statistics.median(base)
    met = bar is None or ratio <= bar
    shown = "-" if bar is None else f"{bar:.2f}"
    print(f"{name:<28} {value:7.0f} ms  ratio {ratio:.2f}  bar {shown}  {'ok' if met else 'MISSED'}")
    return met


def main() -> int:
    """Measure and print; 1 when a bar was missed."""
    bare: list[float] = []
    first: list[float] = []
    later: list[float] = []
    whole: list[float] = []
    bare_whole: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), extra_env={})
        bare_ms(stage)
        phases_ms(stage)  # both once for the caches
        for _ in range(ROUNDS):
            bare.append(bare_ms(stage))
            a, b, c = phases_ms(stage)
            first.append(a)
            later.append(b)
            whole.append(c)
            bare_whole.append(bare_whole_ms(stage))
    print(f"n = {ROUNDS}, alternating; load {os.getloadavg()[0]:.1f}")
    line("bare, first task", bare, bare, None)
    met = line("phase, first task", later, bare, BAR)
    line("first phase of a run", first, bare, None)
    line("bare, whole play", bare_whole, bare_whole, None)
    line("phase, whole play", whole, bare_whole, None)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

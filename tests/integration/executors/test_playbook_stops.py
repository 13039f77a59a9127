"""Stopping: by time-out, cancel, kill switch, a host that is off limits, and death of the worker."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remediate.errors import ExecutorError
from remediate.executors import supervise
from remediate.executors.supervise import Confinement
from remediate.model.plan import Phase
from remediate.model.result import Status, Step
from tests.integration.executors.stage import ROOT, Stage, alive, living, play

#: A stop has to be over within this many seconds, whatever the running task does.
STOP_LIMIT = 2.0


def long_then_touch(folder: Path, seconds: int = 60) -> str:
    return f"""
    - name: Short
      ansible.builtin.debug: {{msg: short}}
    - name: Long
      ansible.builtin.command: {{argv: [sleep, "{seconds}"]}}
    - name: Never
      ansible.builtin.file: {{path: {folder}/touched, state: touch, mode: "0600"}}
"""


class StopWhen:
    """Asks to stop a moment after a step of a name was seen."""

    def __init__(self, name: str, after: float = 0.0) -> None:
        self.name = name
        self.after = after
        self.seen: float | None = None

    def step(self, step: Step) -> None:
        if step.name == self.name:
            self.seen = time.monotonic()

    def wanted(self) -> str | None:
        due = self.seen is not None and time.monotonic() - self.seen >= self.after
        return "cancelled by alice" if due else None


@pytest.fixture(params=list(Confinement))
def confined(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Confinement:
    """Both ways to keep a run's processes together, where the machine carries them."""
    how: Confinement = request.param
    if how is Confinement.NAMESPACE and supervise.confinement() is not how:
        pytest.skip("this user may not create PID namespaces")
    monkeypatch.setattr(supervise, "confinement", lambda: how)
    return how


def test_a_phase_that_takes_too_long_is_stopped_in_the_middle_of_a_task(
    stage: Stage, confined: Confinement
) -> None:
    began = time.monotonic()
    result = stage.carry_out(play(long_then_touch(stage.folder)), timeout=3)

    assert result.status is Status.TIMED_OUT
    assert "after 3 s" in result.reason
    assert time.monotonic() - began < 3 + STOP_LIMIT + 1.0  # one second for opening and closing
    assert not (stage.folder / "touched").exists()
    assert living(str(stage.folder)) == []


def test_a_cancel_ends_the_running_task_and_starts_no_other(stage: Stage, confined: Confinement) -> None:
    stop = StopWhen("Short", after=1.0)
    result = stage.carry_out(play(long_then_touch(stage.folder)), on_step=stop.step, should_stop=stop.wanted)

    assert (result.status, result.reason) == (Status.CANCELLED, "cancelled by alice")
    assert stop.seen is not None
    assert time.monotonic() - stop.seen - stop.after < STOP_LIMIT + 0.5  # and the child is gone, too
    assert [s.name for s in stage.steps] == ["Short"]
    assert not (stage.folder / "touched").exists()


def test_after_a_cancel_the_same_session_can_roll_back(stage: Stage) -> None:
    stop = StopWhen("Short", after=0.5)
    with stage.session() as session:
        stage.carry_out(
            play(long_then_touch(stage.folder)),
            session=session,
            on_step=stop.step,
            should_stop=stop.wanted,
        )
        result = stage.carry_out(
            play("    - ansible.builtin.debug: {}\n"), session=session, phase=Phase.ROLLBACK
        )

    assert result.status is Status.OK


@pytest.mark.parametrize("how", ["cancel", "kill switch"])
def test_a_stop_between_two_tasks_lets_the_next_one_never_start(stage: Stage, how: str) -> None:
    """The first task takes as long as the stop needs to be written; the second must not begin."""
    tasks = f"""
    - name: First
      ansible.builtin.command: {{argv: [sleep, "0.7"]}}
    - name: Second
      ansible.builtin.file: {{path: {stage.folder}/touched, state: touch, mode: "0600"}}
"""
    stopped = {"at": False}

    def should_stop() -> str | None:
        if stage.pause.exists() or not list(stage.work.glob("*/*/apply-*/artifacts/phase/job_events")):
            return None
        if how == "kill switch":
            stage.pause.write_text("freeze")
            return None
        stopped["at"] = True
        return "cancelled by alice"

    result = stage.carry_out(play(tasks), should_stop=should_stop)

    assert result.status is Status.CANCELLED
    assert ("kill switch" in result.reason) is (how == "kill switch")
    assert not (stage.folder / "touched").exists()
    assert "Second" not in [s.name for s in stage.steps]


def test_nothing_starts_while_the_kill_switch_is_on(stage: Stage) -> None:
    stage.pause.write_text("freeze")

    result = stage.carry_out(play("    - ansible.builtin.debug: {}\n"))

    assert result.status is Status.CANCELLED
    assert "kill switch" in result.reason
    assert stage.steps == []


def test_the_gate_stops_within_two_seconds_over_and_over(stage: Stage) -> None:
    """Many short tasks: whatever the moment, the play ends before its next task."""
    tasks = "".join(
        f"    - name: Task {n}\n      ansible.builtin.debug: {{msg: '{n}'}}\n" for n in range(120)
    )
    late, took = 0, []
    with stage.session() as session:
        for round_ in range(4):
            stop = StopWhen(f"Task {round_ * 5}")
            result = stage.carry_out(play(tasks), session=session, on_step=stop.step, should_stop=stop.wanted)
            assert result.status is Status.CANCELLED
            assert stop.seen is not None
            took.append(time.monotonic() - stop.seen)
            late += took[-1] > STOP_LIMIT
            assert len(stage.steps) < 120
    print(f"COUNT stops between tasks: {len(took)}, later than 2 s: {late}, slowest {max(took):.2f} s")
    assert late == 0


@pytest.mark.parametrize(
    "tasks",
    [
        pytest.param(
            """
    - ansible.builtin.add_host: {name: h2, groups: [new], ansible_connection: local}
    - ansible.builtin.debug: {}
- hosts: new,all
  tasks:
    - ansible.builtin.file: {path: "FOLDER/{{ inventory_hostname }}", state: touch, mode: "0600"}
""",
            id="add_host-known",
        ),
        pytest.param(
            """
    - ansible.builtin.file: {path: FOLDER/h2, state: touch, mode: "0600"}
      delegate_to: h2
      ignore_errors: true
    - ansible.builtin.file: {path: FOLDER/later, state: touch, mode: "0600"}
""",
            id="delegate_to",
        ),
        pytest.param(
            """
    - ansible.builtin.file: {path: "FOLDER/{{ item }}", state: touch, mode: "0600"}
      delegate_to: "{{ item }}"
      loop: [h2, stranger]
""",
            id="delegate_to-template-in-a-loop",
        ),
        pytest.param(
            """
    - block:
        - ansible.builtin.file: {path: FOLDER/h2, state: touch, mode: "0600"}
          delegate_to: localhost
      rescue:
        - ansible.builtin.file: {path: FOLDER/later, state: touch, mode: "0600"}
""",
            id="delegate_to-localhost-in-a-rescued-block",
        ),
        pytest.param(
            """
    - local_action: ansible.builtin.file path=FOLDER/h2 state=touch mode=0600
""",
            id="local_action",
        ),
    ],
)
def test_a_host_that_is_off_limits_is_never_touched(stage: Stage, tasks: str) -> None:
    playbook = play(tasks.replace("FOLDER", str(stage.folder)), hosts="all", hand_back=False)

    result = stage.carry_out(playbook, foreign=True)

    assert result.status in (Status.FAILED, Status.OK)
    assert not (stage.folder / "h2").exists()
    assert not (stage.folder / "stranger").exists()
    assert not (stage.folder / "later").exists()
    if result.status is Status.FAILED:
        assert "may not touch" in result.reason
    else:  # a second play over other hosts was emptied by the limit already
        assert "h2" not in {s.host for s in stage.steps}


def test_a_new_host_that_the_limit_would_let_through_is_stopped_by_the_gate(stage: Stage) -> None:
    """`add_host` of a *group named like the target* gets past `--limit`."""
    tasks = """
    - ansible.builtin.add_host: {name: stranger, groups: [h1], ansible_connection: local}
- hosts: h1
  tasks:
    - ansible.builtin.file: {path: "FOLDER/{{ inventory_hostname }}", state: touch, mode: "0600"}
"""
    result = stage.carry_out(play(tasks.replace("FOLDER", str(stage.folder)), hand_back=False), foreign=True)

    assert not (stage.folder / "stranger").exists()
    assert result.status is Status.FAILED or "stranger" not in {s.host for s in stage.steps}


def test_hosts_that_the_run_may_touch_may_be_delegated_to(stage: Stage) -> None:
    tasks = """
    - ansible.builtin.debug: {msg: hi}
      delegate_to: "{{ item }}"
      loop: [h1, h2, localhost, 127.0.0.1]
"""
    result = stage.carry_out(play(tasks), allowed=("h1", "h2", "localhost"))

    assert result.status is Status.OK


def test_a_play_whose_parameters_would_be_templates_never_begins(stage: Stage) -> None:
    """Make the child's own check say "trusted": the play waits for it, and is ended instead."""
    (stage.folder / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'remediate.executors.child' in sys.orig_argv:\n"
        "    import ansible.template\n"
        "    ansible.template.is_trusted_as_template = lambda value: True\n"
    )
    stage.extra_env = {"PYTHONPATH": str(stage.folder)}
    tasks = f"    - ansible.builtin.file: {{path: {stage.folder}/touched, state: touch, mode: '0600'}}\n"

    with pytest.raises(ExecutorError, match="as a template; nothing was run"):
        stage.carry_out(play(tasks), variables={"word": "x"})

    assert stage.steps == []
    assert not (stage.folder / "touched").exists()


def test_a_play_without_its_gate_is_ended(stage: Stage) -> None:
    stage.extra_env = {**stage.extra_env, "ANSIBLE_CALLBACKS_ENABLED": "none"}
    tasks = f"""
    - ansible.builtin.command: {{argv: [sleep, "1"]}}
    - ansible.builtin.file: {{path: {stage.folder}/touched, state: touch, mode: "0600"}}
"""
    result = stage.carry_out(play(tasks))

    assert result.status is Status.FAILED
    assert "the gate was not loaded" in result.reason
    assert not (stage.folder / "touched").exists()


def test_a_child_that_vanishes_leaves_the_phase_unknown_and_the_next_one_gets_a_new_child(
    stage: Stage, confined: Confinement
) -> None:
    def kill_the_child(step: Step) -> None:
        if step.name == "Short":
            for pid in supervise.descendants(os.getpid()):
                if b"remediate.executors.child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)

    with stage.session() as session:
        lost = stage.carry_out(
            play(long_then_touch(stage.folder, 3)), session=session, on_step=kill_the_child
        )
        again = stage.carry_out(play("    - ansible.builtin.debug: {}\n"), session=session)

    assert lost.status is Status.LOST
    assert "is not known" in lost.reason
    assert again.status is Status.OK
    assert not (stage.folder / "touched").exists()


def test_an_ansible_that_is_shot_from_outside_leaves_the_phase_unknown(stage: Stage) -> None:
    def shoot(step: Step) -> None:
        if step.name == "Short":
            for pid in supervise.descendants(os.getpid()):
                if b"ansible-playbook" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)

    result = stage.carry_out(play(long_then_touch(stage.folder, 3)), on_step=shoot)

    assert result.status is Status.LOST


def test_a_step_that_cannot_be_recorded_ends_the_phase(stage: Stage) -> None:
    def refuse(step: Step) -> None:
        raise OSError("no space left for the trail")

    with pytest.raises(OSError, match="no space"):
        stage.carry_out(play(long_then_touch(stage.folder, 2)), on_step=refuse)

    assert living(str(stage.folder)) == []
    assert not (stage.folder / "touched").exists()


WORKER = """
import os, sys
from pathlib import Path
from remediate.executors import supervise
from remediate.executors.supervise import Confinement
from tests.integration.executors.stage import Stage, play
from tests.integration.executors.test_playbook_stops import long_then_touch
supervise.confinement = lambda: Confinement(sys.argv[2])
stage = Stage(Path(sys.argv[1]))
lock = os.open(stage.folder / "lock", os.O_CREAT | os.O_RDWR)
import fcntl
fcntl.flock(lock, fcntl.LOCK_EX)
with stage.session(lock_fds=[lock]) as session:
    stage.carry_out(play(long_then_touch(stage.folder, 30)), session=session,
                    on_step=lambda step: print("step", flush=True))
"""


@pytest.fixture
def worker(stage: Stage, confined: Confinement) -> subprocess.Popen[bytes]:
    """A worker of its own whose phase has got as far as its long task."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(stage.folder), confined.value], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"step\n"
    time.sleep(0.7)  # into the long task
    assert any(
        b"sleep" in Path(f"/proc/{p}/cmdline").read_bytes() for p in supervise.descendants(process.pid)
    )
    return process


def test_kill_9_of_the_worker_takes_everything_away(stage: Stage, worker: subprocess.Popen[bytes]) -> None:
    family = supervise.descendants(worker.pid)
    worker.kill()
    worker.communicate()
    deadline = time.monotonic() + 2.0
    while (left := [p for p in family if alive(p)]) and time.monotonic() < deadline:
        time.sleep(0.02)

    print(f"COUNT processes of a killed worker: {len(family)}, left after 2 s: {len(left)}")
    assert len(family) >= 4
    assert left == []
    assert living(str(stage.folder)) == []


def test_an_orphan_keeps_its_target_locked(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker and child die at once, without a PID namespace: ansible-playbook still holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(stage.folder), Confinement.TREE.value],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.7)
    family = supervise.descendants(process.pid)
    child = next(p for p in family if b"executors.child" in Path(f"/proc/{p}/cmdline").read_bytes())
    for pid in (process.pid, child):
        os.kill(pid, signal.SIGSTOP)
    for pid in (child, process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    time.sleep(0.3)

    with (stage.folder / "lock").open() as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert list(stage.work.glob("*/session-*")), "the orphan's files are still there"
        stage.executor()
        assert list(stage.work.glob("*/session-*")), "and were not swept away under it"
        for pid in family:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.3)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    stage.executor()
    assert not list(stage.work.glob("*/session-*"))

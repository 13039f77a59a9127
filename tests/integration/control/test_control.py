"""One worker per state directory; everybody else is its client, until it vanishes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from remediate.app import Worker, WorkerBusy, open_tokens
from remediate.control import LocalDesk, RemoteDesk, WorkerGone, connect, socket_address
from remediate.errors import ExitCode, RemediateError
from remediate.guard.identity import Role
from remediate.model.entry import Kind
from remediate.model.run import Outcome, State
from remediate.testing import a_request
from tests.reliability.world import World

IDLE = """
import sys, time
from remediate.config import load_settings
from remediate.control import connect
with connect(load_settings()):
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path / "world")
    yield world
    world.verified()


@pytest.fixture
def other_worker(world):
    """A worker in another process that waits until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", IDLE], env=world.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    yield process
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


def follow(desk, run_id, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        run = desk.run(run_id)
        if run.state is State.CLOSED:
            return run
        assert desk.failure(run_id) is None
        time.sleep(0.05)
    pytest.fail(f"still {run.state}")
    return None


PROOF = {"code": "TST-KILL-PROOF", "target": "h1"}


def test_a_command_beside_a_living_worker_is_its_client(world, other_worker):
    with connect(world.settings) as desk:
        run = desk.submit(a_request(**PROOF))

        assert isinstance(desk, RemoteDesk)
        assert follow(desk, run.id).outcome is Outcome.RECOVERED
        received = desk.entries(run.id, 0)[0]

    assert received.kind is Kind.TRIGGER_RECEIVED
    assert received.actor.id.startswith(f"uid:{os.getuid()}(")
    assert received.actor.auth == "peer"


def test_a_second_worker_is_refused(world, other_worker):
    with pytest.raises(WorkerBusy), Worker.embedded(world.settings):
        pass


def test_a_client_whose_worker_vanishes_becomes_the_worker_and_ends_the_run(world, other_worker):
    with connect(world.settings) as desk:
        run = desk.submit(a_request(**PROOF))
        other_worker.send_signal(signal.SIGKILL)
        other_worker.wait(timeout=30)
        with pytest.raises(WorkerGone):
            desk.run(run.id)

    notes = []
    with connect(world.settings, note=notes.append) as desk:
        assert isinstance(desk, LocalDesk)
        assert follow(desk, run.id).closed

    assert any(run.id in note for note in notes)
    world.check()


def test_an_unknown_token_gets_nothing(world, other_worker):
    desk = RemoteDesk(socket_address(world.settings), "rmt_nobody_" + "0" * 48)

    with pytest.raises(RemediateError) as refused:
        desk.submit(a_request(**PROOF))

    assert refused.value.exit_code is ExitCode.REFUSED
    assert world.runs() == []


def test_a_token_names_the_person_and_its_role_limits_what_it_may_do(world, other_worker):
    token = open_tokens(world.settings).add("carol", Role.APPROVER)
    desk = RemoteDesk(socket_address(world.settings), token)

    with pytest.raises(RemediateError) as refused:
        desk.submit(a_request(**PROOF))

    assert refused.value.exit_code is ExitCode.REFUSED


def test_bad_input_is_refused_across_the_socket_with_its_exit_code(world, other_worker):
    desk = RemoteDesk(socket_address(world.settings), None)

    for target in ("all", "", "h1,h2"):
        with pytest.raises(RemediateError) as refused:
            desk.submit(a_request(code="TST-KILL-PROOF", target=target))
        assert refused.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    "question",
    [b"", b"\n", b"nonsense\n", b"[]\n", b'{"call": "eval"}\n', b'{"call":"run","token":7,"arguments":{}}\n'],
)
def test_a_malformed_question_is_answered_with_an_error_and_harms_nobody(world, other_worker, question):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(socket_address(world.settings)))
        connection.sendall(question)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answers:
            answer = json.loads(answers.readline())

    assert answer["error"]["exit_code"] == ExitCode.USAGE
    assert other_worker.poll() is None


def test_the_socket_is_private_and_gone_with_its_worker(world):
    with connect(world.settings):
        address = socket_address(world.settings)
        assert address.stat().st_mode & 0o777 == 0o600

    assert not address.exists()


@pytest.mark.parametrize(("level", "told"), [("warning", False), ("info", True)])
def test_the_log_level_decides_what_a_worker_tells_of_its_own_working(world, level, told):
    world.environ["REMEDIATE_LOG_LEVEL"] = level

    assert world.start("h1").wait(timeout=60) == 0

    assert ("INFO remediate.executors" in world.log()) is told

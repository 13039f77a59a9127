"""One suite over the fake executor and the real one, on a playbook that is really run."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from remediate.config import packaged_content
from remediate.executors.playbook import PlaybookExecutor
from remediate.model.plan import Phase
from remediate.model.result import PhaseResult, Status
from remediate.model.run import Run
from remediate.ports import PhaseOrder
from remediate.testing import FakeExecutor, a_request, seen

PROOF = Path(__file__).parents[1] / "data" / "proof"


@pytest.fixture
def order(tmp_path):
    """An order for the precheck of the tests' plan, on a broken world."""
    world = tmp_path / "world"
    world.mkdir()
    (world / "state").write_text("broken")
    host = {"ansible_connection": "local", "kill_proof_world": str(world)}
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"victims": {"hosts": {"h1": host, "h2": host}}}))
    run_dir = tmp_path / "run"
    run_dir.mkdir(mode=0o700)
    return PhaseOrder(
        run_id="r1",
        phase=Phase.PRECHECK,
        attempt=1,
        playbook=PROOF / "playbooks" / "kill_proof.yml",
        inventory=inventory,
        target="h1",
        allowed=("h1", "localhost"),
        variables={"remediate_verify_of": "apply"},
        run_dir=run_dir,
        timeout=60,
    )


@pytest.fixture(params=["fake", "real"])
def session(request, tmp_path):
    """A session of the executor, opened for one run."""
    if request.param == "fake":
        executor = FakeExecutor(
            {
                Phase.SNAPSHOT: PhaseResult(status=Status.OK, snapshot={"state": "broken"}, steps=1),
                Phase.VERIFY: PhaseResult(status=Status.OK, observations=seen(True, 1), steps=1),
            }
        )
    else:
        executor = PlaybookExecutor(
            roots=[PROOF, packaged_content()],
            ansible_cfg=None,
            vault_password_file=None,
            work=tmp_path / "work",
            stop_file=tmp_path / "pause",
            extra_env={},
        )
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    run = Run(id="r1", case_id="c1", request=a_request(target="h1"))
    with executor.open(run, lock_fds=[lock]) as opened:
        yield opened
    os.close(lock)


def carry_out(session, order, phase, stop=lambda: None):
    steps = []
    result = session.carry_out(replace(order, phase=phase), on_step=steps.append, should_stop=stop)
    return result, steps


def test_a_remedy_goes_through_its_phases(session, order):
    precheck, _ = carry_out(session, order, Phase.PRECHECK)
    snapshot, _ = carry_out(session, order, Phase.SNAPSHOT)
    apply, steps = carry_out(session, order, Phase.APPLY)
    verify, _ = carry_out(session, order, Phase.VERIFY)

    assert (precheck.status, precheck.healthy) == (Status.OK, False)
    assert snapshot.snapshot == {"state": "broken"}
    assert apply.changed
    assert {step.host for step in steps} == {"h1"}
    assert verify.status is Status.OK
    assert [o.ok for o in verify.observations] == [True]


def test_a_stop_before_the_first_step_leaves_no_step(session, order):
    result, steps = carry_out(session, order, Phase.APPLY, lambda: "cancelled by alice")

    assert result.status is Status.CANCELLED
    assert "cancelled by alice" in result.reason
    assert steps == []


def test_a_result_survives_its_record(session, order):
    result, _ = carry_out(session, order, Phase.SNAPSHOT)

    assert PhaseResult.from_json(json.loads(json.dumps(result.as_json()))) == result

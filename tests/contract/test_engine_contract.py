"""One suite over the real engine on SQLite and the fake one, with the flow on fakes."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from remediate.audit.journal import EmergencyJournal
from remediate.config import load_settings
from remediate.dispatch import Dispatcher
from remediate.engine import DurableEngine
from remediate.errors import AuditUnavailable
from remediate.flow import people
from remediate.flow.context import Parts
from remediate.guard.killswitch import KillSwitch
from remediate.guard.locks import DeviceLocks
from remediate.model.entry import Actor, Kind
from remediate.model.plan import Phase, Risk
from remediate.model.result import PhaseResult, Status
from remediate.model.run import Outcome, State
from remediate.testing import (
    FakeCatalog,
    FakeClock,
    FakeExecutor,
    FakeInventory,
    FakeProbe,
    FakeSecrets,
    InlineEngine,
    MemoryLedger,
    a_plan,
    a_request,
)

BOB = Actor(type="operator", id="bob", auth="token")


@pytest.fixture
def parts(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    environ = {"REMEDIATE_MAX_TARGETS_PER_HOUR_PERCENT": "100", "REMEDIATE_STORM_PERCENT": "100"}
    settings = load_settings(environ={"REMEDIATE_HOME": str(home), "HOME": str(home), **environ})
    clock = FakeClock()
    return Parts(
        settings=settings,
        ledger=MemoryLedger(clock),
        journal=EmergencyJournal(home / "journal"),
        catalog=FakeCatalog(a_plan(), a_plan(code="SEC-SESS-WIDE", risk=Risk.R3)),
        inventory=FakeInventory(groups={"identity": ["iam1", "iam2"]}),
        executor=FakeExecutor(),
        probe_for=lambda _: FakeProbe(),
        kill_switch=KillSwitch(settings.kill_switch),
        locks=DeviceLocks(home / "locks"),
        secrets=FakeSecrets(),
        clock=clock,
    )


def durable(home, dispatcher):
    return DurableEngine(home, dispatcher, limits={"L1": 2, "L2": 2, "L3": 2})


def inline(_, dispatcher):
    return InlineEngine(dispatcher)


@pytest.fixture(params=[durable, inline])
def start(parts, request):
    """Open an engine on the parts; several in turn are workers that follow each other."""
    opened = []

    def open_engine(with_parts=parts):
        if opened:
            opened.pop().close()
        opened.append(request.param(parts.settings.home, Dispatcher(with_parts)))
        return opened[0]

    yield open_engine
    while opened:
        opened.pop().close()


@pytest.fixture
def start_durable(parts):
    """The real engine only, for what a fake cannot show."""
    engine = durable(parts.settings.home, Dispatcher(parts))
    yield engine
    engine.close()


def wait_for(parts, run_id, *states, seconds=20):
    """Until the run is in one of these states."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        run = parts.run(run_id)
        if run.state in states:
            return run
        time.sleep(0.02)
    pytest.fail(f"run is still {parts.run(run_id).state}")
    return None


def test_a_request_is_decided_and_driven_to_its_end(parts, start):
    engine = start()
    run = Dispatcher(parts).accept(a_request())

    engine.start(run.id)

    assert wait_for(parts, run.id, State.CLOSED).outcome is Outcome.RECOVERED


def test_starting_a_run_twice_runs_it_once(parts, start):
    engine = start()
    run = Dispatcher(parts).accept(a_request())

    engine.start(run.id)
    engine.start(run.id)
    wait_for(parts, run.id, State.CLOSED)
    engine.start(run.id)

    assert parts.executor.phases.count(Phase.APPLY) == 1


def test_a_case_waits_for_its_approval_across_workers(parts, start):
    engine = start()
    run = Dispatcher(parts).accept(a_request(code="SEC-SESS-WIDE"))
    engine.start(run.id)
    wait_for(parts, run.id, State.AWAITING_APPROVAL)

    engine = start()
    engine.start(run.id)
    people.approve(parts, run.id, BOB, "approver", "yes")
    engine.start(run.id)

    assert wait_for(parts, run.id, State.CLOSED).outcome is Outcome.RECOVERED
    assert [e.kind for e in parts.ledger.entries(run_id=run.id)].count(Kind.APPROVAL_REQUESTED) == 1


def test_waiting_runs_hold_no_slot(parts, start):
    engine = start()
    waiting = [Dispatcher(parts).accept(a_request(code="SEC-SESS-WIDE", target=t)) for t in ("iam1", "iam2")]
    for run in waiting:
        engine.start(run.id)
        wait_for(parts, run.id, State.AWAITING_APPROVAL)

    other = Dispatcher(parts).accept(a_request())
    engine.start(other.id)

    assert wait_for(parts, other.id, State.CLOSED).outcome is Outcome.RECOVERED


def test_what_stops_the_work_is_told_and_the_next_worker_goes_on(parts, start):
    def no_disk(order):
        raise AuditUnavailable("no space left")

    broken = replace(parts, executor=FakeExecutor({Phase.PRECHECK: no_disk}))
    engine = start(broken)
    run = Dispatcher(broken).accept(a_request())
    engine.start(run.id)
    until = time.monotonic() + 20
    while engine.failure(run.id) is None and time.monotonic() < until:
        time.sleep(0.02)
    assert isinstance(engine.failure(run.id), AuditUnavailable)
    assert not parts.run(run.id).closed

    engine = start(parts)
    engine.start(run.id)

    assert wait_for(parts, run.id, State.CLOSED).outcome is Outcome.RECOVERED


def test_a_lost_engine_database_loses_no_run(parts, start):
    run = Dispatcher(parts).accept(a_request())
    Dispatcher(parts).decide(run.id)
    engine = start()

    engine.start(run.id)

    assert wait_for(parts, run.id, State.CLOSED).outcome is Outcome.RECOVERED


def test_runs_on_two_targets_go_side_by_side(parts, start_durable):
    seen = []

    def slow(order):
        seen.append("begin")
        time.sleep(1)
        seen.append("end")
        return PhaseResult(status=Status.OK, changed=True)

    parts.executor.answers(Phase.APPLY, slow)
    runs = [Dispatcher(parts).accept(a_request(target=t)) for t in ("iam1", "iam2")]

    for run in runs:
        start_durable.start(run.id)
    for run in runs:
        wait_for(parts, run.id, State.CLOSED)

    assert seen == ["begin", "begin", "end", "end"]

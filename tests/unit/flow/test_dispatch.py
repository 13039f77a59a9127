"""The whole flow on fakes: what ends how, and what is on record when."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from remediate.audit.journal import EmergencyJournal
from remediate.config import load_settings
from remediate.dispatch import Dispatcher
from remediate.errors import AuditUnavailable, TargetError, UsageError
from remediate.flow import people
from remediate.flow.context import Parts
from remediate.guard.killswitch import KillSwitch
from remediate.guard.locks import DeviceLocks
from remediate.model.entry import Actor, Kind
from remediate.model.plan import Parameter, Phase, PhaseSpec, Risk, VerifySpec
from remediate.model.result import PhaseResult, Status
from remediate.model.run import Outcome, State
from remediate.testing import (
    FakeCatalog,
    FakeClock,
    FakeExecutor,
    FakeInventory,
    FakeProbe,
    FakeSecrets,
    MemoryLedger,
    a_plan,
    a_request,
    seen,
)

BOB = Actor(type="operator", id="bob", auth="token")
SABOTAGED = {
    Phase.VERIFY: [
        PhaseResult(status=Status.OK, observations=seen(False)),
        PhaseResult(status=Status.OK, observations=seen(True)),
    ]
}


class Desk:
    """A dispatcher on fakes, with what a test wants to look at."""

    def __init__(self, home: Path, plan=None, script=None, probe=None) -> None:
        self.clock = FakeClock()
        self.ledger = MemoryLedger(self.clock)
        self.executor = FakeExecutor(script)
        self.probe = probe or FakeProbe()
        home.mkdir(exist_ok=True)
        settings = load_settings(environ={"REMEDIATE_HOME": str(home), "HOME": str(home)})
        self.parts = Parts(
            settings=settings,
            ledger=self.ledger,
            journal=EmergencyJournal(home / "journal"),
            catalog=FakeCatalog(plan or a_plan()),
            inventory=FakeInventory(
                groups={"identity": ["iam1"], "observers": ["obs1"]},
                host_variables={"iam1": {"remediate_observers": ["obs1"]}},
            ),
            executor=self.executor,
            probe_for=lambda _: self.probe,
            kill_switch=KillSwitch(settings.kill_switch),
            locks=DeviceLocks(home / "locks"),
            secrets=FakeSecrets(),
            clock=self.clock,
        )
        self.dispatcher = Dispatcher(self.parts)

    def ask(self, **changes):
        """Accept and decide; the run as it then stands."""
        run = self.dispatcher.accept(a_request(**changes))
        self.dispatcher.decide(run.id)
        return self.parts.run(run.id)

    def play(self, **changes):
        """Accept, decide and drive to the end."""
        run = self.ask(**changes)
        if run.state is State.QUEUED:
            self.dispatcher.drive(run.id)
        return self.parts.run(run.id)

    def kinds(self, run):
        """The kinds of a run's entries, in order."""
        return [entry.kind for entry in self.ledger.entries(run_id=run.id)]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path / "home")


def test_a_remedy_that_helps_ends_recovered_and_every_step_is_on_record_before_it_is_taken(desk):
    run = desk.play()

    assert run.outcome is Outcome.RECOVERED
    assert desk.executor.phases == [Phase.PRECHECK, Phase.SNAPSHOT, Phase.APPLY, Phase.VERIFY]
    assert desk.kinds(run)[:4] == [Kind.TRIGGER_RECEIVED, Kind.DECISION, Kind.PLAN, Kind.RUN_START]
    assert desk.kinds(run)[-3:] == [Kind.VERIFY, Kind.PHASE_RESULT, Kind.RUN_END]
    assert desk.ledger.checkpoints == ["run end"]
    assert run.restored_at


def test_recovery_is_looked_at_from_the_observer_and_the_role_is_told_so(desk):
    desk.play()

    order = desk.executor.orders[-1]
    assert order.variables["remediate_vantage"] == "obs1"
    assert order.allowed == ("iam1", "obs1", "localhost")


def test_a_fix_that_does_not_help_is_rolled_back_and_that_is_verified_too(tmp_path):
    desk = Desk(tmp_path / "home", script=SABOTAGED)

    run = desk.play()

    assert run.outcome is Outcome.ROLLED_BACK
    assert run.exit_code == 7
    assert desk.executor.orders[-1].variables["remediate_verify_of"] == "rollback"


def test_a_healthy_target_is_left_alone(tmp_path):
    healthy = PhaseResult(status=Status.OK, healthy=True)
    desk = Desk(tmp_path / "home", script={Phase.PRECHECK: healthy})

    run = desk.play()

    assert run.outcome is Outcome.SELF_HEALED
    assert desk.executor.phases == [Phase.PRECHECK]


def test_no_observation_is_no_proof(tmp_path):
    blind = PhaseResult(status=Status.OK, observations=())
    desk = Desk(tmp_path / "home", script={Phase.VERIFY: blind})

    assert desk.play().outcome is Outcome.UNKNOWN


def test_an_unsafe_target_is_refused_recorded_and_touches_nothing(desk):
    for target in ("", " ", ",", "all", "*", "~x", "!h", "@file", "iam1,obs1", "nowhere", "identity"):
        with pytest.raises(TargetError):
            desk.dispatcher.accept(a_request(target=target))

    assert desk.executor.orders == []
    assert {e.kind for e in desk.ledger.entries()} == {Kind.TRIGGER_REJECTED}


def test_a_target_outside_the_plans_groups_is_refused_by_a_guard(desk):
    run = desk.ask(target="obs1")

    assert (run.state, run.outcome) == (State.CLOSED, Outcome.REFUSED)
    assert run.exit_code == 3
    assert desk.kinds(run)[-1] is Kind.RUN_END


def test_an_unknown_parameter_is_an_error(desk):
    with pytest.raises(UsageError):
        desk.dispatcher.accept(a_request(params={"nonsense": "1"}))


def test_nothing_is_done_when_the_trail_cannot_be_written(desk):
    run = desk.ask()
    desk.ledger.fail()

    with pytest.raises(AuditUnavailable):
        desk.dispatcher.drive(run.id)

    assert desk.executor.orders == []


def test_a_trail_that_fails_during_apply_is_followed_by_rollback_and_the_journal(tmp_path):
    desk = Desk(tmp_path / "home")

    def breaks(order):
        desk.ledger.fail()
        return PhaseResult(status=Status.OK, changed=True)

    desk.executor.answers(Phase.APPLY, breaks)
    run = desk.ask()

    with pytest.raises(AuditUnavailable, match="rolled_back"):
        desk.dispatcher.drive(run.id)

    assert desk.executor.phases[-2:] == [Phase.ROLLBACK, Phase.VERIFY]
    kept = [draft.kind for draft in desk.parts.journal.drafts()]
    assert kept[-1] is Kind.RUN_END
    assert not desk.parts.run(run.id).closed

    desk.ledger.mend()
    desk.parts.journal.merge_into(desk.ledger)
    recovered = desk.dispatcher.recover()
    assert [r.id for r in recovered.closed] == [run.id]
    assert desk.parts.run(run.id).outcome is Outcome.ROLLED_BACK


def test_an_interrupted_run_goes_on_from_its_record(tmp_path):
    desk = Desk(tmp_path / "home")

    def crash(order):
        raise KeyboardInterrupt

    desk.executor.answers(Phase.APPLY, crash)
    run = desk.ask()
    with pytest.raises(KeyboardInterrupt):
        desk.dispatcher.drive(run.id)
    desk.executor.answers(Phase.APPLY, PhaseResult(status=Status.OK, changed=True))

    outcome = desk.dispatcher.drive(run.id)

    assert outcome is Outcome.RECOVERED
    assert desk.executor.phases[2:] == [Phase.APPLY, Phase.VERIFY]
    assert Kind.RUN_RESUMED in desk.kinds(desk.parts.run(run.id))


def test_a_cancel_stops_before_the_next_step_and_takes_back_what_was_done(tmp_path):
    desk = Desk(tmp_path / "home", script=SABOTAGED)
    run = desk.ask()

    def cancelled(order):
        people.cancel(desk.parts, run.id, BOB, "wrong host")
        return PhaseResult(status=Status.CANCELLED, reason="cancelled by bob: wrong host", steps=1)

    desk.executor.answers(Phase.APPLY, cancelled)
    desk.executor.answers(Phase.VERIFY, PhaseResult(status=Status.OK, observations=seen(True)))

    desk.dispatcher.drive(run.id)

    assert desk.parts.run(run.id).outcome is Outcome.ROLLED_BACK
    assert "cancelled by bob" in desk.parts.run(run.id).reason


def test_the_kill_switch_stops_a_queued_run(desk):
    run = desk.ask()
    people.pause(desk.parts.kill_switch, lambda: nullcontext(desk.ledger), BOB, "drill")

    desk.dispatcher.drive(run.id)

    assert desk.parts.run(run.id).outcome is Outcome.CANCELLED
    assert desk.executor.orders == []


R3 = a_plan(risk=Risk.R3)


def test_r3_waits_for_a_second_person_and_then_runs(tmp_path):
    desk = Desk(tmp_path / "home", plan=R3)
    run = desk.ask()
    assert run.exit_code == 5

    people.approve(desk.parts, run.id, BOB, "approver", "seen with the duty officer")
    assert desk.dispatcher.due() == (run.id,)
    desk.dispatcher.decide(run.id)
    desk.dispatcher.drive(run.id)

    assert desk.parts.run(run.id).outcome is Outcome.RECOVERED
    assert desk.kinds(run).count(Kind.APPROVAL_REQUESTED) == 1


def test_an_approval_that_does_not_come_is_a_no(tmp_path):
    desk = Desk(tmp_path / "home", plan=R3)
    run = desk.ask()
    assert desk.dispatcher.due() == ()
    desk.clock.advance(desk.parts.settings.approval_expiry + 1)
    assert desk.dispatcher.due() == (run.id,)

    desk.dispatcher.decide(run.id)

    assert desk.parts.run(run.id).outcome is Outcome.REFUSED
    assert Kind.APPROVAL_EXPIRED in desk.kinds(run)


def test_an_approval_that_does_not_count_leaves_the_run_waiting_and_is_judged_once(tmp_path):
    desk = Desk(tmp_path / "home", plan=R3)
    run = desk.ask()
    people.approve(desk.parts, run.id, Actor(type="operator", id="uid:0(root)", auth="uid"), "operator", "")

    desk.dispatcher.decide(run.id)

    assert desk.parts.run(run.id).state is State.AWAITING_APPROVAL
    assert desk.dispatcher.due() == ()


def test_a_new_worker_does_not_judge_again_who_only_waits(tmp_path):
    desk = Desk(tmp_path / "home", plan=R3)
    waiting = desk.ask()
    queued = desk.ask(check=True)

    recovered = desk.dispatcher.recover()

    assert [run.id for run in recovered.resume] == [queued.id]
    assert desk.dispatcher.due() == ()
    assert desk.parts.run(waiting.id).state is State.AWAITING_APPROVAL


def test_one_rejection_is_enough(tmp_path):
    desk = Desk(tmp_path / "home", plan=R3)
    run = desk.ask()
    people.reject(desk.parts, run.id, BOB, "not now")

    desk.dispatcher.decide(run.id)

    assert "rejected by bob: not now" in desk.parts.run(run.id).reason


def test_what_was_approved_is_what_runs(tmp_path):
    desk = Desk(tmp_path / "home", plan=R3)
    run = desk.ask()
    people.approve(desk.parts, run.id, BOB, "approver", "")
    desk.parts = replace(desk.parts, catalog=FakeCatalog(replace(R3, digest="2" * 64)))

    Dispatcher(desk.parts).decide(run.id)

    assert desk.parts.run(run.id).outcome is Outcome.REFUSED
    assert "changed while it waited" in desk.parts.run(run.id).reason


def test_content_that_changes_between_decision_and_run_is_not_run(desk):
    run = desk.ask()
    desk.parts = replace(desk.parts, catalog=FakeCatalog(a_plan(digest="2" * 64)))

    Dispatcher(desk.parts).drive(run.id)

    assert desk.parts.run(run.id).outcome is Outcome.REFUSED
    assert desk.executor.orders == []


def test_broken_glass_is_alarmed_and_listed_until_somebody_else_reviews_it(tmp_path):
    desk = Desk(tmp_path / "home", plan=R3)

    run = desk.play(break_glass=True, reason="nobody else on call")

    assert run.outcome is Outcome.RECOVERED
    assert Kind.GUARD_OVERRIDE in desk.kinds(run)
    assert desk.ledger.flags("review") == {run.id: "nobody else on call"}
    people.review(desk.parts, run.id, BOB, "was right")
    assert desk.ledger.flags("review") == {}


def test_a_dry_run_applies_in_check_mode_and_verifies_nothing(desk):
    run = desk.play(check=True)

    assert run.outcome is Outcome.DRY_RUN
    assert [order.check for order in desk.executor.orders] == [False, False, True]
    assert not run.acted


FOREIGN = a_plan(
    foreign=True,
    phases={Phase.APPLY: PhaseSpec(timeout=20)},
    verify=VerifySpec(probe="tcp", address="{host}:22"),
    parameters=(Parameter(name="unit", type="str"),),
)


def test_a_foreign_playbook_is_looked_at_before_and_after_by_the_probe(tmp_path):
    desk = Desk(tmp_path / "home", plan=FOREIGN, probe=FakeProbe(ok=False))

    def heals(order):
        desk.probe.ok = True
        return PhaseResult(status=Status.OK, changed=True, steps=1)

    desk.executor.answers(Phase.APPLY, heals)

    run = desk.play(params={"unit": "nginx"})

    assert run.outcome is Outcome.RECOVERED
    assert desk.executor.phases == [Phase.APPLY]
    assert desk.executor.orders[0].variables == {"unit": "nginx"}
    assert desk.executor.orders[0].allowed == ("iam1", "localhost")


def test_a_foreign_playbook_that_changes_nothing_never_recovers(tmp_path):
    desk = Desk(tmp_path / "home", plan=FOREIGN, probe=FakeProbe(ok=False))
    desk.executor.answers(Phase.APPLY, PhaseResult(status=Status.OK, changed=True, steps=1))

    run = desk.play()

    assert run.outcome is Outcome.FAILED
    assert "no rollback" in run.reason


def test_the_raw_trigger_and_the_snapshot_are_files_not_variables(desk):
    seen_files = {}

    def look(order):
        seen_files["trigger"] = (order.run_dir / "trigger.json").read_text()
        seen_files["snapshot"] = (order.run_dir / "snapshot.json").read_text()
        return PhaseResult(status=Status.OK, changed=True)

    desk.executor.answers(Phase.APPLY, look)

    run = desk.play(raw='{"labels": "{{ 7*7 }}"}')

    assert seen_files == {"trigger": '{"labels": "{{ 7*7 }}"}', "snapshot": '{"epoch": 1}'}
    assert not desk.parts.run_dir(run).exists()


def test_a_run_cancelled_while_it_waits_for_its_host_changes_nothing(desk):
    run = desk.ask()
    with desk.parts.locks.hold(["iam1"], "", run_id="other", should_stop=lambda: None, wait=1):
        people.cancel(desk.parts, run.id, BOB, "not needed any more")

        desk.dispatcher.drive(run.id)

    assert desk.parts.run(run.id).outcome is Outcome.CANCELLED
    assert desk.executor.orders == []

"""The driver decides from recorded attempts alone; every row here is one situation of a run."""

from __future__ import annotations

import itertools

import pytest

from remediate.model.driver import (
    MAX_ATTEMPTS,
    Attempt,
    Circumstances,
    Close,
    Perform,
    Purpose,
    next_move,
)
from remediate.model.plan import Phase, PhaseSpec
from remediate.model.result import PhaseResult, Status
from remediate.model.run import Cause, Outcome
from remediate.testing import a_plan, seen

NOW = Circumstances()
CHECK = Circumstances(check=True)
FOREIGN = a_plan(foreign=True, phases={Phase.APPLY: PhaseSpec(timeout=20)})
ONCE = a_plan(phases={**a_plan().phases, Phase.APPLY: PhaseSpec(timeout=20, idempotent=False)})


def attempt(phase: Phase, status: Status | None = Status.OK, number: int = 1, **more: object) -> Attempt:
    """One phase; without a status it was interrupted."""
    known = {"purpose": more.pop("purpose", Purpose.NONE), "verified": more.pop("verified", False)}
    result = None if status is None else PhaseResult(status=status, reason=f"{phase} {status}", **more)  # type: ignore[arg-type]
    return Attempt(phase=phase, number=number, result=result, **known)  # type: ignore[arg-type]


PRE = attempt(Phase.PRECHECK)
SNAP = attempt(Phase.SNAPSHOT)
FIXED = attempt(Phase.APPLY, changed=True, steps=1)
PROVED = attempt(Phase.VERIFY, purpose=Purpose.APPLY, verified=True, observations=seen(True))
DENIED = attempt(Phase.VERIFY, purpose=Purpose.APPLY, observations=seen(False))
BLIND = attempt(Phase.VERIFY, Status.UNREACHABLE, purpose=Purpose.APPLY)
BACK = attempt(Phase.ROLLBACK, changed=True, steps=1)
BACK_PROVED = attempt(Phase.VERIFY, purpose=Purpose.ROLLBACK, verified=True, observations=seen(True))
BACK_DENIED = attempt(Phase.VERIFY, purpose=Purpose.ROLLBACK, observations=seen(False))


def test_a_run_begins_with_the_precheck_and_goes_on_phase_by_phase():
    assert next_move(a_plan(), [], NOW) == Perform(phase=Phase.PRECHECK)
    assert next_move(a_plan(), [PRE], NOW) == Perform(phase=Phase.SNAPSHOT)
    assert next_move(a_plan(), [PRE, SNAP], NOW) == Perform(phase=Phase.APPLY)
    assert next_move(a_plan(), [PRE, SNAP, FIXED], NOW) == Perform(phase=Phase.VERIFY, purpose=Purpose.APPLY)


ENDS = {
    "a healthy target is left alone": ([attempt(Phase.PRECHECK, healthy=True)], Outcome.SELF_HEALED),
    "a precheck that fails changes nothing": ([attempt(Phase.PRECHECK, Status.FAILED)], Outcome.FAILED),
    "no host matched is a failure": ([attempt(Phase.PRECHECK, Status.NOTHING_MATCHED)], Outcome.FAILED),
    "no host matched in apply is one too": (
        [PRE, SNAP, attempt(Phase.APPLY, Status.NOTHING_MATCHED)],
        Outcome.FAILED,
    ),
    "recovered needs the proof": ([PRE, SNAP, FIXED, PROVED], Outcome.RECOVERED),
    "an apply that changed nothing did not recover anything": (
        [PRE, SNAP, attempt(Phase.APPLY), PROVED],
        Outcome.SELF_HEALED,
    ),
    "proved after a crash is recovered": ([PRE, SNAP, attempt(Phase.APPLY, None), PROVED], Outcome.RECOVERED),
    "a proved rollback is rolled back": ([PRE, SNAP, FIXED, DENIED, BACK, BACK_PROVED], Outcome.ROLLED_BACK),
    "a denied rollback is a failure": ([PRE, SNAP, FIXED, DENIED, BACK, BACK_DENIED], Outcome.FAILED),
    "a rollback nobody could look at is unknown": (
        [PRE, SNAP, FIXED, DENIED, BACK, attempt(Phase.VERIFY, Status.FAILED, purpose=Purpose.ROLLBACK)],
        Outcome.UNKNOWN,
    ),
    "a stop before the first step of apply changed nothing": (
        [PRE, SNAP, attempt(Phase.APPLY, Status.CANCELLED)],
        Outcome.CANCELLED,
    ),
    "a rollback stopped by the kill switch is unknown": (
        [PRE, SNAP, FIXED, DENIED, attempt(Phase.ROLLBACK, Status.CANCELLED)],
        Outcome.UNKNOWN,
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_how_a_run_ends(name):
    history, outcome = ENDS[name]

    move = next_move(a_plan(), history, NOW)

    assert isinstance(move, Close)
    assert move.outcome is outcome


GOES_ON = {
    "a failed apply is taken back": (
        [PRE, SNAP, attempt(Phase.APPLY, Status.FAILED, steps=1)],
        Phase.ROLLBACK,
    ),
    "a fix that does not help is taken back": ([PRE, SNAP, FIXED, DENIED], Phase.ROLLBACK),
    "what could not be looked at is taken back": ([PRE, SNAP, FIXED, BLIND], Phase.ROLLBACK),
    "after a crash in apply: look first": ([PRE, SNAP, attempt(Phase.APPLY, None)], Phase.VERIFY),
    "after a time-out in apply: look first": (
        [PRE, SNAP, attempt(Phase.APPLY, Status.TIMED_OUT)],
        Phase.VERIFY,
    ),
    "an idempotent apply is repeated when the look says no": (
        [PRE, SNAP, attempt(Phase.APPLY, None), DENIED],
        Phase.APPLY,
    ),
    "a timed-out apply is not repeated": (
        [PRE, SNAP, attempt(Phase.APPLY, Status.TIMED_OUT), DENIED],
        Phase.ROLLBACK,
    ),
    "and only once": (
        [PRE, SNAP, attempt(Phase.APPLY, None), DENIED, attempt(Phase.APPLY, None, 2), DENIED],
        Phase.ROLLBACK,
    ),
    "an interrupted precheck is repeated": ([attempt(Phase.PRECHECK, None)], Phase.PRECHECK),
    "an interrupted rollback is repeated": (
        [PRE, SNAP, FIXED, DENIED, attempt(Phase.ROLLBACK, None)],
        Phase.ROLLBACK,
    ),
    "a rollback is verified": ([PRE, SNAP, FIXED, DENIED, BACK], Phase.VERIFY),
    "a failed rollback is looked at all the same": (
        [PRE, SNAP, FIXED, DENIED, attempt(Phase.ROLLBACK, Status.FAILED)],
        Phase.VERIFY,
    ),
}


@pytest.mark.parametrize("name", GOES_ON)
def test_what_comes_next(name):
    history, phase = GOES_ON[name]

    move = next_move(a_plan(), history, NOW)

    assert isinstance(move, Perform)
    assert move.phase is phase


def test_what_the_plan_does_not_call_idempotent_is_never_repeated():
    history = [PRE, SNAP, attempt(Phase.APPLY, None), DENIED]

    assert next_move(ONCE, history, NOW) == Perform(phase=Phase.ROLLBACK)


def test_a_foreign_playbook_has_no_snapshot_and_no_rollback():
    assert next_move(FOREIGN, [PRE], NOW) == Perform(phase=Phase.APPLY)

    denied = next_move(FOREIGN, [PRE, FIXED, DENIED], NOW)
    blind = next_move(FOREIGN, [PRE, FIXED, BLIND], NOW)
    failed_but_fine = next_move(FOREIGN, [PRE, attempt(Phase.APPLY, Status.FAILED, steps=1), PROVED], NOW)

    assert [m.outcome for m in (denied, blind, failed_but_fine)] == [  # type: ignore[union-attr]
        Outcome.FAILED,
        Outcome.UNKNOWN,
        Outcome.FAILED,
    ]
    assert denied.escalate  # type: ignore[union-attr]
    assert "no rollback" in denied.reason  # type: ignore[union-attr]


def test_a_dry_run_ends_after_apply():
    assert next_move(a_plan(), [PRE, SNAP, FIXED], CHECK).outcome is Outcome.DRY_RUN  # type: ignore[union-attr]
    assert next_move(a_plan(), [attempt(Phase.PRECHECK, healthy=True)], CHECK).outcome is Outcome.DRY_RUN  # type: ignore[union-attr]


@pytest.mark.parametrize("history", [[], [PRE], [PRE, SNAP]])
def test_a_cancel_before_apply_changes_nothing(history):
    move = next_move(a_plan(), history, Circumstances(stop="cancelled by alice"))

    assert isinstance(move, Close)
    assert (move.outcome, move.cause) == (Outcome.CANCELLED, Cause.STOPPED)


def test_an_unreachable_target_is_named_as_such():
    move = next_move(a_plan(), [attempt(Phase.PRECHECK, Status.UNREACHABLE)], NOW)

    assert isinstance(move, Close)
    assert move.cause is Cause.UNREACHABLE


def test_a_trail_that_fails_after_apply_brings_the_target_back():
    degraded = Circumstances(degraded=True)

    assert next_move(a_plan(), [PRE, SNAP, FIXED], degraded) == Perform(phase=Phase.ROLLBACK)
    assert next_move(FOREIGN, [PRE, FIXED], degraded).outcome is Outcome.UNKNOWN  # type: ignore[union-attr]


@pytest.mark.parametrize("plan", [a_plan(), ONCE, FOREIGN], ids=["idempotent", "once", "foreign"])
def test_whatever_happens_every_run_ends_and_recovered_is_always_proved(plan):
    """Every path through the driver, with each kind of end at each step: it never loops."""
    endings = [None, Status.OK, Status.FAILED, Status.TIMED_OUT]
    ended = 0
    stack: list[list[Attempt]] = [[]]
    while stack:
        history = stack.pop()
        move = next_move(plan, history, NOW)
        if isinstance(move, Close):
            ended += 1
            if move.outcome is Outcome.RECOVERED:
                assert history[-1].verified
                assert history[-1].purpose is Purpose.APPLY
            continue
        assert move.number <= MAX_ATTEMPTS
        assert len(history) < 14
        for status, verified in itertools.product(endings, (False, True)):
            if verified and (status is not Status.OK or move.phase is not Phase.VERIFY):
                continue
            stack.append(
                [
                    *history,
                    attempt(
                        move.phase,
                        status,
                        move.number,
                        purpose=move.purpose,
                        verified=verified,
                        changed=True,
                        steps=1,
                    ),
                ]
            )
    print(f"COUNT driver paths walked to their end: {ended}")
    assert ended > 1000 or plan is FOREIGN

"""What a run has to do next, from nothing but what is recorded of it.

The driver is a pure function, so a run can be taken up again after a crash at any line: an intent
without a result means that what was done is *unknown*. The order then is the one of a careful
operator: look first; repeat only what the plan calls idempotent; otherwise roll back; where that
cannot be proved either, hand over to a person. Every phase has a bounded number of attempts, so
nothing here can loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from remediate.model.entry import Entry, Kind
from remediate.model.plan import Phase, Plan
from remediate.model.result import PhaseResult, Status
from remediate.model.run import Cause, Outcome

#: How often one phase (of one purpose) may be begun; the second time only after a crash.
MAX_ATTEMPTS = 2

#: Ends after which nobody can say what the phase did.
_UNKNOWN = (Status.LOST, Status.TIMED_OUT)


class Purpose(StrEnum):
    """What a verification is to prove."""

    NONE = ""
    #: The remedy helped.
    APPLY = "apply"
    #: The state is again the one of the snapshot.
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One phase that was begun; without a result it was interrupted."""

    phase: Phase
    number: int
    purpose: Purpose = Purpose.NONE
    result: PhaseResult | None = None
    #: Verification only: the recorded verdict.
    verified: bool = False

    @property
    def unknown(self) -> bool:
        """Whether nobody knows what it did."""
        return self.result is None or self.result.status in _UNKNOWN

    @property
    def interrupted(self) -> bool:
        """Whether it never came to an end of its own: a crash, or a child that vanished."""
        return self.result is None or self.result.status is Status.LOST

    @property
    def status(self) -> Status:
        """How it ended; `LOST` when it was interrupted."""
        return Status.LOST if self.result is None else self.result.status

    @property
    def reason(self) -> str:
        """Why it ended so, for people."""
        if self.result is None:
            return f"{self.phase.value} was interrupted before it reported"
        return self.result.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Perform:
    """Begin this phase."""

    phase: Phase
    number: int = 1
    purpose: Purpose = Purpose.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """Nothing more to do; say this."""

    outcome: Outcome
    reason: str
    cause: Cause = Cause.NONE
    #: A person has to take over.
    escalate: bool = False


Move = Perform | Close


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What besides the record decides the next move."""

    #: Report what would change and touch nothing.
    check: bool = False
    #: Somebody asked to stop (cancel); the sentence says who and why.
    stop: str = ""
    #: The trail cannot be written any more: finish in the safe state, begin nothing new.
    degraded: bool = False


def attempts(entries: Iterable[Entry]) -> tuple[Attempt, ...]:
    """The phases a run has begun, in order, read from its entries."""
    found: list[Attempt] = []
    for entry in entries:
        if entry.kind is Kind.PHASE_INTENT:
            found.append(
                Attempt(
                    phase=Phase(entry.data["phase"]),
                    number=int(entry.data["attempt"]),
                    purpose=Purpose(entry.data.get("purpose", "")),
                )
            )
        elif entry.kind is Kind.PHASE_RESULT and found:
            found[-1] = replace(found[-1], result=PhaseResult.from_json(entry.data))
        elif entry.kind is Kind.VERIFY and found:
            found[-1] = replace(found[-1], verified=entry.data.get("ok") is True)
    return tuple(found)


def next_move(plan: Plan, history: Sequence[Attempt], circumstances: Circumstances) -> Move:
    """The next phase to begin, or how the run ends."""
    if not history:
        if circumstances.stop:
            return _stopped(circumstances.stop)
        return Perform(phase=Phase.PRECHECK)
    last = history[-1]
    return _AFTER[last.phase](plan, history, last, circumstances)


def _stopped(reason: str) -> Close:
    return Close(outcome=Outcome.CANCELLED, reason=f"{reason}; nothing was changed", cause=Cause.STOPPED)


def _again(last: Attempt) -> Perform:
    return Perform(phase=last.phase, number=last.number + 1, purpose=last.purpose)


def _nothing_changed(last: Attempt) -> Close:
    """End of a run whose reading phases did not succeed: the target is as it was."""
    if last.status is Status.CANCELLED:
        return _stopped(last.reason)
    cause = Cause.UNREACHABLE if last.status is Status.UNREACHABLE else Cause.NONE
    return Close(outcome=Outcome.FAILED, reason=f"{last.reason}; nothing was changed", cause=cause)


def _after_precheck(plan: Plan, _: Sequence[Attempt], last: Attempt, now: Circumstances) -> Move:
    if last.interrupted and last.number < MAX_ATTEMPTS:
        return _again(last)
    if last.status is not Status.OK:
        return _nothing_changed(last)
    if last.result is not None and last.result.healthy:
        what = "the precheck finds the target healthy"
        if now.check:
            return Close(outcome=Outcome.DRY_RUN, reason=f"{what}: a run would end self_healed")
        return Close(outcome=Outcome.SELF_HEALED, reason=f"{what}; nothing was changed")
    if now.stop:
        return _stopped(now.stop)
    return Perform(phase=Phase.SNAPSHOT if Phase.SNAPSHOT in plan.phases else Phase.APPLY)


def _after_snapshot(_: Plan, __: Sequence[Attempt], last: Attempt, now: Circumstances) -> Move:
    if last.interrupted and last.number < MAX_ATTEMPTS:
        return _again(last)
    if last.status is not Status.OK:
        return _nothing_changed(last)
    if now.stop:
        return _stopped(now.stop)
    return Perform(phase=Phase.APPLY)


def _after_apply(plan: Plan, _: Sequence[Attempt], last: Attempt, now: Circumstances) -> Move:
    if now.check:
        return _end_of_dry_run(last)
    if last.status is Status.NOTHING_MATCHED:
        return _nothing_changed(last)
    if last.status is Status.CANCELLED and last.result is not None and not last.result.steps:
        return _stopped(last.reason)
    if now.degraded:
        return _take_back(plan, "the audit trail cannot be written, so the run must not go on")
    if last.status is Status.OK or last.unknown:
        return Perform(phase=Phase.VERIFY, purpose=Purpose.APPLY)
    if plan.has_rollback:
        return Perform(phase=Phase.ROLLBACK)
    if last.status is Status.CANCELLED:
        return _take_back(plan, last.reason)
    return Perform(phase=Phase.VERIFY, purpose=Purpose.APPLY)


def _end_of_dry_run(last: Attempt) -> Close:
    if last.status is Status.OK:
        return Close(outcome=Outcome.DRY_RUN, reason="dry run: nothing was changed")
    return _nothing_changed(last)


def _take_back(plan: Plan, why: str) -> Move:
    """Roll back, or say plainly that nobody can."""
    if plan.has_rollback:
        return Perform(phase=Phase.ROLLBACK)
    return Close(
        outcome=Outcome.UNKNOWN,
        reason=f"{why}; this plan has no rollback: look at the target yourself",
        cause=Cause.NOT_VERIFIED,
        escalate=True,
    )


def _after_verify(plan: Plan, history: Sequence[Attempt], last: Attempt, now: Circumstances) -> Move:
    if last.interrupted and last.number < MAX_ATTEMPTS:
        return _again(last)
    if last.purpose is Purpose.ROLLBACK:
        return _after_rollback_verified(history, last)
    remedy = _latest(history, Phase.APPLY)
    if last.verified:
        return _proved(remedy)
    if now.degraded:
        return _take_back(plan, "the audit trail cannot be written, so the run must not go on")
    if remedy.interrupted and _repeatable(plan, remedy):
        return _again(remedy)
    if plan.has_rollback:
        return Perform(phase=Phase.ROLLBACK)
    return _not_proved(remedy, last)


def _repeatable(plan: Plan, remedy: Attempt) -> bool:
    return plan.phases[Phase.APPLY].idempotent and remedy.number < MAX_ATTEMPTS


def _proved(remedy: Attempt) -> Close:
    """The target was looked at from elsewhere and is healthy: whose merit is it?"""
    if remedy.status is Status.FAILED:
        return Close(
            outcome=Outcome.FAILED,
            reason=f"{remedy.reason}; yet the probe finds the target healthy: check what is half done",
            escalate=True,
        )
    if remedy.result is not None and remedy.status is Status.OK and not remedy.result.changed:
        return Close(
            outcome=Outcome.SELF_HEALED,
            reason="apply changed nothing and the probe finds the target healthy",
        )
    how = "verified after an interrupted apply" if remedy.unknown else "verified"
    return Close(outcome=Outcome.RECOVERED, reason=f"{how}: the probe finds the target healthy")


def _not_proved(remedy: Attempt, last: Attempt) -> Close:
    """No rollback to fall back on: failed when the probe saw the fault, unknown when it saw nothing."""
    seen = last.result is not None and any(not o.ok for o in last.result.observations)
    what = remedy.reason if remedy.status is Status.FAILED else "the remedy was carried out"
    return Close(
        outcome=Outcome.FAILED if seen else Outcome.UNKNOWN,
        reason=f"{what}, but recovery is not proved: {last.reason}; this plan has no rollback",
        cause=Cause.NOT_VERIFIED,
        escalate=True,
    )


def _after_rollback(_: Plan, __: Sequence[Attempt], last: Attempt, ___: Circumstances) -> Move:
    if last.unknown and last.number < MAX_ATTEMPTS:
        return _again(last)
    if last.status is Status.CANCELLED:
        return Close(
            outcome=Outcome.UNKNOWN,
            reason=f"{last.reason}: the rollback was not finished; look at the target yourself",
            cause=Cause.STOPPED,
            escalate=True,
        )
    return Perform(phase=Phase.VERIFY, purpose=Purpose.ROLLBACK)


def _after_rollback_verified(history: Sequence[Attempt], last: Attempt) -> Close:
    why = _why_taken_back(history)
    if last.verified:
        return Close(
            outcome=Outcome.ROLLED_BACK,
            reason=f"{why}; rolled back, and the state before is proved to be back",
            cause=Cause.NOT_VERIFIED,
        )
    seen = last.result is not None and any(not o.ok for o in last.result.observations)
    return Close(
        outcome=Outcome.FAILED if seen else Outcome.UNKNOWN,
        reason=f"{why}; the rollback could not be verified ({last.reason}): take over by hand",
        cause=Cause.NOT_VERIFIED,
        escalate=True,
    )


def _why_taken_back(history: Sequence[Attempt]) -> str:
    remedy = _latest(history, Phase.APPLY)
    if remedy.status not in (Status.OK, *_UNKNOWN):
        return remedy.reason
    looked = [a for a in history if a.phase is Phase.VERIFY and a.purpose is Purpose.APPLY]
    if looked:
        return f"the fix did not help: {looked[-1].reason}"
    return "the run could not go on"


def _latest(history: Sequence[Attempt], phase: Phase) -> Attempt:
    return next(a for a in reversed(history) if a.phase is phase)


_AFTER = {
    Phase.PRECHECK: _after_precheck,
    Phase.SNAPSHOT: _after_snapshot,
    Phase.APPLY: _after_apply,
    Phase.VERIFY: _after_verify,
    Phase.ROLLBACK: _after_rollback,
}

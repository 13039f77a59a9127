"""What people decide besides asking for a run: approve, reject, cancel, pause, resume, arm, review."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from remediate.errors import PermissionRefused, UsageError
from remediate.flow.context import CANCEL, Parts
from remediate.flow.decision import REVIEW, expiry_of
from remediate.flow.gather import ARMING, arming_of
from remediate.guard.killswitch import KillSwitch
from remediate.model.entry import Actor, Draft, Kind
from remediate.model.plan import Arming
from remediate.model.run import Run, State
from remediate.ports import Ledger, Transaction


def approve(parts: Parts, run_id: str, actor: Actor, role: str, reason: str) -> Run:
    """Record a second person's yes to the plan hash that waits; the case looks again afterwards."""
    run = _waiting(parts, run_id)
    _second_person(run, actor)
    parts.ledger.append(
        _about(
            run,
            Kind.APPROVAL_GRANTED,
            actor,
            {
                "plan_hash": run.plan_hash,
                "approver": actor.id,
                "method": actor.auth,
                "role": role,
                "reason": reason,
                "expires_at": expiry_of(parts, run),
            },
        )
    )
    return run


def reject(parts: Parts, run_id: str, actor: Actor, reason: str) -> Run:
    """Record a no; one is enough."""
    run = _waiting(parts, run_id)
    _reasoned(reason, "a rejection")
    parts.ledger.append(
        _about(
            run,
            Kind.APPROVAL_REJECTED,
            actor,
            {"plan_hash": run.plan_hash, "approver": actor.id, "method": actor.auth, "reason": reason},
        )
    )
    return run


def cancel(parts: Parts, run_id: str, actor: Actor, reason: str) -> Run:
    """Record the wish to stop a run; it stops before its next step, and what was done is taken back."""
    run = parts.run(run_id)
    if run.closed:
        outcome = run.outcome.value if run.outcome else "closed"
        raise UsageError(f"run {run_id} is closed already ({outcome}); there is nothing to cancel")
    why = f"cancelled by {actor.id}" + (f": {reason}" if reason else "")

    def work(tx: Transaction) -> None:
        tx.append(_about(run, Kind.RUN_CANCEL_REQUESTED, actor, {"reason": reason}))
        tx.set_flag(CANCEL, run.id, why)

    parts.ledger.write(work)
    return run


def pause(
    kill_switch: KillSwitch,
    open_ledger: Callable[[], AbstractContextManager[Ledger]],
    actor: Actor,
    reason: str,
) -> None:
    """Engage the kill switch first, then open the trail and record it: stopping waits for no disk."""
    kill_switch.engage(reason, actor.id)
    with open_ledger() as ledger:
        ledger.append(Draft(kind=Kind.KILL_SWITCH, actor=actor, data={"engaged": True, "reason": reason}))


def resume(kill_switch: KillSwitch, ledger: Ledger, actor: Actor, reason: str) -> None:
    """Record the release first, then release: nothing may run on an unrecorded word."""
    _reasoned(reason, "`resume`")
    if kill_switch.engaged() is None:
        raise UsageError("the kill switch is not engaged; there is nothing to resume")
    ledger.append(Draft(kind=Kind.KILL_SWITCH, actor=actor, data={"engaged": False, "reason": reason}))
    kill_switch.release()


def arm(parts: Parts, code: str, level: Arming, actor: Actor, reason: str) -> Arming:
    """Set how far a fault code may act by itself; the level it had before."""
    plan = parts.catalog.plan(code)
    before = arming_of(parts, plan)
    _reasoned(reason, "`catalog arm`")

    def work(tx: Transaction) -> None:
        tx.append(
            Draft(
                kind=Kind.CONFIG_CHANGE,
                actor=actor,
                fault_code=plan.code,
                data={"what": "arming", "from": before.value, "to": level.value, "reason": reason},
            )
        )
        tx.set_flag(ARMING, plan.code, level.value)

    parts.ledger.write(work)
    return before


def review(parts: Parts, run_id: str, actor: Actor, reason: str) -> Run:
    """Close the review of a break-glass run; never by the one who broke the glass."""
    run = parts.run(run_id)
    if not parts.ledger.flag(REVIEW, run_id):
        raise UsageError(f"run {run_id} does not wait for a review")
    _second_person(run, actor)
    _reasoned(reason, "a review")

    def work(tx: Transaction) -> None:
        tx.append(_about(run, Kind.OVERRIDE_REVIEWED, actor, {"reason": reason}))
        tx.set_flag(REVIEW, run_id, "")

    parts.ledger.write(work)
    return run


def _waiting(parts: Parts, run_id: str) -> Run:
    run = parts.run(run_id)
    if run.state is not State.AWAITING_APPROVAL:
        state = run.outcome.value if run.outcome else run.state.value
        raise UsageError(f"run {run_id} does not wait for an approval; it is {state}")
    return run


def _second_person(run: Run, actor: Actor) -> None:
    if actor.id == run.request.actor.id:
        raise PermissionRefused(f"{actor.id} asked for this run, so somebody else has to decide on it")


def _reasoned(reason: str, what: str) -> None:
    if not reason.strip():
        raise UsageError(f"{what} needs a reason; add `--reason TEXT`")


def _about(run: Run, kind: Kind, actor: Actor, data: dict[str, str]) -> Draft:
    return Draft(
        kind=kind,
        actor=actor,
        run_id=run.id,
        case_id=run.case_id,
        target=run.request.target,
        fault_code=run.request.code,
        data=dict(data),
    )

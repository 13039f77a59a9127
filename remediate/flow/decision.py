"""Guards say yes, no or wait; the answer and its reasons are on record before anything follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from remediate.flow.context import Parts
from remediate.flow.gather import arming_of, gather, plan_hash, resolve_touches, resolve_vantage
from remediate.flow.intake import understand
from remediate.flow.times import rfc3339
from remediate.guard.policy import Ruling
from remediate.guard.policy import decision as decide
from remediate.guard.policy import judge as ask_guards
from remediate.model.driver import Close
from remediate.model.entry import Draft, Kind
from remediate.model.guard import GuardVerdict
from remediate.model.plan import Plan
from remediate.model.run import Cause, Outcome, Request, Run, State
from remediate.ports import Transaction

#: Scope of the durable flags that list break-glass runs somebody still has to review.
REVIEW = "review"


def explain(parts: Parts, request: Request) -> tuple[GuardVerdict, ...]:
    """Every guard's verdict on a request that is not recorded."""
    plan, understood = understand(request, catalog=parts.catalog, inventory=parts.inventory)
    run = resolve(parts, plan, Run(id="", case_id="", request=understood))
    return ask_guards(gather(parts, plan, run))


def resolve(parts: Parts, plan: Plan, run: Run) -> Run:
    """The run with everything that the plan hash freezes: hosts, vantage, domain, risk."""
    target = run.request.target
    touches = resolve_touches(plan, parts.inventory, target)
    variables = parts.inventory.variables(target)
    resolved = replace(
        run,
        plan=plan.slug,
        tier=plan.tier.value,
        risk=plan.risk_of(run.request.params).value,
        arming=arming_of(parts, plan).value,
        touches=touches,
        vantage=resolve_vantage(plan, parts.inventory, target, touches),
        failure_domain=str(variables.get(plan.guards.failure_domain) or ""),
    )
    return replace(resolved, plan_hash=plan_hash(plan, resolved, parts.inventory))


def judge(parts: Parts, run: Run) -> Run:
    """Decide on a request that was received or waits for approval; others stay as they are."""
    if run.state not in (State.RECEIVED, State.AWAITING_APPROVAL):
        return run
    plan = parts.catalog.plan(run.request.code)
    resolved = resolve(parts, plan, run)
    if run.state is State.AWAITING_APPROVAL:
        if ended := _ended_while_waiting(parts, run, resolved):
            return ended
    else:
        resolved = replace(resolved, decided_at=rfc3339(parts.clock.now()))
    verdicts = ask_guards(gather(parts, plan, resolved))
    answer = decide(verdicts)
    if answer.verdict is Ruling.RUN:
        return _commit(parts, replace(resolved, state=State.QUEUED), plan, verdicts, answer.reason)
    if answer.verdict is Ruling.HOLD:
        return _wait(parts, resolved, plan, verdicts, answer.reason)
    refused = _closed(parts, resolved, Outcome.REFUSED, answer.reason)
    return _commit(parts, refused, plan, verdicts, answer.reason)


def _ended_while_waiting(parts: Parts, run: Run, resolved: Run) -> Run | None:
    """A wait that is over without a yes: cancelled, rejected, expired, or its subject has changed."""
    if why := parts.cancelled(run.id):
        return _end_wait(parts, _closed(parts, run, Outcome.CANCELLED, why))
    rejected = parts.ledger.entries(run_id=run.id, kinds=(Kind.APPROVAL_REJECTED,))
    if rejected:
        data = rejected[-1].data
        return _end_wait(
            parts, _closed(parts, run, Outcome.REFUSED, f"rejected by {data['approver']}: {data['reason']}")
        )
    if rfc3339(parts.clock.now()) > expiry_of(parts, run):
        expired = _draft(run, Kind.APPROVAL_EXPIRED, {"plan_hash": run.plan_hash})
        why = "nobody approved in time; an approval that is not given counts as no"
        return _end_wait(parts, _closed(parts, run, Outcome.REFUSED, why), expired)
    if resolved.plan_hash != run.plan_hash:
        why = "the plan, its parameters or the inventory changed while it waited for approval; ask again"
        return _end_wait(parts, _closed(parts, run, Outcome.REFUSED, why))
    return None


def expiry_of(parts: Parts, run: Run) -> str:
    """Until when the run waits for a yes; the empty string when it does not wait."""
    asked = parts.ledger.entries(run_id=run.id, kinds=(Kind.APPROVAL_REQUESTED,))
    return str(asked[-1].data["expires_at"]) if asked else ""


def is_due(parts: Parts, run: Run) -> bool:
    """Whether a run that waits has something new to be judged by: a person's word, or its expiry."""
    if run.state is not State.AWAITING_APPROVAL:
        return False
    if rfc3339(parts.clock.now()) > expiry_of(parts, run):
        return True
    words = (Kind.APPROVAL_GRANTED, Kind.APPROVAL_REJECTED, Kind.RUN_CANCEL_REQUESTED)
    newest = parts.ledger.entries(run_id=run.id, kinds=(*words, Kind.DECISION), newest_first=True, limit=1)
    return bool(newest) and newest[0].kind in words


def still_allowed(parts: Parts, run: Run) -> Close | None:
    """A last look before a run begins that may have waited long for its turn."""
    if why := parts.cancelled(run.id):
        return Close(outcome=Outcome.CANCELLED, reason=f"{why}; nothing was changed", cause=Cause.STOPPED)
    if why := parts.halted():
        return Close(outcome=Outcome.CANCELLED, reason=f"{why}; nothing was changed", cause=Cause.STOPPED)
    plan = parts.catalog.plan(run.request.code)
    if resolve(parts, plan, run).plan_hash != run.plan_hash:
        return Close(
            outcome=Outcome.REFUSED,
            reason="the plan or the inventory changed after the decision; nothing was changed, ask again",
        )
    return None


def _closed(parts: Parts, run: Run, outcome: Outcome, reason: str) -> Run:
    cause = Cause.STOPPED if outcome is Outcome.CANCELLED else Cause.NONE
    return replace(
        run,
        state=State.CLOSED,
        outcome=outcome,
        reason=reason,
        cause=cause,
        ended_at=rfc3339(parts.clock.now()),
    )


def _wait(parts: Parts, run: Run, plan: Plan, verdicts: Sequence[GuardVerdict], reason: str) -> Run:
    waiting = replace(run, state=State.AWAITING_APPROVAL, reason=reason)
    if run.state is State.AWAITING_APPROVAL:  # one of two approvals came: still not enough
        return _store(parts, waiting, [_decision(waiting, "hold", verdicts, reason)])
    expires = parts.clock.now() + timedelta(seconds=parts.settings.approval_expiry)
    asked = _draft(
        waiting,
        Kind.APPROVAL_REQUESTED,
        {
            "plan_hash": run.plan_hash,
            "requester": run.request.actor.id,
            "needed": reason,
            "expires_at": rfc3339(expires),
        },
    )
    return _commit(parts, waiting, plan, verdicts, reason, asked)


def _commit(
    parts: Parts,
    run: Run,
    plan: Plan,
    verdicts: Sequence[GuardVerdict],
    reason: str,
    *more: Draft,
) -> Run:
    """The decision, the plan it is about and the run's row, in one transaction."""
    verdict = {State.QUEUED: "run", State.AWAITING_APPROVAL: "hold"}.get(run.state, "refuse")
    drafts = [
        _decision(run, verdict, verdicts, reason),
        _draft(
            run,
            Kind.PLAN,
            {
                "plan": plan.slug,
                "plan_hash": run.plan_hash,
                "content_sha256": plan.digest,
                "inventory_sha256": parts.inventory.digest,
                "file": plan.file,
                "params": dict(run.request.params),
                "touches": list(run.touches),
                "vantage": run.vantage,
                "rollback": plan.has_rollback,
            },
        ),
        *more,
    ]
    if run.closed:
        drafts.append(_end_draft(run))
    if run.state is State.QUEUED and run.request.break_glass:
        return _store(parts, run, [*drafts, _override(run)], flag=(REVIEW, run.id, run.request.reason))
    return _store(parts, run, drafts)


def _end_wait(parts: Parts, run: Run, *more: Draft) -> Run:
    return _store(parts, run, [*more, _end_draft(run)])


def _decision(run: Run, verdict: str, verdicts: Sequence[GuardVerdict], reason: str) -> Draft:
    return _draft(
        run,
        Kind.DECISION,
        {
            "verdict": verdict,
            "reason": reason,
            "plan_hash": run.plan_hash,
            "tier": run.tier,
            "risk": run.risk,
            "arming": run.arming,
            "guards": [v.as_json() for v in verdicts],
        },
    )


def _override(run: Run) -> Draft:
    """The alarm of a broken glass; the run stays listed until somebody else has reviewed it."""
    request = run.request
    return _draft(
        run,
        Kind.GUARD_OVERRIDE,
        {"guard": "approval", "by": request.actor.id, "reason": request.reason, "risk": run.risk},
    )


def _store(
    parts: Parts, run: Run, drafts: Sequence[Draft], *, flag: tuple[str, str, str] | None = None
) -> Run:
    def work(tx: Transaction) -> None:
        for draft in drafts:
            tx.append(draft)
        tx.put_run(run)
        if flag is not None:
            tx.set_flag(*flag)

    parts.ledger.write(work)
    return run


def _end_draft(run: Run) -> Draft:
    outcome = run.outcome.value if run.outcome else ""
    return _draft(
        run,
        Kind.RUN_END,
        {"outcome": outcome, "reason": run.reason, "cause": run.cause.value, "timings": {}},
    )


def _draft(run: Run, kind: Kind, data: dict[str, Any]) -> Draft:
    return Draft(
        kind=kind,
        run_id=run.id,
        case_id=run.case_id,
        target=run.request.target,
        fault_code=run.request.code,
        data=data,
    )

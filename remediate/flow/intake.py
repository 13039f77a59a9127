"""A request becomes a durable run row and a trail entry before anything else happens."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import replace

from remediate.audit.canonical import canonical
from remediate.catalog.parameters import validate_params
from remediate.errors import RemediateError
from remediate.flow.times import rfc3339
from remediate.inventory import exact_target
from remediate.model.entry import Draft, Kind
from remediate.model.plan import Plan
from remediate.model.run import Request, Run
from remediate.ports import Catalog, Clock, Inventory, Ledger, Transaction


def new_id(clock: Clock) -> str:
    """A UUIDv7: sorts by time, cannot be guessed."""
    millis = int(clock.now().timestamp() * 1000)
    value = (millis << 80) | secrets.randbits(80)
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def understand(request: Request, *, catalog: Catalog, inventory: Inventory) -> tuple[Plan, Request]:
    """The plan that is meant, and the request with an exact target and typed parameters.

    Raises UsageError (a malformed target, an unknown code or parameter): nothing was looked at.
    """
    plan = catalog.plan(request.code)
    target = exact_target(inventory, request.target)
    params = validate_params(plan, request.params)
    return plan, replace(request, code=plan.code, target=target, params=params)


def accept(request: Request, *, ledger: Ledger, catalog: Catalog, inventory: Inventory, clock: Clock) -> Run:
    """Record the request and its open run in one transaction; open runs are what the engine starts.

    A request that cannot be understood is recorded as rejected, and the reason is raised.
    """
    try:
        plan, understood = understand(request, catalog=catalog, inventory=inventory)
    except RemediateError as error:
        ledger.append(_rejected(request, str(error)))
        raise
    run_id = new_id(clock)
    run = Run(
        id=run_id,
        case_id=_case_id(understood, run_id),
        request=understood,
        plan=plan.slug,
        accepted_at=rfc3339(clock.now()),
    )

    def work(tx: Transaction) -> None:
        tx.append(_received(run))
        tx.put_run(run)

    ledger.write(work)
    return run


def _case_id(request: Request, run_id: str) -> str:
    """Code + target + first detection; an operator's word opens a case of its own."""
    key = [request.code, request.target, request.detected_at or run_id]
    return hashlib.sha256(canonical(key)).hexdigest()[:32]


def _payload_digest(request: Request) -> str:
    return hashlib.sha256(request.raw.encode()).hexdigest()


def _rejected(request: Request, reason: str) -> Draft:
    """What was asked for is data from outside: it is kept as JSON text, cut to a bounded length."""
    asked = {
        "code": request.code,
        "target": request.target,
        "params": {k: str(v) for k, v in request.params.items()},
    }
    return Draft(
        kind=Kind.TRIGGER_REJECTED,
        actor=request.actor,
        data={
            "source": request.trigger,
            "asked": json.dumps(asked)[:2000],
            "payload_sha256": _payload_digest(request),
            "reason": reason[:2000],
        },
    )


def _received(run: Run) -> Draft:
    request = run.request
    return Draft(
        kind=Kind.TRIGGER_RECEIVED,
        actor=request.actor,
        run_id=run.id,
        case_id=run.case_id,
        target=request.target,
        fault_code=request.code,
        data={
            "source": request.trigger,
            "payload_sha256": _payload_digest(request),
            "params": dict(request.params),
            "reason": request.reason,
            "check": request.check,
            "break_glass": request.break_glass,
        },
    )

"""Collects what the guards have to know about one request: inventory, history, settings, clock."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from remediate.audit.canonical import canonical
from remediate.flow.context import Parts
from remediate.flow.locks import LONGEST_WAIT
from remediate.flow.times import rfc3339
from remediate.guard.facts import Approval, Facts, Limits, OpenRun, PastRun, Window
from remediate.model.entry import Kind
from remediate.model.plan import Arming, Plan
from remediate.model.run import Run
from remediate.ports import Inventory

#: Seconds that all phases of a run take together at most.
_LONGEST_RUN = 6 * 3600
#: Scope of the durable flags that hold the arming level of a fault code.
ARMING = "arming"


def arming_of(parts: Parts, plan: Plan) -> Arming:
    """The level somebody set, else the one the plan ships with."""
    return Arming(parts.ledger.flag(ARMING, plan.code) or plan.arming)


def resolve_touches(plan: Plan, inventory: Inventory, target: str) -> tuple[str, ...]:
    """Exact names of the further hosts a plan may change: the host lists its inventory variables hold."""
    variables = inventory.variables(target)
    named = {name for variable in plan.touches for name in _names(variables.get(variable))}
    return tuple(sorted(named - {target}))


def resolve_vantage(plan: Plan, inventory: Inventory, target: str, touches: Iterable[str]) -> str:
    """The host recovery is looked at from: never one that the plan changes; `localhost` is this machine."""
    if plan.verify.vantage == "controller":
        return "localhost"
    if plan.verify.vantage == "observers":
        candidates = _names(inventory.variables(target).get("remediate_observers"))
    else:
        candidates = tuple(inventory.members(plan.verify.vantage))
    changed = {target, *touches}
    known = set(inventory.hosts())
    return next((host for host in candidates if host in known and host not in changed), "localhost")


def plan_hash(plan: Plan, run: Run, inventory: Inventory) -> str:
    """What an approval is given to: content, parameters, hosts, and the hosts' variables."""
    hosts = {host: _digest(repr(sorted(inventory.variables(host).items()))) for host in run.hosts}
    return _digest(
        canonical(
            {
                "code": plan.code,
                "content": plan.digest,
                "params": dict(run.request.params),
                "target": run.request.target,
                "touches": list(run.touches),
                "vantage": run.vantage,
                "hosts": hosts,
                "check": run.request.check,
            }
        )
    )


def _digest(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def gather(parts: Parts, plan: Plan, run: Run) -> Facts:
    """Everything the guards look at for this run, as of now."""
    request, inventory, settings = run.request, parts.inventory, parts.settings
    now = parts.clock.now()
    group = _smallest_group(plan, inventory, request.target)
    known = set(inventory.hosts())
    limits = _limits(parts)
    window = max(
        limits.attempts_window_s, limits.breaker_window_s, limits.blast_window_s, plan.guards.cooldown
    )
    return Facts(
        now=rfc3339(now),
        run_id=run.id,
        code=plan.code,
        plan=plan.slug,
        plan_hash=run.plan_hash,
        risk=plan.risk_of(request.params),
        arming=arming_of(parts, plan),
        trigger=request.trigger,
        requester=request.actor.id,
        requester_auth=request.actor.auth,
        reason=request.reason,
        check=request.check,
        break_glass=request.break_glass,
        kill_switch=parts.kill_switch.engaged(),
        windows=tuple(
            Window(name=freeze.reason, kind="freeze", reason=freeze.reason)
            for freeze in settings.freeze
            if freeze.forbids(now, code=plan.code, groups=inventory.groups_of(request.target))
        ),
        target=request.target,
        touches=run.touches,
        unknown_hosts=tuple(host for host in run.hosts if host not in known),
        plan_groups=plan.groups,
        target_groups=tuple(inventory.groups_of(request.target)),
        group=group,
        group_hosts=tuple(inventory.members(group)) if group else (request.target,),
        failure_domain=run.failure_domain,
        pairs=_pairs(inventory, run.hosts),
        management_path=_management_path(inventory),
        never_roles=plan.guards.never,
        open_runs=_open_runs(parts, run),
        history=_history(parts, rfc3339(now - timedelta(seconds=window + _longest_life(parts)))),
        cooldown_s=plan.guards.cooldown,
        approvals=_approvals(parts, run),
        limits=limits,
    )


def _longest_life(parts: Parts) -> int:
    """Seconds between a request and the end of its run at most: runs are found by when they were accepted."""
    return parts.settings.approval_expiry + round(LONGEST_WAIT) + _LONGEST_RUN


def _limits(parts: Parts) -> Limits:
    settings = parts.settings
    return Limits(
        attempts=settings.attempts.count,
        attempts_window_s=settings.attempts.window,
        breaker_target_failures=settings.breaker_target.count,
        breaker_code_failures=settings.breaker_code.count,
        breaker_window_s=max(settings.breaker_target.window, settings.breaker_code.window),
        blast_percent=settings.max_targets_per_hour_percent,
        storm_percent=settings.storm_percent,
    )


def _smallest_group(plan: Plan, inventory: Inventory, target: str) -> str:
    groups = [group for group in inventory.groups_of(target) if group in plan.groups]
    return min(groups, key=lambda group: (len(inventory.members(group)), group), default="")


def _names(value: Any) -> tuple[str, ...]:
    """Host names that an inventory variable holds: one name, a list of them, or nothing."""
    if isinstance(value, str):
        return (value,) if value else ()
    if isinstance(value, list):
        return tuple(str(name) for name in value)
    return ()


def _pairs(inventory: Inventory, hosts: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    pairs = set()
    for host in hosts:
        if partners := _names(inventory.variables(host).get("remediate_pair")):
            pairs.add(tuple(sorted({host, *partners})))
    return tuple(sorted(pairs))


def _management_path(inventory: Inventory) -> tuple[str, ...]:
    """Hosts marked as carrying the tool's own connection, or named as such by another host."""
    found: set[str] = set()
    for host in inventory.hosts():
        value = inventory.variables(host).get("remediate_management_path")
        found.update([host] if value is True else _names(value))
    return tuple(sorted(found))


def _open_runs(parts: Parts, run: Run) -> tuple[OpenRun, ...]:
    return tuple(
        OpenRun(
            run_id=other.id,
            code=other.request.code,
            target=other.request.target,
            hosts=other.hosts,
            failure_domain=other.failure_domain,
            state=other.state,
            check=other.request.check,
        )
        for other in parts.ledger.runs(open_only=True)
        if other.id != run.id
    )


def _history(parts: Parts, since: str) -> tuple[PastRun, ...]:
    return tuple(
        PastRun(
            run_id=past.id,
            code=past.request.code,
            target=past.request.target,
            hosts=past.hosts,
            outcome=past.outcome,
            acted=past.acted,
            ended_at=past.ended_at,
            trigger=past.request.trigger,
        )
        for past in parts.ledger.runs(since=since)
        if past.outcome is not None
    )


def _approvals(parts: Parts, run: Run) -> tuple[Approval, ...]:
    granted = parts.ledger.entries(run_id=run.id, kinds=(Kind.APPROVAL_GRANTED,))
    return tuple(_approval(entry.data, entry.ts) for entry in granted)


def _approval(data: Mapping[str, Any], ts: str) -> Approval:
    return Approval(
        approver=str(data["approver"]),
        auth=str(data["method"]),
        role=str(data["role"]),
        plan_hash=str(data["plan_hash"]),
        granted_at=ts,
        expires_at=str(data["expires_at"]),
    )

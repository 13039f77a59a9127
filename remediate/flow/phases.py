"""One phase of a run: record the intent, act or look, record what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from remediate.crashpoints import CrashPoint, crash_point
from remediate.flow.record import RunRecord
from remediate.model.driver import Perform, Purpose
from remediate.model.entry import Kind
from remediate.model.plan import Phase, Plan
from remediate.model.result import Observation, PhaseResult, Status, Step
from remediate.model.run import State
from remediate.ports import Clock, PhaseOrder, Session, StopCheck

#: A native probe's samples: whether enough were good, and each of them.
Look = Callable[[StopCheck], PhaseResult]

_STATES = {
    Phase.PRECHECK: State.PRECHECK,
    Phase.SNAPSHOT: State.SNAPSHOT,
    Phase.APPLY: State.APPLYING,
    Phase.VERIFY: State.VERIFYING,
    Phase.ROLLBACK: State.ROLLING_BACK,
}
#: Phases that only look.
_LOOKS = (Phase.PRECHECK, Phase.VERIFY)
#: Seconds a phase gets when the plan does not say (precheck of a foreign playbook).
_DEFAULT_TIMEOUT = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseContext:
    """What every phase of one run shares."""

    record: RunRecord
    plan: Plan
    session: Session
    look: Look
    clock: Clock
    playbook: Path
    #: The playbook that looks, for a foreign plan that is proved by one.
    check: Path | None
    inventory: Path
    run_dir: Path
    secrets: Mapping[str, str]
    #: The kill switch: stops every phase, rollback too.
    halted: StopCheck
    #: A cancel wish: stops what leads forward, never the way back.
    cancelled: StopCheck


def perform(context: PhaseContext, move: Perform) -> None:
    """Carry out one phase between its intent and its result."""
    _record_intent(context, move)
    crash_point(CrashPoint.INTENT_RECORDED, detail=move.phase.value)
    result = _carry_out(context, move)
    crash_point(CrashPoint.ACT_DONE, detail=move.phase.value)
    if move.phase is Phase.VERIFY:
        _record_verdict(context, move, result)
        crash_point(CrashPoint.VERIFY_RECORDED, detail=move.purpose.value)
    context.record.add(
        Kind.PHASE_RESULT,
        {
            "phase": move.phase.value,
            "attempt": move.number,
            "purpose": move.purpose.value,
            **result.as_json(),
        },
    )
    crash_point(CrashPoint.RESULT_RECORDED, detail=move.phase.value)


def _record_intent(context: PhaseContext, move: Perform) -> None:
    acting = move.phase is Phase.APPLY and not context.record.run.request.check
    context.record.add(
        Kind.PHASE_INTENT,
        {"phase": move.phase.value, "attempt": move.number, "purpose": move.purpose.value},
        state=_STATES[move.phase],
        acted=context.record.run.acted or acting,
    )


def _carry_out(context: PhaseContext, move: Perform) -> PhaseResult:
    if _looks_by_itself(context.plan, move):
        return context.look(_stop_check(context, move))
    write_run_files(context)

    def on_step(step: Step) -> None:
        context.record.add(
            Kind.STEP_END, {"phase": move.phase.value, "attempt": move.number, **step.as_json()}
        )

    result = context.session.carry_out(
        _order(context, move), on_step=on_step, should_stop=_stop_check(context, move)
    )
    return _as_look(context, result) if _is_foreign_check(context.plan, move) else result


def _looks_by_itself(plan: Plan, move: Perform) -> bool:
    """Whether a native probe does this phase, without the executor that made the change."""
    if plan.foreign:
        return move.phase in _LOOKS and not proved_by_playbook(plan)
    return move.phase is Phase.VERIFY and plan.verify.probe != "playbook" and move.purpose is Purpose.APPLY


def proved_by_playbook(plan: Plan) -> bool:
    """Whether an operator's own check playbook says if a foreign playbook is needed and has helped."""
    return plan.foreign and plan.verify.probe == "playbook"


def _is_foreign_check(plan: Plan, move: Perform) -> bool:
    return proved_by_playbook(plan) and move.phase in _LOOKS


def _as_look(context: PhaseContext, result: PhaseResult) -> PhaseResult:
    """A check that failed has seen the fault; only one that could not be carried out has seen nothing."""
    if result.status not in (Status.OK, Status.FAILED):
        return result
    ok = result.status is Status.OK
    name = context.check.name if context.check is not None else ""
    seen = Observation(
        name=name, expected="every task succeeds", observed="so it is" if ok else result.reason, ok=ok
    )
    return replace(
        result,
        status=Status.OK,
        reason=f"the check {name} finds the target {'healthy' if ok else 'not healthy: ' + result.reason}",
        healthy=ok,
        observations=(seen,),
    )


def _stop_check(context: PhaseContext, move: Perform) -> StopCheck:
    if move.phase is Phase.ROLLBACK or move.purpose is Purpose.ROLLBACK:
        return context.halted
    return lambda: context.halted() or context.cancelled()


def _order(context: PhaseContext, move: Perform) -> PhaseOrder:
    run, plan = context.record.run, context.plan
    spec = plan.phases.get(move.phase)
    here = () if plan.foreign else ("localhost",)
    return PhaseOrder(
        run_id=run.id,
        phase=move.phase,
        attempt=move.number,
        playbook=context.check if context.check and move.phase in _LOOKS else context.playbook,
        inventory=context.inventory,
        target=run.request.target,
        allowed=tuple(dict.fromkeys((*run.hosts, run.vantage, *here))),
        variables=_variables(context, move),
        secrets=context.secrets,
        run_dir=context.run_dir,
        timeout=_DEFAULT_TIMEOUT if spec is None else spec.timeout,
        check=run.request.check and move.phase is Phase.APPLY,
        diff=run.request.diff,
        foreign=plan.foreign,
    )


def _variables(context: PhaseContext, move: Perform) -> dict[str, Any]:
    run, plan = context.record.run, context.plan
    given = {plan.variable(name): value for name, value in run.request.params.items()}
    if plan.foreign:
        return given
    return {
        **given,
        "remediate_snapshot_file": str(context.run_dir / "snapshot.json"),
        "remediate_trigger_file": str(context.run_dir / "trigger.json"),
        "remediate_vantage": run.vantage,
        "remediate_verify_of": (move.purpose or Purpose.APPLY).value,
        "remediate_samples": plan.verify.samples,
        "remediate_interval": plan.verify.interval,
    }


def write_run_files(context: PhaseContext) -> None:
    """Put the raw trigger and the snapshot where the role reads them as data.

    They are written anew from the record for every phase, so a resumed run finds them as well.
    """
    context.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    snapshot: Mapping[str, Any] = {}
    for attempt in context.record.attempts:
        if attempt.phase is Phase.SNAPSHOT and attempt.result is not None:
            snapshot = attempt.result.snapshot
    _keep(context.run_dir / "snapshot.json", json.dumps(dict(snapshot)))
    _keep(context.run_dir / "trigger.json", context.record.run.request.raw)


def _keep(file: Path, text: str) -> None:
    """Write a file unless it holds that already: the way back must not need space on a full disk."""
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")


def _record_verdict(context: PhaseContext, move: Perform, result: PhaseResult) -> None:
    ok = proves_recovery(context.plan, result)
    run = context.record.run
    proved_now = ok and move.purpose is Purpose.APPLY
    context.record.add(
        Kind.VERIFY,
        {
            "purpose": move.purpose.value,
            "probe": context.plan.verify.probe,
            "vantage": run.vantage,
            "ok": ok,
            "observations": [o.as_json() for o in result.observations],
        },
        restored_at=context.record.now() if proved_now else run.restored_at,
    )


def proves_recovery(plan: Plan, result: PhaseResult) -> bool:
    """Only positive evidence counts: enough good observations, and no more bad ones than the plan allows."""
    good = sum(o.ok for o in result.observations)
    bad = len(result.observations) - good
    spec = plan.verify
    return result.status is Status.OK and good >= spec.min_ok and bad <= spec.samples - spec.min_ok

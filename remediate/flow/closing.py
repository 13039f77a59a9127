"""How a run begins and ends on record."""

from __future__ import annotations

from remediate.crashpoints import CrashPoint, crash_point
from remediate.errors import AuditUnavailable
from remediate.flow.context import CANCEL, Parts, discard_run_dir
from remediate.flow.record import RunRecord
from remediate.flow.times import milliseconds_between
from remediate.model.driver import Close
from remediate.model.entry import Kind
from remediate.model.run import Outcome, Run, State
from remediate.ports import Transaction


def note_start(record: RunRecord) -> None:
    """Record that the run begins, or that it goes on after an interruption."""
    run = record.run
    if record.has(Kind.RUN_START):
        record.add(Kind.RUN_RESUMED, {"plan_hash": run.plan_hash, "state": run.state.value})
        return
    record.add(
        Kind.RUN_START,
        {
            "plan": run.plan,
            "plan_hash": run.plan_hash,
            "touches": list(run.touches),
            "vantage": run.vantage,
            "check": run.request.check,
            "tier": run.tier,
            "risk": run.risk,
        },
        started_at=record.now(),
    )


def close(parts: Parts, record: RunRecord, end: Close) -> Outcome:
    """Record the end, clean up, and sign the head of the trail.

    Raises AuditUnavailable when the end is only in the emergency journal: the target is in its safe
    state, but whoever waits must not take the run for recorded.
    """
    if end.escalate:
        record.add(Kind.ESCALATION, {"reason": end.reason, "outcome": end.outcome.value})
    ended = record.now()
    record.add(
        Kind.RUN_END,
        {
            "outcome": end.outcome.value,
            "reason": end.reason,
            "cause": end.cause.value,
            "timings": _timings(record.run, ended),
        },
        state=State.CLOSED,
        outcome=end.outcome,
        reason=end.reason,
        cause=end.cause,
        ended_at=ended,
    )
    crash_point(CrashPoint.END_RECORDED)
    discard_run_dir(parts, record.run)
    if record.degraded:
        raise AuditUnavailable(
            f"the audit trail cannot be written since the run began to act; it ended {end.outcome.value} "
            f"({end.reason}), which is kept in the emergency journal and recorded by the next command "
            "that can write"
        )
    _forget_cancel(parts, record.run)
    parts.ledger.checkpoint("run end")
    return end.outcome


def _forget_cancel(parts: Parts, run: Run) -> None:
    def work(tx: Transaction) -> None:
        tx.set_flag(CANCEL, run.id, "")

    if parts.cancelled(run.id):
        parts.ledger.write(work)


def _timings(run: Run, ended: str) -> dict[str, int | None]:
    """Milliseconds from acceptance to each later moment that was reached."""
    return {
        "decided_ms": milliseconds_between(run.accepted_at, run.decided_at),
        "started_ms": milliseconds_between(run.accepted_at, run.started_at),
        "restored_ms": milliseconds_between(run.accepted_at, run.restored_at),
        "ended_ms": milliseconds_between(run.accepted_at, ended),
    }

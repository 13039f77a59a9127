"""What a new worker finds: runs that are still open, and some that only look so."""

from __future__ import annotations

from dataclasses import dataclass, replace

from remediate.flow.context import Parts, discard_run_dir
from remediate.model.entry import Entry, Kind
from remediate.model.run import Cause, Outcome, Run, State
from remediate.ports import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What was found; `resume` has to go on, `closed` had ended without their rows knowing it.

    Runs that wait for a person are neither: they are judged again when there is something new.
    """

    resume: tuple[Run, ...]
    closed: tuple[Run, ...]


def recover(parts: Parts) -> Recovered:
    """Close the rows of runs whose end is on record, and name those that must go on.

    An end without its row is what the emergency journal leaves: it was written while the database
    could not be, and merged into the trail afterwards.
    """
    resume, closed = [], []
    for run in parts.ledger.runs(open_only=True):
        ends = parts.ledger.entries(run_id=run.id, kinds=(Kind.RUN_END,))
        if ends:
            closed.append(_close_row(parts, run, ends[-1]))
        elif run.state.under_way:
            resume.append(run)
    return Recovered(resume=tuple(resume), closed=tuple(closed))


def _close_row(parts: Parts, run: Run, end: Entry) -> Run:
    done = replace(
        run,
        state=State.CLOSED,
        outcome=Outcome(end.data["outcome"]),
        reason=str(end.data["reason"]),
        cause=Cause(end.data["cause"]),
        ended_at=str(end.data.get("ts") or end.ts),
    )

    def work(tx: Transaction) -> None:
        tx.put_run(done)

    parts.ledger.write(work)
    discard_run_dir(parts, done)
    return done

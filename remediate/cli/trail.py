"""Opens the trail: for reading beside whoever writes, or to record what an operator did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from remediate.app import open_reader, open_store
from remediate.audit.ledger import AuditLedger, LedgerReader
from remediate.errors import UsageError
from remediate.model.entry import Draft, Json, Kind
from remediate.model.run import Run
from remediate.report.run import RunReport

if TYPE_CHECKING:
    from remediate.config import Settings
    from remediate.guard.identity import Identity

#: Word for the run that was asked for last.
LAST = "last"


@contextmanager
def reading(settings: Settings) -> Iterator[LedgerReader]:
    """What is recorded; UsageError when nothing is."""
    with open_reader(settings) as reader:
        yield LedgerReader(reader)


@contextmanager
def recording(settings: Settings) -> Iterator[AuditLedger]:
    """The trail for writing, also beside a worker that lives."""
    with open_store(settings) as store:
        yield AuditLedger(store)


def note_command(ledger: AuditLedger, identity: Identity, command: str, **details: Json) -> None:
    """Record what an operator did with a command; never hand in a token's text."""
    ledger.append(
        Draft(kind=Kind.OPERATOR_COMMAND, actor=identity.actor(), data={"command": command, **details})
    )


def find_run(ledger: LedgerReader, text: str) -> Run:
    """The run of that id, of that beginning of an id, or the last; UsageError when that is not one run."""
    if text == LAST:
        newest = ledger.runs(limit=1)
        if not newest:
            raise UsageError("there is no last run: none was asked for in this state directory yet")
        return newest[0]
    if (exact := ledger.run(text)) is not None:
        return exact
    found = [run for run in ledger.runs() if text and run.id.startswith(text)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"no run {text!r} is recorded; `remediate runs list` shows those there are")
    some = ", ".join(run.id for run in found[:3])
    raise UsageError(f"{text!r} begins the ids of {len(found)} runs ({some}); give more of it")


def report_of(ledger: LedgerReader, run: Run) -> RunReport:
    """Everything recorded of a run."""
    signed = ledger.store.latest_checkpoint()
    return RunReport.build(
        run, ledger.entries(run_id=run.id), checkpoint=None if signed is None else signed.size
    )

"""The record of one run while it is carried out: the row, its entries, and what happens when both fail.

Audit-or-refuse: as long as nothing was done to the target, a trail that cannot be written ends the
run. Once something was done it may not simply stop, so the rest is written to the emergency journal,
the driver is told (`degraded`) and brings the target back to its safe state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from remediate.audit.journal import EmergencyJournal
from remediate.errors import AuditUnavailable
from remediate.flow.times import rfc3339
from remediate.model.driver import Attempt, attempts
from remediate.model.entry import SYSTEM, Actor, Draft, Entry, Kind
from remediate.model.run import Run
from remediate.ports import Clock, Ledger


class RunRecord:
    """Writes a run's entries and its row together, and knows them all."""

    def __init__(self, run: Run, *, ledger: Ledger, journal: EmergencyJournal, clock: Clock) -> None:
        self.run = run
        self.degraded = False
        self._ledger = ledger
        self._journal = journal
        self._clock = clock
        self._entries: list[Entry] = list(ledger.entries(run_id=run.id))

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The phases begun so far."""
        return attempts(self._entries)

    def has(self, kind: Kind) -> bool:
        """Whether an entry of this kind was recorded."""
        return any(entry.kind is kind for entry in self._entries)

    def now(self) -> str:
        """The moment, as the row holds it."""
        return rfc3339(self._clock.now())

    def add(self, kind: Kind, data: Mapping[str, Any], *, actor: Actor = SYSTEM, **changes: Any) -> None:
        """Record an entry and the run's new values; durable when it returns.

        Raises AuditUnavailable only while nothing was done to the target yet.
        """
        changed = replace(self.run, **changes)
        draft = self._draft(kind, data, actor)
        if not self.degraded and self._to_trail(draft, changed):
            self.run = changed
            return
        self._to_journal(draft)
        self.run = changed

    def _draft(self, kind: Kind, data: Mapping[str, Any], actor: Actor) -> Draft:
        return Draft(
            kind=kind,
            actor=actor,
            run_id=self.run.id,
            case_id=self.run.case_id,
            target=self.run.request.target,
            fault_code=self.run.request.code,
            data=data,
        )

    def _to_trail(self, draft: Draft, run: Run) -> bool:
        def work(tx: Any) -> Entry:
            tx.put_run(run)
            entry: Entry = tx.append(draft)
            return entry

        try:
            self._entries.append(self._ledger.write(work))
        except AuditUnavailable:
            if not self.run.acted:
                raise
            self.degraded = True
            return False
        return True

    def _to_journal(self, draft: Draft) -> None:
        """Keep what happened beside the trail; if that fails too, the run ends as unknown by itself."""
        moment = self._clock.now()
        self._journal.append(draft, moment)
        self._entries.append(
            Entry(
                seq=-1,
                ts=rfc3339(moment),
                kind=draft.kind,
                actor=draft.actor,
                run_id=draft.run_id,
                case_id=draft.case_id,
                target=draft.target,
                fault_code=draft.fault_code,
                data=draft.data,
                prev="",
                body=b"",
            )
        )

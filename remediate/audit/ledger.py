"""The operational state that is committed together with the trail: runs and durable flags.

Entries are the truth; these rows are what the guards and `runs list` would otherwise have to read
the whole trail for. Both change in one transaction, so they cannot disagree after a crash.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from remediate.audit.checkpoint import Checkpoint
from remediate.audit.store import AuditReader, AuditStore, Migration
from remediate.audit.store import Transaction as AuditTransaction
from remediate.errors import AuditUnavailable
from remediate.model.entry import Draft, Entry
from remediate.model.run import Run
from remediate.ports import Transaction

T = TypeVar("T")

#: Tables of this module, numbered after the store's own.
MIGRATIONS = (
    Migration(
        number=100,
        name="runs and flags",
        sql="""
        -- one row a run; `body` is Run.as_json()
        CREATE TABLE run (
            id TEXT PRIMARY KEY,
            case_id TEXT NOT NULL,
            code TEXT NOT NULL,
            target TEXT NOT NULL,
            closed INTEGER NOT NULL,
            accepted_at TEXT NOT NULL,
            body TEXT NOT NULL
        ) STRICT;
        CREATE INDEX run_open ON run (closed, code, target);
        CREATE INDEX run_time ON run (accepted_at);
        -- durable switches: cancel wishes, arming levels, the outbox, reviews
        CREATE TABLE flag (
            scope TEXT NOT NULL,
            key TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (scope, key)
        ) STRICT;
        """,
    ),
)

_PUT_RUN = """
INSERT INTO run (id, case_id, code, target, closed, accepted_at, body) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET closed = excluded.closed, body = excluded.body
"""
_PUT_FLAG = """
INSERT INTO flag (scope, key, value) VALUES (?, ?, ?)
ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value
"""


def _run(row: tuple[str] | None) -> Run | None:
    return None if row is None else Run.from_json(json.loads(row[0]))


def _one_run(connection: sqlite3.Connection, run_id: str) -> Run | None:
    return _run(connection.execute("SELECT body FROM run WHERE id = ?", (run_id,)).fetchone())


def _one_flag(connection: sqlite3.Connection, scope: str, key: str) -> str:
    row = connection.execute("SELECT value FROM flag WHERE scope = ? AND key = ?", (scope, key)).fetchone()
    return "" if row is None else str(row[0])


@dataclass(frozen=True, slots=True)
class LedgerTransaction:
    """`remediate.ports.Transaction` over one open database transaction."""

    _audit: AuditTransaction

    def append(self, draft: Draft) -> Entry:
        """Record an entry."""
        return self._audit.append(draft)

    def put_run(self, run: Run) -> None:
        """Insert or replace a run's row."""
        self._audit.connection.execute(
            _PUT_RUN,
            (
                run.id,
                run.case_id,
                run.request.code,
                run.request.target,
                int(run.closed),
                run.accepted_at,
                json.dumps(run.as_json()),
            ),
        )

    def run(self, run_id: str) -> Run | None:
        """A run as this transaction sees it."""
        return _one_run(self._audit.connection, run_id)

    def set_flag(self, scope: str, key: str, value: str) -> None:
        """Set a durable flag; the empty value removes it."""
        if value:
            self._audit.connection.execute(_PUT_FLAG, (scope, key, value))
        else:
            self._audit.connection.execute("DELETE FROM flag WHERE scope = ? AND key = ?", (scope, key))

    def flag(self, scope: str, key: str) -> str:
        """A durable flag's value, or the empty string."""
        return _one_flag(self._audit.connection, scope, key)


@dataclass(frozen=True, slots=True)
class LedgerReader:
    """What is recorded, for looking at; safe beside a worker that writes."""

    store: AuditReader

    def entries(
        self,
        *,
        run_id: str | None = None,
        case_id: str | None = None,
        kinds: Sequence[str] = (),
        since: int = 0,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Sequence[Entry]:
        """Recorded entries from `since` on."""
        return self.store.entries(
            run_id=run_id, case_id=case_id, kinds=kinds, since=since, limit=limit, newest_first=newest_first
        )

    def run(self, run_id: str) -> Run | None:
        """One run."""
        return self.store.read(lambda connection: _one_run(connection, run_id))

    def runs(
        self,
        *,
        open_only: bool = False,
        code: str | None = None,
        target: str | None = None,
        since: str = "",
        limit: int | None = None,
    ) -> Sequence[Run]:
        """Runs, newest first; `since` compares with `accepted_at`."""
        rows = self.store.read(
            lambda connection: connection.execute(
                "SELECT body FROM run WHERE (NOT ?1 OR closed = 0) AND (?2 IS NULL OR code = ?2)"
                " AND (?3 IS NULL OR target = ?3) AND accepted_at >= ?4"
                " ORDER BY accepted_at DESC, id DESC LIMIT ?5",
                (int(open_only), code, target, since, -1 if limit is None else limit),
            ).fetchall()
        )
        return [Run.from_json(json.loads(body)) for (body,) in rows]

    def flag(self, scope: str, key: str) -> str:
        """A durable flag's value, or the empty string."""
        return self.store.read(lambda connection: _one_flag(connection, scope, key))

    def flags(self, scope: str) -> Mapping[str, str]:
        """All durable flags of a scope."""
        rows = self.store.read(
            lambda connection: connection.execute(
                "SELECT key, value FROM flag WHERE scope = ? ORDER BY key", (scope,)
            ).fetchall()
        )
        return dict(rows)

    def write(self, work: Callable[[Transaction], T]) -> T:  # noqa: ARG002 - the port names it
        """Refuse: this one only looks."""
        raise AuditUnavailable("the trail was opened for reading; nothing can be recorded through it")

    def append(self, *drafts: Draft) -> tuple[Entry, ...]:
        """Refuse: this one only looks."""
        return self.write(lambda tx: tuple([tx.append(draft) for draft in drafts]))

    def checkpoint(self, reason: str) -> Checkpoint:
        """Refuse: this one only looks."""
        raise AuditUnavailable(f"the trail was opened for reading; no checkpoint at {reason}")


@dataclass(frozen=True, slots=True)
class AuditLedger(LedgerReader):
    """`remediate.ports.Ledger` over `audit.db`."""

    store: AuditStore

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Do `work` in one transaction; durable when it returns."""
        return self.store.write(lambda tx: work(LedgerTransaction(tx)))

    def append(self, *drafts: Draft) -> tuple[Entry, ...]:
        """Record entries; durable when it returns."""
        return self.store.append(*drafts)

    def checkpoint(self, reason: str) -> Checkpoint:
        """Sign the head of the log and hand it to the anchors."""
        return self.store.checkpoint(reason)

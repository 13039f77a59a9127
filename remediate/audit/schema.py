"""Tables of the trail, and the numbered changes that rooms above add to the same file.

The trail's own tables hold nothing that the verifier cannot check against signed bytes; everything
else in the file (intake, outbox, approvals, counters) is operational and no evidence.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from remediate.errors import AuditError

#: Marks the file as ours (`PRAGMA application_id`).
APPLICATION_ID = 0x72656D64
#: Version of the trail's own tables (`PRAGMA user_version`).
TRAIL_VERSION = 1

TRAIL = """
-- entries: the log; body holds the canonical bytes, the other columns repeat it for lookups.
-- No index on kind: it would cost each append a page, and such lookups mostly start at the newest entry.
CREATE TABLE entries (
    seq     INTEGER PRIMARY KEY,
    kind    TEXT NOT NULL,
    run_id  TEXT NOT NULL,
    case_id TEXT NOT NULL,
    body    BLOB NOT NULL
);
CREATE INDEX entries_run ON entries (run_id, seq) WHERE run_id <> '';
CREATE INDEX entries_case ON entries (case_id, seq) WHERE case_id <> '';

-- log_head: what the next append continues from --
CREATE TABLE log_head (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    log_id       TEXT NOT NULL,
    origin       TEXT NOT NULL,
    every        INTEGER NOT NULL,
    size         INTEGER NOT NULL,
    prev         TEXT NOT NULL,
    peaks        BLOB NOT NULL,
    ts           TEXT NOT NULL,
    checkpointed INTEGER NOT NULL,
    key          TEXT NOT NULL
);

-- checkpoints: the signed heads, one per tree size --
CREATE TABLE checkpoints (
    size INTEGER PRIMARY KEY,
    note TEXT NOT NULL
);

-- log_start: where the log begins after pruning --
CREATE TABLE log_start (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    size  INTEGER NOT NULL,
    prev  TEXT NOT NULL,
    peaks BLOB NOT NULL
);

-- schema_changes: which numbered changes this file has seen --
CREATE TABLE schema_changes (
    number INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    sha256 TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """A numbered change of the operational tables of a room above."""

    number: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        """By which a change that was edited after the fact is told apart."""
        return sha256(self.sql.encode()).hexdigest()


def statements(sql: str) -> Iterator[str]:
    """The statements of a script, one by one.

    `sqlite3.executescript` would commit the transaction the change has to be part of.
    """
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip() and not all(
        line.lstrip().startswith("--") for line in pending.splitlines() if line.strip()
    ):
        raise AuditError(f"schema change: statement without ';': {pending.strip()[:80]!r}")


def missing(connection: sqlite3.Connection, migrations: tuple[Migration, ...]) -> list[Migration]:
    """The changes this file has not seen, in order; a changed or repeated number is refused."""
    # -- applied_changes --
    seen = dict(connection.execute("SELECT number, sha256 FROM schema_changes").fetchall())
    numbers = [migration.number for migration in migrations]
    if len(set(numbers)) != len(numbers):
        raise AuditError(f"two schema changes share a number: {sorted(numbers)}")
    for migration in migrations:
        if seen.get(migration.number, migration.digest) != migration.digest:
            raise AuditError(
                f"schema change {migration.number} ({migration.name}) differs from the one applied"
            )
    return sorted((m for m in migrations if m.number not in seen), key=lambda migration: migration.number)

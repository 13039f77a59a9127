"""Removes the oldest entries after their retention, so that the rest still verifies.

Only whole prefixes go, only after an export, and only up to a checkpoint. The compact range of what is
gone stays behind, and a `prune` entry says in the signed log where it now begins, with the statements
about keys that went with the prefix.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from remediate.audit.export import Export, export_jsonl, log_start
from remediate.audit.history import key_history
from remediate.audit.merkle import CompactRange, leaf_hash
from remediate.audit.store import AuditStore
from remediate.audit.transaction import Transaction, timestamp
from remediate.audit.verify import verify
from remediate.errors import AuditError, UsageError
from remediate.model.entry import SYSTEM, Actor, Draft, Entry, Json, Kind

#: How long entries are kept unless the operator says otherwise.
DEFAULT_RETENTION_DAYS = 400
#: Network logs have to be kept for six months by law; nothing shorter is accepted.
MINIMUM_RETENTION_DAYS = 183


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, and where it was exported to."""

    export: Export
    entry: Entry


def prune(
    store: AuditStore,
    export_to: Path,
    *,
    retention_days: int = DEFAULT_RETENTION_DAYS,
    actor: Actor = SYSTEM,
) -> Pruned | None:
    """Export and remove the entries older than `retention_days`; None when there are none.

    The export is verified before anything is removed.
    """
    if retention_days < MINIMUM_RETENTION_DAYS:
        raise UsageError(
            f"retention of {retention_days} days is refused: audit entries are kept for at least"
            f" {MINIMUM_RETENTION_DAYS} days; choose that or more"
        )
    cutoff = store.clock.now() - timedelta(days=retention_days)
    size = store.read(lambda connection: prunable(connection, cutoff))
    if size is None:
        return None
    export = export_jsonl(store, export_to, until=size)
    report = verify(export.path, keys=store.keyring.vkeys_path)
    if not report.ok:
        raise AuditError(f"nothing was removed, because the export does not verify: {report.findings[0]}")
    entry = store.write(lambda transaction: _remove(transaction, export, retention_days, actor))
    store.checkpoint("pruning")
    return Pruned(export, entry)


def prunable(connection: sqlite3.Connection, cutoff: datetime) -> int | None:
    """The size of the largest prefix that may go: old, ending at a checkpoint, and splitting no run."""
    before, _ = log_start(connection)
    # -- first_young_entry: times are text of fixed width inside the canonical body --
    (young,) = connection.execute(
        "SELECT min(seq) FROM entries WHERE json_extract(CAST(body AS TEXT), '$.ts') >= ?",
        (timestamp(cutoff),),
    ).fetchone()
    limit = young
    while limit is not None:
        # -- checkpoint_at_or_below --
        (size,) = connection.execute("SELECT max(size) FROM checkpoints WHERE size <= ?", (limit,)).fetchone()
        if size is None or size <= before.size:
            return None
        limit = _first_of_split(connection, size)
        if limit is None:
            return int(size)
    return None


def _first_of_split(connection: sqlite3.Connection, size: int) -> int | None:
    """The first entry of a run or case that has entries on both sides of `size`."""
    # -- split_runs --
    (first,) = connection.execute(
        "SELECT min(seq) FROM entries WHERE seq < :size AND ("
        " run_id IN (SELECT run_id FROM entries WHERE seq >= :size AND run_id <> '')"
        " OR case_id IN (SELECT case_id FROM entries WHERE seq >= :size AND case_id <> ''))",
        {"size": size},
    ).fetchone()
    return None if first is None else int(first)


def _remove(transaction: Transaction, export: Export, retention_days: int, actor: Actor) -> Entry:
    connection, size = transaction.connection, export.size
    history = key_history(connection, until=size)
    tree, prev = _range_at(connection, size)
    # -- drop_prefix: the checkpoint at the new beginning stays, it signs the compact range --
    connection.execute("DELETE FROM entries WHERE seq < ?", (size,))
    connection.execute("DELETE FROM checkpoints WHERE size < ?", (size,))
    connection.execute(
        "INSERT OR REPLACE INTO log_start (id, size, prev, peaks) VALUES (1, ?, ?, ?)",
        (size, prev, b"".join(tree.hashes)),
    )
    data: dict[str, Json] = {
        "pruned_from": export.start,
        "pruned_to": size,
        "root": tree.root().hex(),
        "peaks": [peak.hex() for peak in tree.hashes],
        "export": export.path.name,
        "export_sha256": export.sha256,
        "retention_days": retention_days,
        "checkpoint_every": transaction.head.every,
        "vkey": history.first,
        "rotations": list(history.rotations),
        "revocations": list(history.revocations),
    }
    return transaction.append(Draft(kind=Kind.PRUNE, actor=actor, data=data))


def _range_at(connection: sqlite3.Connection, size: int) -> tuple[CompactRange, str]:
    """The tree of the first `size` entries and the hash of the last of them."""
    tree, prev = log_start(connection)
    # -- prefix --
    for (body,) in connection.execute("SELECT body FROM entries WHERE seq < ? ORDER BY seq", (size,)):
        leaf = leaf_hash(body)
        tree.append(leaf)
        prev = leaf.hex()
    return tree, prev

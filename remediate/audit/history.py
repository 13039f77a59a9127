"""The keys of a log as its own entries tell it, also after their entries were pruned."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from remediate.audit.keys import Rotation
from remediate.audit.transaction import decode_entries
from remediate.errors import AuditError
from remediate.model.entry import Entry, Kind


@dataclass(frozen=True, slots=True)
class KeyHistory:
    """First key and the signed statements by which others followed."""

    first: str
    #: Notes, oldest first.
    rotations: tuple[str, ...]
    revocations: tuple[str, ...]

    @property
    def vkeys(self) -> list[str]:
        """The public keys of all epochs, oldest first."""
        return [self.first, *(str(Rotation.parse(note).new) for note in self.rotations)]


def key_history(connection: sqlite3.Connection, *, until: int) -> KeyHistory:
    """The keys of the log when it had `until` entries; the newest prune entry carries what is gone."""
    # -- self_description --
    kinds = (Kind.LOG_CREATED, Kind.KEY_ROTATE, Kind.KEY_REVOKE, Kind.PRUNE)
    rows = connection.execute(
        "SELECT body FROM entries WHERE kind IN (?, ?, ?, ?) ORDER BY seq", [str(kind) for kind in kinds]
    ).fetchall()
    entries = decode_entries(rows)
    carriers = [entry for entry in entries if entry.kind in (Kind.LOG_CREATED, Kind.PRUNE)]
    if not carriers:
        raise AuditError("the trail does not say with which key it began; run `remediate audit verify`")
    carried = carriers[-1].data
    before = [entry for entry in entries if entry.seq < until]
    return KeyHistory(
        first=carried["vkey"],
        rotations=(*carried.get("rotations", ()), *_notes(before, Kind.KEY_ROTATE)),
        revocations=(*carried.get("revocations", ()), *_notes(before, Kind.KEY_REVOKE)),
    )


def _notes(entries: list[Entry], kind: Kind) -> list[str]:
    return [entry.data["note"] for entry in entries if entry.kind == kind]

"""The emergency journal: where the end of a run is recorded when the trail itself cannot be written.

A preallocated file, so that a full disk does not stop it. A record is a magic word, a length, the
SHA-256 of the payload and the payload (canonical JSON of the draft and its time), flushed one by one.
`merge_into` brings the records into the trail between `audit.degraded` and `audit.restored`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from remediate.audit.canonical import canonical
from remediate.audit.files import replace_file
from remediate.audit.transaction import timestamp
from remediate.errors import AuditError, AuditUnavailable
from remediate.model.entry import Actor, Draft, Entry, Kind

#: Room for the rest of some hundred runs.
DEFAULT_SIZE = 1024 * 1024
_MAGIC = b"RJ01"
_HEADER = len(_MAGIC) + 4 + 32


class Trail(Protocol):
    """What a journal is merged into."""

    def append(self, *drafts: Draft) -> tuple[Entry, ...]:
        """Record all drafts or none."""
        ...

    def entries(
        self, *, kinds: Sequence[str] = (), limit: int | None = None, newest_first: bool = False
    ) -> list[Entry]:
        """Recorded entries."""
        ...


class EmergencyJournal:
    """Takes drafts while the trail cannot; `path` is created and filled with zeros at once."""

    def __init__(self, path: Path, *, size: int = DEFAULT_SIZE) -> None:
        self.path = path
        try:
            if not path.exists():
                replace_file(path, b"\x00" * size)
            self._size = path.stat().st_size
            self._records, self._end, self.torn = _scan(path.read_bytes())
        except OSError as error:
            raise AuditUnavailable(f"the emergency journal {path} cannot be opened: {error}") from error

    def __len__(self) -> int:
        return len(self._records)

    def append(self, draft: Draft, ts: datetime) -> None:
        """Keep `draft`, which happened at `ts`; durable on return."""
        payload = canonical({"ts": timestamp(ts), "draft": _as_json(draft)})
        record = _MAGIC + len(payload).to_bytes(4, "big") + sha256(payload).digest() + payload
        if self._end + len(record) > self._size:
            raise AuditUnavailable(
                f"the emergency journal {self.path} is full; stop and restore the audit trail"
            )
        self._write(self._end, record)
        self._records.append(payload)
        self._end += len(record)

    def drafts(self) -> list[Draft]:
        """What was kept, in order; data says that it was journalled and when it happened."""
        return [_draft(payload) for payload in self._records]

    def merge_into(self, trail: Trail) -> int:
        """Move everything into the trail; the number of drafts that were journalled."""
        drafts = self.drafts()
        digest = sha256(b"".join(self._records)).hexdigest()
        # A crash between commit and emptying must not record the same acts twice.
        last = trail.entries(kinds=[Kind.AUDIT_RESTORED], limit=1, newest_first=True)
        if (drafts or self.torn) and not (last and last[0].data.get("journal") == digest):
            since = drafts[0].data["journalled_at"] if drafts else None
            degraded = Draft(kind=Kind.AUDIT_DEGRADED, data={"since": since})
            restored = Draft(
                kind=Kind.AUDIT_RESTORED,
                data={"journal": digest, "entries": len(drafts), "torn_record": self.torn},
            )
            trail.append(degraded, *drafts, restored)
        if drafts or self.torn:
            self._empty()
        return len(drafts)

    def _empty(self) -> None:
        self._write(0, b"\x00" * self._size)
        self._records, self._end, self.torn = [], 0, False

    def _write(self, at: int, data: bytes) -> None:
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                if os.pwrite(descriptor, data, at) != len(data):
                    raise AuditUnavailable(f"the emergency journal {self.path} took only a part of a record")
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise AuditUnavailable(f"the emergency journal {self.path} cannot be written: {error}") from error


def _scan(content: bytes) -> tuple[list[bytes], int, bool]:
    """The whole records, where they end, and whether a torn one follows."""
    records: list[bytes] = []
    at = 0
    while content[at : at + len(_MAGIC)] == _MAGIC:
        length = int.from_bytes(content[at + 4 : at + 8], "big")
        payload = content[at + _HEADER : at + _HEADER + length]
        if len(payload) != length or sha256(payload).digest() != content[at + 8 : at + _HEADER]:
            return records, at, True
        records.append(payload)
        at += _HEADER + length
    return records, at, any(content[at : at + _HEADER])


def _as_json(draft: Draft) -> dict[str, Any]:
    return {
        "kind": draft.kind.value,
        "actor": draft.actor.as_json(),
        "run_id": draft.run_id,
        "case_id": draft.case_id,
        "target": draft.target,
        "fault_code": draft.fault_code,
        "data": dict(draft.data),
    }


def _draft(payload: bytes) -> Draft:
    try:
        record = json.loads(payload)
        fields = record["draft"]
        draft = Draft(**{**fields, "kind": Kind(fields["kind"]), "actor": Actor(**fields["actor"])})
        return replace(draft, data={**draft.data, "journalled": True, "journalled_at": record["ts"]})
    except (ValueError, TypeError, KeyError) as error:
        raise AuditError(f"a record of the emergency journal cannot be understood: {error}") from error

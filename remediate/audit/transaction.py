"""One append to the log, as pure as SQL allows: head in, entry and new head out.

Order is `seq` and nothing else. The wall clock, the monotonic clock and the boot are recorded so
that durations can be judged later; a wall clock that steps back is an entry of its own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from remediate.audit.canonical import canonical
from remediate.audit.checkpoint import Checkpoint, sign_checkpoint
from remediate.audit.merkle import CompactRange, leaf_hash
from remediate.audit.note import Signer
from remediate.errors import AuditError, AuditUnavailable
from remediate.model.entry import Actor, Draft, Entry, Json, Kind

#: Version of the entry format.
FORMAT = 1
#: What `prev` of the first entry holds.
NO_PREVIOUS = "0" * 64
#: A wall clock that steps back by more than this is recorded.
CLOCK_STEP_SECONDS = 2


class Clock(Protocol):
    """Where the log takes its times from."""

    def now(self) -> datetime:
        """The wall clock, with the time zone UTC."""
        ...

    def monotonic_ns(self) -> int:
        """A clock that never steps within one boot."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What every entry says about the machine that wrote it."""

    node: str
    boot_id: str


@dataclass(slots=True, kw_only=True)
class Head:
    """What the next append continues from."""

    log_id: str
    origin: str
    #: At most this many entries lie between two checkpoints.
    every: int
    tree: CompactRange
    #: Leaf hash (hex) of the last entry: one hash serves the chain and the tree.
    prev: str
    #: Time of the last entry.
    ts: str
    #: Size of the last checkpoint.
    checkpointed: int
    #: Public key of the signer in use.
    key: str

    @property
    def size(self) -> int:
        """Number of entries ever appended."""
        return self.tree.size

    def copy(self) -> Head:
        """A head that does not change when this one does."""
        return replace(self, tree=self.tree.copy())


@dataclass(slots=True)
class Transaction:
    """The log and the operational tables, changed together or not at all."""

    #: For the operational tables of rooms above; the trail's own tables are changed by `append` only.
    connection: sqlite3.Connection
    head: Head
    signer: Signer
    clock: Clock
    place: Place
    #: Checkpoints made so far; they go to the anchors when the transaction is durable.
    checkpoints: list[Checkpoint] = field(default_factory=list)
    #: Whether anything was appended, so that the head has to be stored.
    dirty: bool = False

    def append(self, draft: Draft) -> Entry:
        """Record `draft`; durable when the transaction is."""
        now = self.clock.now()
        ts = timestamp(now)
        if ts < self.head.ts:
            self._note_clock_step(now, ts)
        return self._append(draft, ts)

    def checkpoint(self, *cosigners: Signer) -> Checkpoint:
        """Sign the head as it is now."""
        signed = sign_checkpoint(
            self.head.origin, self.head.size, self.head.tree.root(), [self.signer, *cosigners]
        )
        # -- store_checkpoint: a second one of the same size has more signatures --
        self.connection.execute(
            "INSERT OR REPLACE INTO checkpoints (size, note) VALUES (?, ?)", (signed.size, signed.note_text)
        )
        self.head.checkpointed = signed.size
        self.checkpoints.append(signed)
        self.dirty = True
        return signed

    def _append(self, draft: Draft, ts: str) -> Entry:
        seq, head = self.head.size, self.head
        body = canonical(self._body(draft, seq, ts))
        try:
            # -- append_entry: the primary key turns a lost lock into an error, never into a fork --
            self.connection.execute(
                "INSERT INTO entries (seq, kind, run_id, case_id, body) VALUES (?, ?, ?, ?, ?)",
                (seq, draft.kind.value, draft.run_id, draft.case_id, body),
            )
        except sqlite3.IntegrityError as error:
            raise AuditUnavailable(
                f"entry {seq} exists already although the head does not know it; run `remediate audit verify`"
            ) from error
        entry = _entry(draft, seq, ts, head.prev, body)
        leaf = leaf_hash(body)
        head.tree.append(leaf)
        head.prev, head.ts = leaf.hex(), ts
        self.dirty = True
        if head.size - head.checkpointed >= head.every:
            self.checkpoint()
        return entry

    def _body(self, draft: Draft, seq: int, ts: str) -> dict[str, object]:
        return {
            "v": FORMAT,
            "seq": seq,
            "prev": self.head.prev,
            "log_id": self.head.log_id,
            "ts": ts,
            # Text: 2**53 nanoseconds are 104 days, and machines stay up for longer.
            "mono_ns": str(self.clock.monotonic_ns()),
            "boot_id": self.place.boot_id,
            "node": self.place.node,
            "run_id": draft.run_id,
            "case_id": draft.case_id,
            "kind": draft.kind.value,
            "actor": draft.actor.as_json(),
            "target": draft.target,
            "fault_code": draft.fault_code,
            "data": dict(draft.data),
        }

    def _note_clock_step(self, now: datetime, ts: str) -> None:
        step = now - datetime.fromisoformat(self.head.ts)
        if step.total_seconds() < -CLOCK_STEP_SECONDS:
            data: dict[str, Json] = {
                "from": self.head.ts,
                "to": ts,
                "step_ms": int(step.total_seconds() * 1000),
            }
            self._append(Draft(kind=Kind.CLOCK_STEP, data=data), ts)


def timestamp(moment: datetime) -> str:
    """RFC 3339, UTC, microseconds; fixed width, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def load_head(connection: sqlite3.Connection) -> Head:
    """The stored head."""
    # -- load_head --
    row = connection.execute(
        "SELECT log_id, origin, every, size, prev, peaks, ts, checkpointed, key FROM log_head WHERE id = 1"
    ).fetchone()
    if row is None:
        raise AuditError("the audit log has lost its head; run `remediate audit verify`")
    log_id, origin, every, size, prev, peaks, ts, checkpointed, key = row
    try:
        hashes = [peaks[at : at + 32] for at in range(0, len(peaks), 32)]
        return Head(
            log_id=log_id,
            origin=origin,
            every=int(every),
            tree=CompactRange(int(size), hashes),
            prev=prev,
            ts=ts,
            checkpointed=int(checkpointed),
            key=key,
        )
    except (TypeError, ValueError) as error:
        raise AuditError("the head of the audit log is damaged; run `remediate audit verify`") from error


def store_head(connection: sqlite3.Connection, head: Head) -> None:
    """Keep `head` for the next transaction, of whichever process."""
    # -- store_head --
    connection.execute(
        "INSERT OR REPLACE INTO log_head"
        " (id, log_id, origin, every, size, prev, peaks, ts, checkpointed, key) VALUES (1,?,?,?,?,?,?,?,?,?)",
        (
            head.log_id,
            head.origin,
            head.every,
            head.size,
            head.prev,
            b"".join(head.tree.hashes),
            head.ts,
            head.checkpointed,
            head.key,
        ),
    )


def decode_entry(body: bytes) -> Entry:
    """The entry of stored bytes; damaged bytes are an `AuditError`."""
    try:
        record = json.loads(body)
        return Entry(
            seq=record["seq"],
            ts=record["ts"],
            kind=Kind(record["kind"]),
            actor=Actor(**_object(record["actor"])),
            run_id=record["run_id"],
            case_id=record["case_id"],
            target=record["target"],
            fault_code=record["fault_code"],
            data=_object(record["data"]),
            prev=record["prev"],
            body=body,
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise AuditError(f"an audit entry is damaged ({error}); run `remediate audit verify`") from error


def decode_entries(bodies: Sequence[tuple[bytes]]) -> list[Entry]:
    """The entries of rows with one column."""
    return [decode_entry(body) for (body,) in bodies]


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("an object is expected")
    return value


def _entry(draft: Draft, seq: int, ts: str, prev: str, body: bytes) -> Entry:
    return Entry(
        seq=seq,
        ts=ts,
        kind=draft.kind,
        actor=draft.actor,
        run_id=draft.run_id,
        case_id=draft.case_id,
        target=draft.target,
        fault_code=draft.fault_code,
        data=dict(draft.data),
        prev=prev,
        body=body,
    )

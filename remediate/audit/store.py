"""The audit trail in one SQLite file, together with the operational tables of the rooms above.

WAL with `synchronous=FULL`: what `write` returned from survives a power cut (a test replays every
cut; with NORMAL that test loses acknowledged entries). Whatever keeps an entry from being durable is
an `AuditUnavailable`, and the caller does not act.
"""

from __future__ import annotations

import secrets
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, LifoQueue
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

from remediate.audit import schema
from remediate.audit.anchoring import Anchoring, AnchorState
from remediate.audit.anchors import Anchor
from remediate.audit.checkpoint import Checkpoint
from remediate.audit.files import create_private_file, make_private_dir
from remediate.audit.journal import EmergencyJournal
from remediate.audit.keys import KeyRing, Revocation, Rotation
from remediate.audit.merkle import CompactRange
from remediate.audit.note import Signer, VerifierKey
from remediate.audit.schema import Migration
from remediate.audit.transaction import (
    NO_PREVIOUS,
    Clock,
    Head,
    Place,
    Transaction,
    decode_entries,
    load_head,
    store_head,
)
from remediate.audit.writer import Writer
from remediate.errors import AuditError, AuditUnavailable
from remediate.model.entry import SYSTEM, Actor, Draft, Entry, Json, Kind

__all__ = ["AuditStore", "Migration", "Transaction"]

T = TypeVar("T")

#: Entries between two checkpoints at most.
CHECKPOINT_EVERY = 256
#: How long a write waits for another process that holds the file.
LOCK_TIMEOUT_SECONDS = 10.0
_SYNCHRONOUS = ("FULL", "EXTRA", "NORMAL", "OFF")


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> datetime:
        """The wall clock, UTC."""
        return datetime.now(UTC)

    def monotonic_ns(self) -> int:
        """Nanoseconds since some moment of this boot."""
        return time.monotonic_ns()


class AuditReader:
    """Looks into a trail without ever changing it; safe from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: LifoQueue[sqlite3.Connection] = LifoQueue()

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `query` on a read-only connection, which sees one consistent state."""
        with self._connection() as connection:
            return query(connection)

    def entries(
        self,
        *,
        run_id: str | None = None,
        case_id: str | None = None,
        kinds: Sequence[str] = (),
        since: int = 0,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[Entry]:
        """The entries that match every given filter, with `seq >= since`."""
        where, parameters = ["seq >= ?"], list[str | int]([since])
        for column, value in (("run_id", run_id), ("case_id", case_id)):
            if value is not None:
                # The second half repeats what the partial index says, so that it can be used.
                where.append(f"{column} = ?" + (f" AND {column} <> ''" if value else ""))
                parameters.append(value)
        if kinds:
            where.append(f"kind IN ({','.join('?' * len(kinds))})")
            parameters.extend(str(kind) for kind in kinds)
        parameters.append(-1 if limit is None else limit)
        # -- select_entries: every value is a parameter, the clauses are the constants above --
        sql = (
            f"SELECT body FROM entries WHERE {' AND '.join(where)}"  # noqa: S608
            f" ORDER BY seq {'DESC' if newest_first else 'ASC'} LIMIT ?"
        )
        return decode_entries(self.read(lambda connection: connection.execute(sql, parameters).fetchall()))

    def entry(self, seq: int) -> Entry:
        """Entry number `seq`."""
        # -- select_entry --
        rows = self.read(
            lambda connection: connection.execute("SELECT body FROM entries WHERE seq = ?", (seq,)).fetchall()
        )
        if not rows:
            raise AuditError(f"there is no entry {seq} in {self.path}")
        return decode_entries(rows)[0]

    def size(self) -> int:
        """Number of entries ever appended, pruned ones included."""
        return self.head().size

    def head(self) -> Head:
        """What the next append continues from."""
        return self.read(load_head)

    def latest_checkpoint(self) -> Checkpoint | None:
        """The newest signed head."""
        # -- latest_checkpoint --
        sql = "SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1"
        row = self.read(lambda connection: connection.execute(sql).fetchone())
        return Checkpoint.parse(row[0]) if row else None

    def close(self) -> None:
        """Close the idle connections."""
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            try:
                connection = self._idle.get_nowait()
            except Empty:
                connection = _connect_readonly(self.path)
            try:
                yield connection
            finally:
                self._idle.put(connection)
        except sqlite3.Error as error:
            raise AuditError(f"the audit trail {self.path} cannot be read: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AuditStore(AuditReader):
    """The trail, open for writing; make one with `open`."""

    def __init__(self, path: Path, *, keyring: KeyRing, clock: Clock, place: Place) -> None:
        super().__init__(path)
        self.keyring = keyring
        self.clock = clock
        #: Where to record when the trail cannot be written; None when none was asked for.
        self.journal: EmergencyJournal | None = None
        self._place = place
        self._signer: Signer | None = None
        self._writer: Writer | None = None
        self._anchoring = Anchoring((), self._anchor_changed)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        keys: Path,
        anchors: Sequence[Anchor] = (),
        clock: Clock | None = None,
        node: str | None = None,
        migrations: Sequence[Migration] = (),
        checkpoint_every: int = CHECKPOINT_EVERY,
        journal: Path | None = None,
        synchronous: str = "FULL",
        lock_timeout: float = LOCK_TIMEOUT_SECONDS,
    ) -> AuditStore:
        """The trail at `path`, created when absent, with `migrations` applied and the journal merged.

        `checkpoint_every` is a promise a log makes when it is created; later opens keep to that.
        """
        if synchronous not in _SYNCHRONOUS:
            raise AuditError(f"synchronous={synchronous!r}: expected one of {', '.join(_SYNCHRONOUS)}")
        place = Place(node=node or socket.gethostname() or "localhost", boot_id=_boot_id())
        store = cls(path, keyring=KeyRing(keys), clock=clock or SystemClock(), place=place)
        try:
            connection = store._connect(synchronous)
            try:
                store._prepare(connection, tuple(migrations), checkpoint_every)
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise AuditUnavailable(f"the audit trail {path} cannot be opened: {error}") from error
        store._start(connection, anchors, lock_timeout)
        if journal is not None:
            store._open_journal(journal)
        return store

    @staticmethod
    def open_readonly(path: Path) -> AuditReader:
        """The trail at `path` for reading, also while a worker writes it or on read-only media."""
        reader = AuditReader(path)
        reader.head()
        return reader

    def write(self, work: Callable[[Transaction], T]) -> T:
        """The result of `work`, once everything it did is durable.

        Works of several threads are committed together; an exception rolls back its own work only.
        While `work` runs nobody else can write: it must not block, and may run in this thread only.
        """
        if self._writer is None:
            raise AuditUnavailable("the audit trail is closed; nothing was recorded")
        return self._writer.run(work)

    def append(self, *drafts: Draft) -> tuple[Entry, ...]:
        """Record all drafts or none; durable on return."""
        return self.write(lambda transaction: tuple([transaction.append(draft) for draft in drafts]))

    def checkpoint(self, reason: str) -> Checkpoint:
        """Sign the head and bring it to the anchors; `reason` says in an error what could not be sealed."""

        def seal(transaction: Transaction) -> Checkpoint | None:
            head = transaction.head
            return transaction.checkpoint() if head.checkpointed < head.size else None

        try:
            sealed = self.write(seal) or self.latest_checkpoint()
        except AuditUnavailable as error:
            raise AuditUnavailable(f"no checkpoint at {reason}: {error}") from error
        if sealed is None:
            raise AuditError("an audit log without a checkpoint; run `remediate audit verify`")
        self._anchoring.deliver(sealed, wait=True)
        return sealed

    def heartbeat(self) -> Checkpoint:
        """Say that nothing was left out, hourly: an entry with the anchors' state, and a checkpoint."""
        self.append(
            Draft(kind=Kind.HEARTBEAT, data={"anchors": [_anchor_data(s) for s in self.anchor_states()]})
        )
        return self.checkpoint("heartbeat")

    def anchor_states(self) -> tuple[AnchorState, ...]:
        """How each anchor does; `size` against `size()` is its lag."""
        return self._anchoring.states

    def rotate_key(self, *, actor: Actor = SYSTEM, reason: str = "rotation") -> Entry:
        """Put a new signing key to use; the private part of the old one is destroyed."""
        entry = self.write(lambda transaction: self._rotate(transaction, actor, reason))
        self._adopt_key()
        return entry

    def revoke_key(self, from_size: int, *, reason: str, actor: Actor = SYSTEM) -> Entry:
        """The key in use was stolen: rotate, and let it prove nothing for sizes of `from_size` and above."""

        def revoke(transaction: Transaction) -> Entry:
            stolen = transaction.signer.key
            self._rotate(transaction, actor, reason)
            revocation = Revocation(transaction.head.origin, from_size, stolen)
            data: dict[str, Json] = {
                "revoked": str(stolen),
                "from_size": from_size,
                "reason": reason,
                "note": str(revocation.signed(transaction.signer)),
            }
            entry = transaction.append(Draft(kind=Kind.KEY_REVOKE, actor=actor, data=data))
            transaction.checkpoint()
            return entry

        entry = self.write(revoke)
        self._adopt_key()
        return entry

    def close(self, *, seal: bool = True) -> None:
        """Stop writing; with `seal`, the last entries get a checkpoint first."""
        if self._writer is None:
            return
        if seal:
            # A trail that cannot be written stays as it is; the next open continues it.
            with suppress(AuditError):
                self.checkpoint("closing")
        self._anchoring.close()
        # Readers first: the last connection brings the WAL into the file, and a reader cannot.
        super().close()
        self._writer.stop()
        self._writer = None

    def _connect(self, synchronous: str) -> sqlite3.Connection:
        make_private_dir(self.path.parent)
        create_private_file(self.path)
        connection = sqlite3.connect(
            self.path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self._configure(connection, synchronous)
        except BaseException:
            connection.close()
            raise
        return connection

    def _configure(self, connection: sqlite3.Connection, synchronous: str) -> None:
        # -- open_for_writing --
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA trusted_schema = OFF")
        if mode != "wal":
            raise AuditUnavailable(
                f"{self.path}: this file system does not carry SQLite's WAL; use a local disk"
            )

    def _prepare(self, connection: sqlite3.Connection, migrations: tuple[Migration, ...], every: int) -> None:
        """Create the log or check that it is ours, then bring its tables up to date."""
        connection.execute("BEGIN IMMEDIATE")
        with _transaction(connection):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > schema.TRAIL_VERSION:
                raise AuditUnavailable(
                    f"{self.path} was written by a newer release; upgrade before writing to it"
                )
            transaction = self._transaction(connection) if version else self._create(connection, every)
            for migration in schema.missing(connection, migrations):
                _migrate(transaction, migration)
            if transaction.dirty:
                transaction.checkpoint()
                store_head(connection, transaction.head)
        # From here on the writer waits for the lock by itself, with a fair pause.
        connection.execute("PRAGMA busy_timeout = 0")

    def _create(self, connection: sqlite3.Connection, every: int) -> Transaction:
        log_id = secrets.token_hex(16)
        if not self.keyring.exists:
            KeyRing.create(self.keyring.directory, f"{self._place.node}/remediate-{log_id[:12]}")
        # Keys that are there already keep their name: a log that was wiped and begun again contradicts
        # the anchors of the first one, and is found.
        signer = self._signer = self.keyring.signer()
        for statement in schema.statements(schema.TRAIL):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {schema.TRAIL_VERSION}")
        head = Head(
            log_id=log_id,
            origin=signer.key.name,
            every=every,
            tree=CompactRange(),
            prev=NO_PREVIOUS,
            ts="",
            checkpointed=0,
            key=str(signer.key),
        )
        transaction = Transaction(connection, head, signer, self.clock, self._place)
        data: dict[str, Json] = {"origin": head.origin, "checkpoint_every": every, "vkey": head.key}
        transaction.append(Draft(kind=Kind.LOG_CREATED, data=data))
        return transaction

    def _transaction(self, connection: sqlite3.Connection) -> Transaction:
        """A transaction on the head as it is now, whichever process wrote it last."""
        head = load_head(connection)
        if self._signer is None or str(self._signer.key) != head.key:
            self._signer = self.keyring.signer_for(VerifierKey.parse(head.key).key_id)
        return Transaction(connection, head, self._signer, self.clock, self._place)

    def _start(self, connection: sqlite3.Connection, anchors: Sequence[Anchor], lock_timeout: float) -> None:
        self._anchoring = Anchoring(anchors, self._anchor_changed)
        self._writer = Writer(self.path, connection, self._transaction, self._committed, lock_timeout)
        # A crash may have come between the commit and the anchors.
        if last := self.latest_checkpoint():
            self._anchoring.deliver(last)

    def _committed(self, checkpoints: list[Checkpoint]) -> None:
        for checkpoint in checkpoints:
            self._anchoring.deliver(checkpoint)

    def _anchor_changed(self, state: AnchorState, checkpoint: Checkpoint) -> None:
        """Record that an anchor started to fail or works again, and seal that at once."""

        def record(transaction: Transaction) -> None:
            data = _anchor_data(state)
            transaction.append(Draft(kind=Kind.CHECKPOINT_ANCHORED, data={**data, "wanted": checkpoint.size}))
            transaction.checkpoint()

        # When the trail cannot be written either, whoever writes next is told so.
        with suppress(AuditError):
            self.write(record)

    def _open_journal(self, path: Path) -> None:
        try:
            self.journal = EmergencyJournal(path)
            if self.journal.merge_into(self):
                self.checkpoint("merging the emergency journal")
        except BaseException:
            self.close()
            raise

    def _adopt_key(self) -> None:
        """Destroy the old key now: a transaction that finds the head under a staged key puts it to use."""
        self.write(lambda _transaction: None)

    def _rotate(self, transaction: Transaction, actor: Actor, reason: str) -> Entry:
        old, new = transaction.signer, self.keyring.stage()
        head = transaction.head
        # The entry itself is the last one the old key signs for, and the first one of the new key.
        rotation = Rotation(head.origin, head.size + 1, old.key, new.key)
        data: dict[str, Json] = {
            "old": str(old.key),
            "new": str(new.key),
            "size": rotation.size,
            "reason": reason,
            "note": str(rotation.signed(old, new)),
        }
        entry = transaction.append(Draft(kind=Kind.KEY_ROTATE, actor=actor, data=data))
        transaction.checkpoint(new)
        transaction.signer, head.key = new, str(new.key)
        return entry


def _anchor_data(state: AnchorState) -> dict[str, Json]:
    return {"anchor": state.name, "ok": not state.error, "size": state.size, "error": state.error[:500]}


def _migrate(transaction: Transaction, migration: Migration) -> None:
    for statement in schema.statements(migration.sql):
        transaction.connection.execute(statement)
    # -- record_change --
    transaction.connection.execute(
        "INSERT INTO schema_changes (number, name, sha256) VALUES (?, ?, ?)",
        (migration.number, migration.name, migration.digest),
    )
    data: dict[str, Json] = {"number": migration.number, "name": migration.name, "sha256": migration.digest}
    transaction.append(Draft(kind=Kind.SCHEMA_CHANGE, data=data))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _connect_readonly(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise AuditError(f"there is no audit trail at {path}")
    try:
        return _open_uri(path, "mode=ro")
    except sqlite3.OperationalError:
        # A WAL database needs a writable directory even for reading. Without a WAL beside it nothing
        # is missed by declaring the medium immutable; with one, the newest entries would be.
        wal = path.with_name(path.name + "-wal")
        if wal.exists() and wal.stat().st_size:
            raise
        return _open_uri(path, "immutable=1")


def _open_uri(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?{mode}",
        uri=True,
        timeout=LOCK_TIMEOUT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        # -- open_for_reading --
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _boot_id() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""

"""One writer at a time, and everybody who waits for it is served by one flush to the disk.

Whoever comes first leads: it commits its own work and all that queued up meanwhile (group commit),
then passes the lead to the first who is still waiting. So eight callers share a flush, nobody is
overtaken, and a lone caller pays for no thread switch (measured: a writer thread of its own costs a
third of the append rate). Each work runs in a savepoint: when it raises, it alone is rolled back, and
its caller gets the exception. Several processes may write to one file: each transaction takes
SQLite's write lock and reads the head again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from remediate.audit.checkpoint import Checkpoint
from remediate.audit.transaction import Transaction, store_head
from remediate.errors import AuditError, AuditUnavailable

T = TypeVar("T")

#: Works committed together at most; bounds how long the write lock is held.
MAX_BATCH = 256
#: Pause between two attempts at the write lock. SQLite's own busy handler backs off up to 100 ms,
#: and then starves under load (seen: 3.4 s); a short constant pause is fair enough.
_LOCK_PAUSE = 0.001


class _Request:
    """One work, and the place where its outcome appears."""

    __slots__ = ("done", "error", "result", "turn", "work")

    def __init__(self, work: Callable[[Transaction], Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        #: Released when the outcome is there, or when it is this caller's turn to lead.
        self.turn = threading.Lock()
        self.turn.acquire()


class Writer:
    """Runs works in transactions of `connection`, which it owns from now on."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        transaction: Callable[[sqlite3.Connection], Transaction],
        committed: Callable[[list[Checkpoint]], None],
        lock_timeout: float,
    ) -> None:
        self._path = path
        self._inode = _inode(path)
        self._connection = connection
        self._transaction = transaction
        self._committed = committed
        self._lock_timeout = lock_timeout
        self._queue: deque[_Request] = deque()
        self._mutex = threading.Lock()
        self._busy = False
        self._owner = 0
        self._closed = False

    def run(self, work: Callable[[Transaction], T]) -> T:
        """The result of `work` once it is durable."""
        if self._owner == threading.get_ident():
            raise AuditError("a work may not start another write; use the transaction it was given")
        request = _Request(work)
        if not self._takes_lead(request):
            request.turn.acquire()
        if not request.done:
            self._lead(request)
        if request.error is not None:
            raise request.error
        return cast("T", request.result)

    def stop(self) -> None:
        """Refuse what comes from now on and close the connection."""

        def close(_transaction: Transaction) -> None:
            self._closed = True

        with suppress(AuditError):
            self.run(close)
        self._closed = True
        self._connection.close()

    def _takes_lead(self, request: _Request) -> bool:
        with self._mutex:
            if self._busy:
                self._queue.append(request)
                return False
            self._busy = True
            return True

    def _lead(self, request: _Request) -> None:
        batch = [request]
        with self._mutex:
            batch.extend(self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH)))
        self._owner = threading.get_ident()
        try:
            self._commit(batch)
        finally:
            self._owner = 0
            self._pass_lead(batch[1:])

    def _pass_lead(self, served: list[_Request]) -> None:
        with self._mutex:
            successor = self._queue.popleft() if self._queue else None
            self._busy = successor is not None
        for request in served:
            request.turn.release()
        if successor is not None:
            successor.turn.release()

    def _commit(self, batch: list[_Request]) -> None:
        """Run the batch in one transaction; whoever was not refused on its own shares its fate."""
        checkpoints: list[Checkpoint] = []
        try:
            self._begin()
            transaction = self._transaction(self._connection)
            if len(batch) == 1:
                self._attempt_alone(transaction, batch[0])
            else:
                for request in batch:
                    self._attempt(transaction, request)
            if self._connection.in_transaction:
                if transaction.dirty:
                    store_head(self._connection, transaction.head)
                self._connection.execute("COMMIT")
                checkpoints = transaction.checkpoints
        except AuditError as error:
            self._fail(batch, error)
        except (sqlite3.Error, OSError) as error:
            unwritable = AuditUnavailable(_reason(self._path, error))
            unwritable.__cause__ = error
            self._fail(batch, unwritable)
        except BaseException as error:
            self._fail(batch, error)
            raise
        finally:
            for request in batch:
                request.done = True
        if checkpoints:
            self._committed(checkpoints)

    def _begin(self) -> None:
        if self._closed:
            raise AuditUnavailable("the audit trail is closed; nothing was recorded")
        if _inode(self._path) != self._inode:
            raise AuditUnavailable(f"{self._path} was replaced while it was open; restart the worker")
        deadline = time.monotonic() + self._lock_timeout
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                if not busy or time.monotonic() > deadline:
                    raise
            time.sleep(_LOCK_PAUSE)

    def _attempt_alone(self, transaction: Transaction, request: _Request) -> None:
        """Without a savepoint, which costs a lone work a tenth of its time."""
        try:
            request.result = request.work(transaction)
        except BaseException as error:  # noqa: BLE001 - it is the caller's, who gets it in `run`
            request.error = unavailable(self._path, error)
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _attempt(self, transaction: Transaction, request: _Request) -> None:
        head, dirty, signed = transaction.head.copy(), transaction.dirty, len(transaction.checkpoints)
        self._connection.execute("SAVEPOINT work")
        try:
            request.result = request.work(transaction)
        except BaseException as error:
            if not self._connection.in_transaction:
                # SQLite itself gave up the transaction (disk full, I/O error): the batch is lost.
                raise AuditUnavailable(_reason(self._path, error)) from error
            self._connection.execute("ROLLBACK TO work")
            transaction.head, transaction.dirty = head, dirty
            del transaction.checkpoints[signed:]
            request.error = unavailable(self._path, error)
        self._connection.execute("RELEASE work")

    def _fail(self, batch: list[_Request], error: BaseException) -> None:
        if self._connection.in_transaction:
            # Should this fail, the next BEGIN meets the same trouble and reports it.
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
        for request in batch:
            request.error = request.error or error


def unavailable(path: Path, error: BaseException) -> BaseException:
    """What a caller gets for `error`: trouble of the disk as `AuditUnavailable`, the rest as it is."""
    mistake = isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError))
    if isinstance(error, sqlite3.Error) and not mistake:
        wrapped = AuditUnavailable(_reason(path, error))
        wrapped.__cause__ = error
        return wrapped
    return error


def _reason(path: Path, error: BaseException) -> str:
    return (
        f"the audit trail {path} cannot be written ({error}), so nothing was done; "
        "free space, check permissions and the disk, then try again"
    )


def _inode(path: Path) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116 - once per commit, and a Path costs more than the call
    return status.st_dev, status.st_ino

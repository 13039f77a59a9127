# Copyright the remediate authors
# SPDX-License-Identifier: Apache-2.0
"""Session stores that a reset can act on: a SQLite file, Redis, PostgreSQL.

A reset moves the epoch of a family of sessions from the value that the snapshot saw to the next one,
by compare-and-set, and then removes the sessions of older epochs in batches. The move alone refuses
every old token; the removal is cleaning up. Nothing outside the family's key prefix is touched, and
a session of the new epoch is kept, so that a second pass changes nothing.

Expected in the store, by name:

    Redis        <epoch_name>                an integer
                 auth:revoked:<family>       set of epochs whose signing key has leaked   (optional)
                 auth:key:<family>:<epoch>   signing key of an epoch                      (optional)
                 <prefix><epoch>:...         a session; without an epoch in its name it counts as old
    SQL          auth_state(name, value)     the epochs
                 auth_key(family, epoch, secret, revoked)                                 (optional)
                 session(key, epoch, ...)    the sessions and what shares their table
"""

from __future__ import annotations

import sqlite3
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class StoreError(Exception):
    """The store cannot be used; a sentence that says what was found, expected and to do."""


class Family:
    """One kind of session: where its epoch is kept and which keys are its own."""

    def __init__(self, name: str, prefix: str, epoch_name: str, epoch: int = 0, new_epoch: int = 0) -> None:
        self.name = name
        self.prefix = prefix
        self.epoch_name = epoch_name
        #: The epoch that the snapshot saw, and the one a reset moves to; 0: only looking.
        self.epoch = epoch
        self.new_epoch = new_epoch

    def epoch_of(self, key: str) -> int:
        """Return the epoch in a session's key, 0 where the site keeps none there."""
        head = key[len(self.prefix) :].partition(":")[0]
        return int(head) if head.isdigit() and len(head) < 16 else 0


class Change:
    """What one family's reset or restoration did, or would do in check mode."""

    def __init__(self, before: int, after: int, removed: int = 0, kept: int = 0) -> None:
        self.before = before
        self.after = after
        self.removed = removed
        #: Sessions under the prefix that were left, because they are of the new epoch.
        self.kept = kept

    @property
    def changed(self) -> bool:
        return self.before != self.after or self.removed > 0


def conflict(family: Family, found: int, wanted: str) -> StoreError:
    return StoreError(
        f"the epoch of the {family.name} family is {found}, expected {wanted}: somebody else has reset these "
        "sessions since the snapshot; start a new run, which takes a new snapshot"
    )


def _missing(package: str, why: str) -> StoreError:
    return StoreError(
        f"the {why} store needs the Python package {package} on the host that runs this module, and it is "
        f"missing there: python3 -m pip install '{package}'"
    )


class Counting:
    """Epochs that are plain numbers."""

    def next_epoch(self, epoch: int) -> int:
        return epoch + 1


class RedisBackend(Counting):
    """A Redis master. Walks by SCAN and frees by UNLINK: KEYS and FLUSH* would stop or empty it."""

    #: 1: moved; 0: was there already; -1: is at neither value.
    _MOVE = """
    local found = tonumber(redis.call('GET', KEYS[1]))
    if found == nil then return {-2, 0} end
    if found == tonumber(ARGV[2]) then return {0, found} end
    if found ~= tonumber(ARGV[1]) then return {-1, found} end
    redis.call('SET', KEYS[1], ARGV[2])
    if #KEYS > 1 then redis.call('UNLINK', KEYS[2]) end
    return {1, found}
    """

    def __init__(self, host: str, port: int, database: str, user: str, password: str, timeout: int) -> None:
        try:
            import redis
        except ImportError as missing:
            raise _missing("redis", "redis") from missing
        where: dict[str, Any] = (
            {"unix_socket_path": host} if host.startswith("/") else {"host": host, "port": port or 6379}
        )
        self._errors: Any = redis.RedisError
        self._db: Any = redis.Redis(
            **where,
            db=int(database or 0),
            username=user or None,
            password=password or None,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
        )

    @contextmanager
    def guarded(self) -> Iterator[None]:
        try:
            yield
        except self._errors as failed:
            raise StoreError(f"Redis refuses or does not answer: {failed}") from failed

    def check(self) -> None:
        role = self._db.info("replication").get("role")
        if role != "master":
            raise StoreError(
                f"this Redis is a {role}, expected the master: point session_token_reset_host to the master"
            )

    def epoch(self, family: Family) -> int:
        found = self._db.get(family.epoch_name)
        if found is None or not found.isdigit():
            raise StoreError(
                f"Redis has no number under {family.epoch_name}, expected the session epoch there: check "
                "session_token_reset_database and session_token_reset_epoch_name"
            )
        return int(found)

    def revoked(self, family: Family) -> set[int]:
        found = self._db.smembers("auth:revoked:" + family.name)
        return {int(epoch) for epoch in found if epoch.isdigit()}

    def _pages(self, family: Family, batch: int) -> Iterator[list[bytes]]:
        cursor = 0
        while True:
            cursor, keys = self._db.scan(cursor, match=family.prefix + "*", count=batch)
            if keys:
                yield keys
            if cursor == 0:
                return

    def count(self, family: Family, batch: int) -> Counter[int]:
        found: Counter[int] = Counter()
        for keys in self._pages(family, batch):
            found.update(family.epoch_of(key.decode("utf-8", "replace")) for key in keys)
        return found

    def total(self) -> int:
        return int(self._db.dbsize())

    def reset(self, family: Family, batch: int) -> Change:
        verdict, found = self._db.eval(self._MOVE, 1, family.epoch_name, family.epoch, family.new_epoch)
        if verdict < 0:
            raise conflict(family, found, f"{family.epoch} or {family.new_epoch}")
        keep = f"{family.prefix}{family.new_epoch}:".encode()
        removed = kept = 0
        for keys in self._pages(family, batch):
            old = [key for key in keys if not key.startswith(keep)]
            kept += len(keys) - len(old)
            if old:
                removed += self._db.unlink(*old)
        return Change(found, family.new_epoch, removed, kept)

    def restore(self, family: Family) -> Change:
        # The new epoch's key goes with it: its number will be used again, its tokens must not be.
        key = f"auth:key:{family.name}:{family.new_epoch}"
        verdict, found = self._db.eval(self._MOVE, 2, family.epoch_name, key, family.new_epoch, family.epoch)
        if verdict < 0:
            raise conflict(family, found, f"{family.new_epoch} or {family.epoch}")
        return Change(found, family.epoch)


class _SqlBackend(Counting):
    """What SQLite and PostgreSQL share: the three tables, walked by key in batches."""

    mark = "?"
    has_keys = True

    def run(self, sql: str, *values: Any) -> list[Any]:
        raise NotImplementedError

    def begin(self) -> Any:
        """Return a context: one transaction, committed at its end, undone on an error."""
        raise NotImplementedError

    def delete(self, keys: list[str]) -> int:
        raise NotImplementedError

    def lock_clause(self) -> str:
        return ""

    def _sql(self, text: str) -> str:
        return text.replace("?", self.mark)

    def epoch(self, family: Family, locked: bool = False) -> int:
        sql = "SELECT value FROM auth_state WHERE name = ?"
        if locked:
            sql += self.lock_clause()
        rows = self.run(self._sql(sql), family.epoch_name)
        if not rows:
            raise StoreError(
                f"table auth_state has no row named {family.epoch_name}, expected the session epoch there: "
                "check session_token_reset_database and session_token_reset_epoch_name"
            )
        return int(rows[0][0])

    def revoked(self, family: Family) -> set[int]:
        if not self.has_keys:
            return set()
        sql = "SELECT epoch FROM auth_key WHERE family = ? AND revoked = 1"
        return {int(row[0]) for row in self.run(self._sql(sql), family.name)}

    def count(self, family: Family, batch: int) -> Counter[int]:
        del batch  # the database counts by itself
        sql = "SELECT coalesce(epoch, 0), count(*) FROM session WHERE substr(key, 1, ?) = ? GROUP BY 1"
        rows = self.run(self._sql(sql), len(family.prefix), family.prefix)
        return Counter({int(epoch): int(found) for epoch, found in rows})

    def total(self) -> int:
        return int(self.run("SELECT count(*) FROM session")[0][0])

    def _move(self, family: Family, old: int, new: int) -> int:
        found = self.epoch(family, locked=True)
        if found not in (old, new):
            raise conflict(family, found, f"{old} or {new}")
        if found != new:
            self.run(self._sql("UPDATE auth_state SET value = ? WHERE name = ?"), new, family.epoch_name)
        return found

    def reset(self, family: Family, batch: int) -> Change:
        # One transaction: a crash leaves either the old state whole or the new one.
        with self.begin():
            found = self._move(family, family.epoch, family.new_epoch)
            page = (
                "SELECT key FROM session WHERE key > ? AND substr(key, 1, ?) = ? AND "
                "coalesce(epoch, 0) <> ? ORDER BY key LIMIT ?"
            )
            last, removed = "", 0
            while True:
                size = len(family.prefix)
                rows = self.run(self._sql(page), last, size, family.prefix, family.new_epoch, batch)
                if not rows:
                    kept = sum(self.count(family, batch).values())
                    return Change(found, family.new_epoch, removed, kept)
                keys = [str(row[0]) for row in rows]
                removed += self.delete(keys)
                last = keys[-1]

    def restore(self, family: Family) -> Change:
        with self.begin():
            found = self._move(family, family.new_epoch, family.epoch)
            if found != family.epoch and self.has_keys:
                # The new epoch's key goes with it: its number will be used again, its tokens must not be.
                sql = "DELETE FROM auth_key WHERE family = ? AND epoch = ?"
                self.run(self._sql(sql), family.name, family.new_epoch)
            return Change(found, family.epoch)


class EmbeddedBackend(_SqlBackend):
    """The SQLite file of a service without a store server."""

    def __init__(self, path: str, timeout: int) -> None:
        self._path = path
        try:
            # mode=rw: a mistyped path must not make an empty store that looks like a reset one.
            self._db = sqlite3.connect(
                f"file:{urllib.parse.quote(path)}?mode=rw",
                uri=True,
                isolation_level=None,
                timeout=timeout,
            )
        except sqlite3.Error as failed:
            raise StoreError(f"SQLite file {path} cannot be opened: {failed}") from failed

    @contextmanager
    def guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as failed:
            raise StoreError(f"SQLite file {self._path} refuses: {failed}") from failed

    def check(self) -> None:
        self.has_keys = bool(self.run("SELECT 1 FROM sqlite_master WHERE name = 'auth_key'"))

    def run(self, sql: str, *values: Any) -> list[Any]:
        return self._db.execute(sql, values).fetchall()

    @contextmanager
    def begin(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def delete(self, keys: list[str]) -> int:
        return self._db.executemany("DELETE FROM session WHERE key = ?", [(key,) for key in keys]).rowcount


class PostgresBackend(_SqlBackend):
    """A PostgreSQL database. Waits for a lock only shortly: the login path must not queue behind us."""

    mark = "%s"

    def __init__(self, host: str, port: int, database: str, user: str, password: str, timeout: int) -> None:
        try:
            import psycopg
        except ImportError as missing:
            raise _missing("psycopg[binary]", "postgresql") from missing
        self._errors: Any = psycopg.Error
        self._lock_timeout = f"{min(timeout, 2)}s"
        given: dict[str, Any] = {
            "host": host,
            "port": port or None,
            "dbname": database or None,
            "user": user or None,
            "password": password or None,
        }
        with self.guarded():
            self._db: Any = psycopg.connect(
                autocommit=True,
                connect_timeout=timeout,
                **{name: value for name, value in given.items() if value is not None},
            )

    @contextmanager
    def guarded(self) -> Iterator[None]:
        try:
            yield
        except self._errors as failed:
            words = str(failed).strip().split("\n")[0]
            raise StoreError(f"PostgreSQL refuses or does not answer: {words}") from failed

    def check(self) -> None:
        if self.run("SELECT pg_is_in_recovery()")[0][0]:
            raise StoreError(
                "this PostgreSQL is a standby, expected the primary: point session_token_reset_host there"
            )
        self.has_keys = self.run("SELECT to_regclass('auth_key') IS NOT NULL")[0][0]

    def lock_clause(self) -> str:
        return " FOR UPDATE"

    def run(self, sql: str, *values: Any) -> list[Any]:
        with self._db.cursor() as cursor:
            cursor.execute(sql, values)
            return list(cursor.fetchall()) if cursor.description else []

    @contextmanager
    def begin(self) -> Iterator[None]:
        with self._db.transaction():
            self.run("SELECT set_config('lock_timeout', %s, true)", self._lock_timeout)
            yield

    def delete(self, keys: list[str]) -> int:
        with self._db.cursor() as cursor:
            cursor.execute("DELETE FROM session WHERE key = ANY(%s)", (keys,))
            return int(cursor.rowcount)

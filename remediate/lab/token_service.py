"""A session-token service to reset in the demo, the lab and the tests.

It stands in for a site's identity service and is nothing more than that: no refresh tokens, no key
server, one process. What is real about it is what a reset has to deal with: tokens signed by the key
of an epoch, live sessions in a store that other data shares, device credentials beside browser
sessions, a second verifier that remembers whom it trusted, and a signing key that can leak.

    token   = epoch.user.sid.hmac(key(family, epoch))     accepted while its epoch is the current one
    session = <prefix><epoch>:<user>:<sid> in the store   `sess:` for people, `devsess:` for devices

    python -m remediate.lab.token_service --store embedded:PATH --users FILE --port N
    python -m remediate.lab.token_service --verifier-of URL --cache-ttl SECONDS --port N
    python -m remediate.lab.token_service --users FILE --add-user NAME --kind browser < password
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import signal
import sqlite3
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from remediate.errors import ConfigError, RemediateError

#: What a session is for; the first letter of its id says so, so that a census needs no second look.
KINDS = {"b": "browser", "a": "api", "s": "stream", "d": "device"}
#: The key prefix of each family; device credentials have their own epoch, so that people can be
#: logged out without silencing the cameras.
PREFIX = {"session": "sess:", "device": "devsess:"}
TTL_SECONDS = 8 * 3600
BODY_LIMIT = 65536
#: How far back the share of refused requests looks.
WINDOW_SECONDS = 60
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def family_of(sid: str) -> str:
    """Which epoch a session id answers to."""
    return "device" if sid[:1] == "d" else "session"


def epoch_name(family: str) -> str:
    """Name of a family's epoch in the store."""
    return "auth:epoch" if family == "session" else f"auth:epoch:{family}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """What a store holds at one moment."""

    #: family -> epoch -> live sessions.
    sessions: Mapping[str, Mapping[int, int]]
    #: kind -> live sessions.
    kinds: Mapping[str, int]
    #: family -> epochs whose key is known to have leaked.
    revoked: Mapping[str, frozenset[int]]
    #: Items that are no session of either family.
    other: int


class Store(Protocol):
    """Where epochs, signing keys and live sessions are kept."""

    def epoch(self, family: str) -> int:
        """Return the family's current epoch."""
        ...

    def key(self, family: str, epoch: int) -> bytes:
        """Return the signing key of an epoch, made at its first use."""
        ...

    def put(self, name: str, epoch: int, ttl: int) -> None:
        """Remember a live session."""
        ...

    def has(self, name: str) -> bool:
        """Say whether a session is live."""
        ...

    def remove(self, name: str) -> None:
        """Forget a session."""
        ...

    def revoke(self, family: str) -> int:
        """Mark the key of the current epoch as leaked; return that epoch."""
        ...

    def census(self) -> Census:
        """Count what is there; walks the whole store, so it is for looks and not for requests."""
        ...


def _census(names: Iterator[str], revoked: Mapping[str, frozenset[int]]) -> Census:
    sessions: dict[str, Counter[int]] = {family: Counter() for family in PREFIX}
    kinds: Counter[str] = Counter()
    other = 0
    for name in names:
        family = next((f for f, prefix in PREFIX.items() if name.startswith(prefix)), None)
        if family is None:
            other += 1
            continue
        epoch, _, rest = name.removeprefix(PREFIX[family]).partition(":")
        sessions[family][int(epoch) if epoch.isdecimal() else 0] += 1
        kinds[KINDS.get(rest.rpartition(":")[2][:1], "unknown")] += 1
    return Census(sessions=sessions, kinds=kinds, revoked=revoked, other=other)


class EmbeddedStore:
    """A SQLite file: no server to start."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5)
        self._db.execute("PRAGMA journal_mode=WAL")
        for statement in _schema("blob"):
            self._db.execute(statement)
        for family in PREFIX:
            self._run("INSERT OR IGNORE INTO auth_state VALUES (?, 1)", epoch_name(family))

    def _run(self, sql: str, *values: object) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def epoch(self, family: str) -> int:
        """Return the family's current epoch."""
        return int(self._run("SELECT value FROM auth_state WHERE name = ?", epoch_name(family))[0][0])

    def key(self, family: str, epoch: int) -> bytes:
        """Return the signing key of an epoch, made at its first use."""
        fresh = secrets.token_bytes(32)
        self._run("INSERT OR IGNORE INTO auth_key VALUES (?, ?, ?, 0)", family, epoch, fresh)
        rows = self._run("SELECT secret FROM auth_key WHERE family = ? AND epoch = ?", family, epoch)
        return bytes(rows[0][0])

    def put(self, name: str, epoch: int, ttl: int) -> None:
        """Remember a live session."""
        self._run("INSERT INTO session VALUES (?, ?, ?)", name, epoch, int(time.time()) + ttl)

    def has(self, name: str) -> bool:
        """Say whether a session is live."""
        return bool(self._run("SELECT 1 FROM session WHERE key = ? AND expires > ?", name, int(time.time())))

    def remove(self, name: str) -> None:
        """Forget a session."""
        self._run("DELETE FROM session WHERE key = ?", name)

    def revoke(self, family: str) -> int:
        """Mark the key of the current epoch as leaked."""
        epoch = self.epoch(family)
        self.key(family, epoch)
        self._run("UPDATE auth_key SET revoked = 1 WHERE family = ? AND epoch = ?", family, epoch)
        return epoch

    def census(self) -> Census:
        """Count what is there."""
        revoked = self._run("SELECT family, epoch FROM auth_key WHERE revoked = 1")
        names = self._run("SELECT key FROM session")
        return _census((row[0] for row in names), _by_family(revoked))


class RedisStore:
    """A Redis database that other applications may share."""

    def __init__(self, url: str) -> None:
        try:
            import redis
        except ImportError as missing:
            raise ConfigError("a redis store needs the Python package redis: pip install redis") from missing
        self._db = redis.Redis.from_url(url, socket_timeout=5)
        for family in PREFIX:
            self._db.set(epoch_name(family), 1, nx=True)

    def epoch(self, family: str) -> int:
        """Return the family's current epoch."""
        return int(self._db.get(epoch_name(family)) or 1)

    def key(self, family: str, epoch: int) -> bytes:
        """Return the signing key of an epoch, made at its first use."""
        name = f"auth:key:{family}:{epoch}"
        self._db.set(name, secrets.token_bytes(32), nx=True)
        found = self._db.get(name)
        return found if isinstance(found, bytes) else b""

    def put(self, name: str, epoch: int, ttl: int) -> None:
        """Remember a live session."""
        self._db.set(name, epoch, ex=ttl)

    def has(self, name: str) -> bool:
        """Say whether a session is live."""
        return bool(self._db.exists(name))

    def remove(self, name: str) -> None:
        """Forget a session."""
        self._db.unlink(name)

    def revoke(self, family: str) -> int:
        """Mark the key of the current epoch as leaked."""
        epoch = self.epoch(family)
        self.key(family, epoch)
        self._db.sadd(f"auth:revoked:{family}", epoch)
        return epoch

    def census(self) -> Census:
        """Count what is there."""
        revoked = [(f, int(e)) for f in PREFIX for e in self._db.smembers(f"auth:revoked:{f}")]
        found = self._db.scan_iter(count=1000)
        names = (name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in found)
        return _census(names, _by_family(revoked))


class PostgresStore:
    """A PostgreSQL database with the three tables of `_schema`."""

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError as missing:
            raise ConfigError(
                "a postgresql store needs the Python package psycopg: pip install 'psycopg[binary]'"
            ) from missing
        self._lock = threading.Lock()
        self._db = psycopg.connect(url, autocommit=True, connect_timeout=5)
        for statement in _schema("bytea"):
            self._run(statement)
        for family in PREFIX:
            self._run("INSERT INTO auth_state VALUES (%s, 1) ON CONFLICT DO NOTHING", epoch_name(family))

    def _run(self, sql: str, *values: object) -> list[Any]:
        with self._lock, self._db.cursor() as cursor:
            cursor.execute(sql.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def epoch(self, family: str) -> int:
        """Return the family's current epoch."""
        return int(self._run("SELECT value FROM auth_state WHERE name = %s", epoch_name(family))[0][0])

    def key(self, family: str, epoch: int) -> bytes:
        """Return the signing key of an epoch, made at its first use."""
        fresh = secrets.token_bytes(32)
        self._run("INSERT INTO auth_key VALUES (%s, %s, %s, 0) ON CONFLICT DO NOTHING", family, epoch, fresh)
        rows = self._run("SELECT secret FROM auth_key WHERE family = %s AND epoch = %s", family, epoch)
        return bytes(rows[0][0])

    def put(self, name: str, epoch: int, ttl: int) -> None:
        """Remember a live session."""
        self._run("INSERT INTO session VALUES (%s, %s, %s)", name, epoch, int(time.time()) + ttl)

    def has(self, name: str) -> bool:
        """Say whether a session is live."""
        now = int(time.time())
        return bool(self._run("SELECT 1 FROM session WHERE key = %s AND expires > %s", name, now))

    def remove(self, name: str) -> None:
        """Forget a session."""
        self._run("DELETE FROM session WHERE key = %s", name)

    def revoke(self, family: str) -> int:
        """Mark the key of the current epoch as leaked."""
        epoch = self.epoch(family)
        self.key(family, epoch)
        self._run("UPDATE auth_key SET revoked = 1 WHERE family = %s AND epoch = %s", family, epoch)
        return epoch

    def census(self) -> Census:
        """Count what is there."""
        revoked = self._run("SELECT family, epoch FROM auth_key WHERE revoked = 1")
        return _census((row[0] for row in self._run("SELECT key FROM session")), _by_family(revoked))


def _schema(blob: str) -> list[str]:
    return [
        "CREATE TABLE IF NOT EXISTS auth_state (name TEXT PRIMARY KEY, value BIGINT NOT NULL)",
        f"CREATE TABLE IF NOT EXISTS auth_key (family TEXT, epoch BIGINT, secret {blob} NOT NULL,"
        " revoked INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (family, epoch))",
        "CREATE TABLE IF NOT EXISTS session (key TEXT PRIMARY KEY, epoch BIGINT, expires BIGINT)",
    ]


def _by_family(rows: list[Any]) -> dict[str, frozenset[int]]:
    return {family: frozenset(int(e) for f, e in rows if f == family) for family in PREFIX}


def open_store(spec: str) -> Store:
    """Open `embedded:PATH`, `redis://...` or `postgresql://...`."""
    if spec.startswith("embedded:"):
        return EmbeddedStore(Path(spec.removeprefix("embedded:")))
    if spec.startswith(("redis://", "unix://")):
        return RedisStore(spec)
    if spec.startswith(("postgresql://", "postgres://")):
        return PostgresStore(spec)
    raise ConfigError("--store is none of embedded:PATH, redis://..., postgresql://...")


# ---- people -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Somebody who may log in."""

    salt: bytes
    digest: bytes
    #: Kinds of session this account may open; the first one is what it gets unasked.
    kinds: tuple[str, ...]


def hash_password(password: str, salt: bytes) -> bytes:
    """Return what is stored instead of the password."""
    return hashlib.scrypt(password.encode(), salt=salt, n=2**13, r=8, p=1)


def add_user(users: Path, name: str, password: str, kinds: tuple[str, ...] = ("browser",)) -> None:
    """Write an account into the users file, which is readable by its owner only."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"user name {name!r} is not letters, digits, '-' and '_', at most 32")
    if not password:
        raise ConfigError(f"user {name} has no password: give it on standard input")
    known = json.loads(users.read_text()) if users.exists() else {}
    salt = secrets.token_bytes(16)
    known[name] = {
        "salt": base64.b64encode(salt).decode(),
        "digest": base64.b64encode(hash_password(password, salt)).decode(),
        "kinds": list(kinds),
    }
    with open(os.open(users, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:  # noqa: PTH123
        json.dump(known, out, indent=1)


def read_users(users: Path) -> dict[str, Account]:
    """Return the accounts of a users file."""
    try:
        return {
            name: Account(
                salt=base64.b64decode(entry["salt"]),
                digest=base64.b64decode(entry["digest"]),
                kinds=tuple(entry["kinds"]),
            )
            for name, entry in json.loads(users.read_text()).items()
        }
    except (OSError, ValueError, KeyError, TypeError) as broken:
        raise ConfigError(f"users file {users} cannot be read: {broken}") from broken


# ---- tokens -----------------------------------------------------------------------------------


class TokenService:
    """Issues tokens and says of each whether it is good."""

    def __init__(self, store: Store, users: Mapping[str, Account]) -> None:
        self._store = store
        self._users = users

    def _mac(self, family: str, epoch: int, user: str, sid: str) -> str:
        text = f"{epoch}.{user}.{sid}".encode()
        return hmac.new(self._store.key(family, epoch), text, hashlib.sha256).hexdigest()

    def login(self, user: str, password: str, kind: str | None) -> str | None:
        """Return a new token, or nothing if the account, the password or the kind is wrong."""
        account = self._users.get(user)
        # An unknown name costs the same time as a wrong password.
        salt, digest = (account.salt, account.digest) if account else (b"\0" * 16, b"")
        right = hmac.compare_digest(hash_password(password, salt), digest)
        if account is None or not right:
            return None
        kind = kind or account.kinds[0]
        letter = next((letter for letter, name in KINDS.items() if name == kind), None)
        if letter is None or kind not in account.kinds:
            return None
        sid = letter + secrets.token_hex(12)
        family = family_of(sid)
        epoch = self._store.epoch(family)
        mac = self._mac(family, epoch, user, sid)
        self._store.put(f"{PREFIX[family]}{epoch}:{user}:{sid}", epoch, TTL_SECONDS)
        return f"{epoch}.{user}.{sid}.{mac}"

    def _open(self, token: str) -> tuple[str, str, str] | None:
        """Return family, user and session name of a good token."""
        parts = token.split(".")
        if len(parts) != 4 or not parts[0].isdecimal() or len(parts[0]) > 12:
            return None
        epoch, (user, sid, mac) = int(parts[0]), parts[1:]
        family = family_of(sid)
        if epoch != self._store.epoch(family):
            return None
        if not hmac.compare_digest(self._mac(family, epoch, user, sid).encode(), mac.encode()):
            return None
        name = f"{PREFIX[family]}{epoch}:{user}:{sid}"
        return (family, user, name) if self._store.has(name) else None

    def whoami(self, token: str) -> str | None:
        """Return whose token this is, or nothing if it is refused.

        A token signed by a *revoked* key still passes: that this service does not look at the
        revocation is the fault SEC-SESS-STALE, and a new epoch is what mends it.
        """
        found = self._open(token)
        return found[1] if found else None

    def logout(self, token: str) -> None:
        """End one session."""
        if found := self._open(token):
            self._store.remove(found[2])

    def revoke_key(self, family: str) -> int:
        """Inject the fault: the current signing key is known to have leaked."""
        return self._store.revoke(family)

    def stats(self) -> dict[str, object]:
        """Return counts and key numbers, never a token."""
        census = self._store.census()
        epochs = {family: self._store.epoch(family) for family in PREFIX}
        live = sum(census.sessions[f].get(epochs[f], 0) for f in PREFIX)
        bad = sum(census.sessions[f].get(epochs[f], 0) for f in PREFIX if epochs[f] in census.revoked[f])
        return {
            "epoch": epochs,
            "sessions": dict(census.kinds),
            "live": live,
            "other_items": census.other,
            "revoked_epochs": {family: sorted(found) for family, found in census.revoked.items()},
            "current_key_revoked": any(epochs[f] in census.revoked[f] for f in PREFIX),
            "revoked_share_per_mille": 1000 * bad // live if live else 0,
        }


@dataclass
class CachingVerifier:
    """A second verifier that asks the service once and then believes its own memory."""

    upstream: str
    ttl: float
    _trusted: dict[str, tuple[float, str]] = field(default_factory=dict)

    def whoami(self, token: str) -> str | None:
        """Return whose token this is, by memory while it lasts."""
        name = hashlib.sha256(token.encode()).hexdigest()
        until, user = self._trusted.get(name, (0.0, ""))
        if until > time.monotonic():
            return user
        self._trusted.pop(name, None)
        body = json.dumps({"token": token}).encode()
        request = urllib.request.Request(  # noqa: S310  (the URL is the starter's own)
            f"{self.upstream}/introspect", data=body, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=3) as reply:  # noqa: S310
                answer = json.load(reply)
        except (urllib.error.URLError, TimeoutError, ValueError):
            return None
        if not answer.get("active"):
            return None
        self._trusted[name] = (time.monotonic() + self.ttl, str(answer["username"]))
        return str(answer["username"])

    def flush(self) -> int:
        """Forget everybody; return how many were trusted."""
        count = len(self._trusted)
        self._trusted.clear()
        return count


class Traffic:
    """How many requests were served and refused, in all and in the last minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent: deque[tuple[float, bool]] = deque(maxlen=100_000)
        self._lock = threading.Lock()
        self.served = 0
        self.refused = 0

    def count(self, *, served: bool) -> None:
        """Note one request that carried a token."""
        with self._lock:
            self._recent.append((self._clock(), served))
            if served:
                self.served += 1
            else:
                self.refused += 1

    def snapshot(self) -> dict[str, object]:
        """Return the totals and the refused share of the window."""
        with self._lock:
            while self._recent and self._recent[0][0] < self._clock() - WINDOW_SECONDS:
                self._recent.popleft()
            refused = sum(not served for _, served in self._recent)
            share = 1000 * refused // len(self._recent) if self._recent else 0
            recent = len(self._recent)
        return {
            "served": self.served,
            "refused": self.refused,
            "recent_requests": recent,
            "refused_share_per_mille": share,
        }


# ---- HTTP -------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """The service or the second verifier on 127.0.0.1."""

    daemon_threads = True

    def __init__(
        self, port: int, role: TokenService | CachingVerifier, admin_secret: str | None = None
    ) -> None:
        self.role = role
        self.admin_secret = admin_secret
        self.traffic = Traffic()
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One request; nothing of it is written to a log, because every one carries a secret."""

    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Write nothing."""

    def _reply(self, status: int, body: Mapping[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> dict[str, str]:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > BODY_LIMIT:
            self.close_connection = True
            return {}
        raw = self.rfile.read(int(length))
        if self.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            return {name: values[0] for name, values in parse_qs(raw.decode("utf-8", "replace")).items()}
        try:
            found = json.loads(raw or b"{}")
        except ValueError:
            return {}
        if not isinstance(found, dict):
            return {}
        return {str(name): value for name, value in found.items() if isinstance(value, str)}

    def _bearer(self) -> str:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def _is_admin(self) -> bool:
        expected = self.server.admin_secret
        return expected is not None and hmac.compare_digest(expected.encode(), self._bearer().encode())

    def do_GET(self) -> None:
        """Answer, or say that the store does not."""
        self._answered(self._get)

    def do_POST(self) -> None:
        """Answer, or say that the store does not."""
        self._answered(self._post)

    def _answered(self, answer: Callable[[], None]) -> None:
        try:
            answer()
        except ConnectionError:
            self.close_connection = True  # the client went away
        except Exception:  # noqa: BLE001  (every driver has its own errors; all mean the same here)
            self.close_connection = True
            self._reply(503, {"error": "the session store does not answer"})

    def _get(self) -> None:
        """Answer /whoami, /stats and /healthz."""
        role = self.server.role
        path = urlsplit(self.path).path
        if path == "/whoami":
            user = role.whoami(self._bearer())
            self.server.traffic.count(served=user is not None)
            self._reply(200, {"user": user}) if user else self._reply(401, {"error": "token refused"})
        elif path == "/stats":
            own = role.stats() if isinstance(role, TokenService) else {}
            self._reply(200, {**own, **self.server.traffic.snapshot()})
        elif path == "/healthz":
            self._reply(200, {"ok": True})
        else:
            self._reply(404, {"error": "no such path"})

    def _post(self) -> None:
        """Answer /login, /logout, /introspect and the guarded /admin paths."""
        role = self.server.role
        path = urlsplit(self.path).path
        body = self._body()
        if path == "/introspect":
            user = role.whoami(body.get("token", ""))
            self._reply(200, {"active": True, "username": user} if user else {"active": False})
        elif path.startswith("/admin/"):
            self._admin(path)
        elif path == "/login" and isinstance(role, TokenService):
            token = role.login(body.get("user", ""), body.get("password", ""), body.get("kind"))
            self._reply(200, {"token": token}) if token else self._reply(401, {"error": "login refused"})
        elif path == "/logout" and isinstance(role, TokenService):
            role.logout(self._bearer())
            self._reply(200, {})
        else:
            self._reply(404, {"error": "no such path"})

    def _admin(self, path: str) -> None:
        role = self.server.role
        if not self._is_admin():
            self._reply(403, {"error": "the admin secret is missing or wrong"})
        elif path == "/admin/revoke-key" and isinstance(role, TokenService):
            self._reply(200, {"revoked_epoch": role.revoke_key("session")})
        elif path == "/admin/flush":
            self._reply(200, {"forgotten": role.flush() if isinstance(role, CachingVerifier) else 0})
        else:
            self._reply(404, {"error": "no such path"})


def announce(ready: Path | None, url: str) -> None:
    """Write where the server answers, once it does; the file appears whole or not at all."""
    if ready is not None:
        draft = ready.with_name(ready.name + ".tmp")
        draft.write_text(json.dumps({"url": url, "pid": os.getpid()}))
        draft.replace(ready)


def serve(server: ThreadingHTTPServer) -> None:
    """Serve until SIGTERM or SIGINT."""

    def stop(*_: object) -> None:
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    server.serve_forever(poll_interval=0.1)
    server.server_close()


def main(argv: list[str] | None = None) -> int:
    """Run the service, a second verifier, or add an account."""
    parser = argparse.ArgumentParser(prog="python -m remediate.lab.token_service", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--store", help="embedded:PATH, redis://... or postgresql://...")
    parser.add_argument("--verifier-of", metavar="URL", help="be a second verifier of that service")
    parser.add_argument("--cache-ttl", type=float, default=5.0, help="seconds the verifier remembers")
    parser.add_argument("--users", type=Path, help="accounts, written by --add-user")
    parser.add_argument("--add-user", metavar="NAME", help="add an account; password on standard input")
    parser.add_argument("--kind", action="append", choices=sorted(KINDS.values()), help="may be repeated")
    parser.add_argument("--admin-secret-file", type=Path, help="without it nobody is admin")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--ready-file", type=Path, help="written with url and pid once it answers")
    given = parser.parse_args(argv)
    try:
        if given.add_user:
            if given.users is None:
                raise ConfigError("--add-user needs --users FILE")
            password = sys.stdin.readline().rstrip("\n")
            add_user(given.users, given.add_user, password, tuple(given.kind or ["browser"]))
            return 0
        secret = given.admin_secret_file.read_text().strip() if given.admin_secret_file else None
        role: TokenService | CachingVerifier
        if given.verifier_of:
            role = CachingVerifier(unquote(given.verifier_of).rstrip("/"), given.cache_ttl)
        elif given.store and given.users:
            role = TokenService(open_store(given.store), read_users(given.users))
        else:
            raise ConfigError("give --store and --users, or --verifier-of URL")
        server = Server(given.port, role, secret or None)
    except (RemediateError, OSError) as refusal:
        print(f"token_service: {refusal}", file=sys.stderr)
        return 64
    announce(given.ready_file, server.url)
    serve(server)
    return 0


if __name__ == "__main__":
    sys.exit(main())

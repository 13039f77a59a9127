"""Who is asking, and what that person may do.

A named person is a token, made with `remediate tokens add`. Without one, the owner of the state
directory on this machine is `uid:1000(alice)`: enough to run plans on a fresh install, never enough to
be the second person that an approval needs.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import pwd
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from remediate.errors import ConfigError, PermissionRefused, UsageError
from remediate.model.entry import Actor

#: What the kernel reports for "no login uid was ever set".
_NO_LOGIN_UID = 0xFFFFFFFF
_NAME_FORM = re.compile(r"[a-z][a-z0-9_.-]{0,31}")
#: Two tokens of one name are valid at a time, so that a rotation needs no moment of silence.
_VALID_AT_A_TIME = 2
_FORMAT = 1


class Role(StrEnum):
    """What a token is for; a token has exactly one."""

    OPERATOR = "operator"
    APPROVER = "approver"
    AUDITOR = "auditor"
    ADMIN = "admin"


class Action(StrEnum):
    """What can be asked of the toolkit."""

    RUN = "run"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    APPROVE = "approve"
    REJECT = "reject"
    READ = "read"
    VERIFY = "verify"
    EXPORT = "export"
    REVIEW = "review"
    CONFIG = "config"
    TOKENS = "tokens"
    ARM = "arm"


#: Who may do what. Nobody who configures or runs may approve: that is what the second person is for.
ROLE_ACTIONS: Mapping[Role, frozenset[Action]] = {
    Role.OPERATOR: frozenset({Action.READ, Action.RUN, Action.CANCEL, Action.PAUSE}),
    Role.APPROVER: frozenset({Action.READ, Action.APPROVE, Action.REJECT}),
    Role.AUDITOR: frozenset({Action.READ, Action.VERIFY, Action.EXPORT, Action.REVIEW}),
    Role.ADMIN: frozenset(
        {Action.READ, Action.CONFIG, Action.TOKENS, Action.ARM, Action.PAUSE, Action.RESUME}
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A person as far as this machine can tell."""

    #: Name of the token, or `uid:1000(alice)`.
    id: str
    roles: frozenset[Role]
    #: `token` or `uid`.
    auth: str
    #: Where from, e.g. `tty:/dev/pts/1 loginuid:1000`.
    src: str = ""

    def actor(self, type: str = "operator") -> Actor:  # noqa: A002 - the field it fills is called so
        """The form the audit trail holds."""
        return Actor(type=type, id=self.id, auth=self.auth, src=self.src)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedToken:
    """A name with its role, as it is stored."""

    name: str
    role: Role
    #: SHA-256 (hex) of each valid token text, newest first.
    hashes: tuple[str, ...]


def may(identity: Identity, action: Action) -> bool:
    """Whether this identity may do that."""
    return any(action in ROLE_ACTIONS[role] for role in identity.roles)


def require(identity: Identity, action: Action) -> None:
    """Nothing when this identity may do that, else PermissionRefused with who could."""
    if may(identity, action):
        return
    able = " or ".join(role.value for role in Role if action in ROLE_ACTIONS[role])
    has = ", ".join(sorted(identity.roles)) or "no role"
    raise PermissionRefused(f"{identity.id} ({has}) may not {action.value}; it needs a token of role {able}")


class Tokens:
    """The named tokens of one state directory, in a file that holds only their hashes."""

    def __init__(self, path: Path, *, new_secret: Callable[[], str] = lambda: secrets.token_hex(24)) -> None:
        self.path = path
        self._new_secret = new_secret

    def add(self, name: str, role: Role) -> str:
        """The text of a new token; it is shown this once and stored nowhere."""
        if not _NAME_FORM.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot name a token: 1 to 32 of a-z, 0-9, `.`, `-`, `_`, beginning with a letter"
            )
        with self._changing() as tokens:
            if name in tokens:
                raise UsageError(
                    f"there is a token {name} already ({tokens[name].role.value}); "
                    f"`remediate tokens rotate {name}` renews it, `revoke` ends it"
                )
            text = self._new_text(name)
            tokens[name] = NamedToken(name=name, role=role, hashes=(_digest(text),))
        return text

    def list(self) -> tuple[NamedToken, ...]:
        """Every name with its role, by name."""
        return tuple(sorted(self._load().values(), key=lambda token: token.name))

    def rotate(self, name: str) -> str:
        """The text of a further token for a name; the one before stays valid until the next rotation."""
        with self._changing() as tokens:
            token = _known(tokens, name)
            text = self._new_text(name)
            tokens[name] = replace(token, hashes=(_digest(text), *token.hashes)[:_VALID_AT_A_TIME])
        return text

    def revoke(self, name: str) -> None:
        """End every token of a name, at once."""
        with self._changing() as tokens:
            _known(tokens, name)
            del tokens[name]

    def find(self, text: str) -> Identity | None:
        """Whose token this is, or None."""
        # A plain SHA-256 is enough: tokens carry 192 random bits, so there is no dictionary to try and
        # slowness would only cost the webhook. Every hash is compared, in constant time, whoever matches.
        asked = _digest(text)
        found = None
        for token in self._load().values():
            for known in token.hashes:
                if hmac.compare_digest(known, asked):
                    found = token
        return None if found is None else Identity(id=found.name, roles=frozenset({found.role}), auth="token")

    def _new_text(self, name: str) -> str:
        return f"rmt_{name}_{self._new_secret()}"

    @contextmanager
    def _changing(self) -> Iterator[dict[str, NamedToken]]:
        """The tokens, to be changed and stored as one; two writers take turns."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(
                self.path.with_name(self.path.name + ".lock"),
                os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o600,
            )
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                tokens = self._load()
                yield tokens
                self._store(tokens)
            finally:
                os.close(lock)
        except OSError as error:
            raise ConfigError(f"the tokens in {self.path} cannot be changed ({error.strerror})") from error

    def _load(self) -> dict[str, NamedToken]:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigError(f"the tokens in {self.path} cannot be read ({error.strerror})") from error
        with os.fdopen(descriptor, encoding="utf-8") as opened:
            _check_private(os.fstat(descriptor), self.path)
            try:
                return _parse(json.load(opened))
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"{self.path} does not hold tokens ({error}); restore it from a copy"
                ) from error

    def _store(self, tokens: Mapping[str, NamedToken]) -> None:
        content = {
            "format": _FORMAT,
            "tokens": [
                {"name": token.name, "role": token.role.value, "sha256": [*token.hashes]}
                for token in tokens.values()
            ],
        }
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            json.dump(content, opened, indent=1)
            opened.flush()
            os.fsync(descriptor)
        draft.replace(self.path)


def current_identity(
    tokens: Tokens,
    token_text: str | None,
    *,
    uid: int,
    loginuid: int | None,
    tty: str | None,
) -> Identity:
    """Who is asking on this machine: the token's name, or the local user without one.

    A token that is not known is refused and never falls back to the local user.
    """
    src = _source(loginuid, tty)
    if token_text is None:
        return Identity(
            id=f"uid:{uid}({_user_name(uid)})", roles=_local_roles(tokens, uid), auth="uid", src=src
        )
    found = tokens.find(token_text.strip())
    if found is None:
        raise PermissionRefused(
            "this token is not known: it was revoked, rotated twice, or belongs elsewhere"
        )
    return replace(found, src=src)


def _local_roles(tokens: Tokens, uid: int) -> frozenset[Role]:
    """What a person without a token may do here: the owner of the state directory, and root, may operate.

    Someone who can write the directory could rewrite its files anyway, so refusing would only look safe.
    Administration and audit pass to the tokens of these roles as soon as there is one; until then a
    fresh install could not be set up without them. Nobody approves without a token.
    """
    directory = tokens.path.parent
    owner = directory.stat().st_uid if directory.exists() else uid
    if uid not in (0, owner):
        return frozenset()
    named = {token.role for token in tokens.list()}
    return frozenset({Role.OPERATOR}) | (frozenset({Role.ADMIN, Role.AUDITOR}) - named)


def read_token(path: Path) -> str:
    """The token a file holds on its first line; ConfigError when the file is not private or not there."""
    try:
        with path.open(encoding="utf-8") as opened:
            _check_private(os.fstat(opened.fileno()), path)
            text = opened.readline().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token file {path} cannot be read: {error}") from error
    if not text:
        raise ConfigError(f"the token file {path} is empty; put the token on its first line")
    return text


def _check_private(status: os.stat_result, path: Path) -> None:
    """ConfigError when others may read or change a file that decides who somebody is."""
    if status.st_mode & 0o077:
        raise ConfigError(
            f"{path} is open to other users (mode {status.st_mode & 0o777:o}); `chmod 600 {path}`"
        )
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigError(f"{path} belongs to uid {status.st_uid}, not to you or root; whose word is it?")


def _parse(content: Any) -> dict[str, NamedToken]:
    if content["format"] != _FORMAT:
        raise ValueError(f"format {content['format']!r}, expected {_FORMAT}")
    tokens = {}
    for row in content["tokens"]:
        hashes = tuple(row["sha256"])
        if not all(re.fullmatch(r"[0-9a-f]{64}", known) for known in hashes):
            raise ValueError("a hash is not SHA-256 in hex")
        tokens[str(row["name"])] = NamedToken(name=str(row["name"]), role=Role(row["role"]), hashes=hashes)
    return tokens


def _known(tokens: Mapping[str, NamedToken], name: str) -> NamedToken:
    if name not in tokens:
        raise UsageError(f"there is no token {name!r}; there are: {', '.join(sorted(tokens)) or 'none'}")
    return tokens[name]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container may run under a uid nobody named
        return "?"


def _source(loginuid: int | None, tty: str | None) -> str:
    parts = [f"tty:{tty}"] if tty else []
    if loginuid is not None and loginuid != _NO_LOGIN_UID:
        parts.append(f"loginuid:{loginuid}")
    return " ".join(parts)

"""Takes secrets out of text before it leaves the executor. Pure: values in, text out.

Three nets, because each alone has holes: (1) every secret *value* the run knows, in the forms in
which it turns up elsewhere (base64, URL, JSON, shell); (2) values that stand behind a *name* that
tells of a secret; (3) *shapes* that are secret wherever they stand (URL userinfo, bearer tokens,
private keys, community strings).
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

MARK = "<redacted>"
#: Shorter values would blank out ordinary words; they are left to the other two nets.
SHORTEST = 4

_TELLING = (
    r"passw(?:or)?d|passphrase|pwd|secret|token|credentials?|community|psk|api[_-]?key|"
    r"(?:private|access|auth|priv|encryption|signing|ssh|shared|pre[_-]?shared|storage)[_-]?key|"
    r"authorization|cookie|session[_-]?id"
)
_SECRET_NAME = re.compile(rf"(?:{_TELLING})|(?:^|[_-])pass$|^vault_", re.IGNORECASE)
#: Names that speak of a secret and hold something else.
_NOT_SECRET = re.compile(
    r"(?:_|-)(?:file|path|dir|url|name|id|ttl|length|policy|type|method|prompt|flags)$", re.IGNORECASE
)
_SESSION_ID = re.compile(r"session[_-]?id$", re.IGNORECASE)

_QUOTED = r'"(?:[^"\\]|\\.)*"|' + r"'(?:[^'\\]|\\.)*'"
_ESCAPED_QUOTED = r'\\"(?:[^"\\]|\\[^"])*\\"'
_BARE = r"[^\s,;&|\"'<>)\]}]+"
_NAMED_VALUE = re.compile(
    rf"""(?P<name>[\w.-]*(?:{_TELLING}|(?<![a-z])pass)[\w.-]*)
         (?P<between>\\?["']?\s*(?:=>|[:=])\s*)
         (?P<value>{_ESCAPED_QUOTED}|{_QUOTED}|(?:Bearer|Basic|Digest)\s+{_BARE}|{_BARE})""",
    re.IGNORECASE | re.VERBOSE,
)
_OPTION_VALUE = re.compile(
    rf"(?P<option>--?[\w-]*(?:{_TELLING}|(?<![a-z])pass)[\w-]*[\"']?,?\s+)(?P<value>{_QUOTED}|{_BARE})",
    re.IGNORECASE,
)
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-----BEGIN [^-]*PRIVATE KEY-----.*?(?:-----END [^-]*PRIVATE KEY-----|\Z)", re.DOTALL),
        MARK,
    ),
    (re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)[^\s/@\"']+@", re.IGNORECASE), rf"\g<scheme>{MARK}@"),
    (re.compile(r"(?P<word>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\g<word>{MARK}"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), MARK),
    (re.compile(r"(?P<word>\bsnmp-server community )\S+", re.IGNORECASE), rf"\g<word>{MARK}"),
    (
        re.compile(
            r"(?P<word>\b(?:password|secret|key|md5)\s+(?:\d{1,2}|cipher|simple|sha512)\s+)\S+", re.IGNORECASE
        ),
        rf"\g<word>{MARK}",
    ),
)


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name is expected to hold a secret."""
    if _SESSION_ID.search(name):
        return True
    return bool(_SECRET_NAME.search(name)) and not _NOT_SECRET.search(name)


def secret_values(variables: Mapping[str, Any], *, roles: Collection[str] = ()) -> Iterator[str]:
    """The text of every variable, at any depth, whose name tells of a secret.

    A role's own prefix tells of nothing: the `token` in `session_token_reset_scope` is no token.
    """
    for name, value in variables.items():
        if is_secret_name(_without_role(str(name), roles)):
            yield from _leaves(value)
        elif isinstance(value, Mapping):
            yield from secret_values(value)
        elif isinstance(value, list):
            yield from secret_values(
                {str(i): item for i, item in enumerate(value) if isinstance(item, Mapping)}
            )


def _without_role(name: str, roles: Collection[str]) -> str:
    owner = max((role for role in roles if name.startswith(f"{role}_")), key=len, default="")
    return name[len(owner) + 1 :] if owner else name


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, (str, int)) and not isinstance(value, bool):
        yield str(value)


def _base64_forms(secret: str) -> Iterator[str]:
    """Base64 of the value alone, and its core wherever it stands inside a longer encoded text."""
    raw = secret.encode(errors="surrogatepass")
    yield base64.b64encode(raw).decode()
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode()
        first = (0, 2, 3)[shift]
        rest = (shift + len(raw)) % 3
        core = encoded[first : len(encoded) - (0, 3, 2)[rest]]
        if len(core) >= 8:
            yield core


def _forms(secret: str) -> Iterator[str]:
    """The value as it may be written down somewhere else."""
    yield secret
    for encoded in _base64_forms(secret):
        yield encoded
        yield encoded.translate(str.maketrans("+/", "-_"))
    as_json = json.dumps(secret)[1:-1]
    yield as_json
    yield json.dumps(as_json)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield html.escape(secret)
    yield shlex.quote(secret)
    raw = secret.encode(errors="surrogatepass")
    for encoded in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield encoded
        yield re.sub(r"%[0-9A-F]{2}", lambda found: found.group().lower(), encoded)
    yield raw.hex()


def _parts(secret: str) -> Iterator[str]:
    """A secret, and each telling line of one that has several (a key, a certificate)."""
    yield secret
    yield secret.strip()
    lines = secret.splitlines()
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= 8)


class Scrubber:
    """Replaces what is secret by `<redacted>`."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {
            form
            for secret in secrets
            for part in _parts(secret)
            if len(part) >= SHORTEST
            for form in _forms(part)
            if len(form) >= SHORTEST
        }
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._values = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def text(self, text: str) -> str:
        """The text without anything that is, or looks like, a secret."""
        if self._values is not None:
            text = self._values.sub(MARK, text)
        for shape, replacement in _SHAPES:
            text = shape.sub(replacement, text)
        text = _NAMED_VALUE.sub(_without_named_value, text)
        return _OPTION_VALUE.sub(rf"\g<option>{MARK}", text)

    def data(self, value: Any) -> Any:
        """The same for a structure as JSON knows it; values behind telling names go entirely."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._entry(str(key), item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.data(item) for item in value]
        return value

    def _entry(self, key: str, value: Any) -> Any:
        if is_secret_name(key) and value is not None and not isinstance(value, bool):
            return MARK
        return self.data(value)


def _without_named_value(found: re.Match[str]) -> str:
    """`name=value` without its value; the quotes stay, so that JSON stays JSON."""
    if not is_secret_name(found["name"]) and not found["name"].lower().endswith("pass"):
        return found.group()
    value = found["value"]
    if value.startswith('\\"'):
        hidden = f'\\"{MARK}\\"'
    elif value[0] in "\"'":
        hidden = f"{value[0]}{MARK}{value[0]}"
    else:
        hidden = MARK
    return f"{found['name']}{found['between']}{hidden}"

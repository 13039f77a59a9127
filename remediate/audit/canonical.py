"""The one byte form of an entry: a restricted JSON Canonicalization Scheme (RFC 8785).

Restricted, so that the standard library's encoder produces the very bytes RFC 8785 asks for:
no floats (their shortest form is where encoders differ), integers below 2**53 (the rest is lost in
JavaScript), ASCII keys (RFC 8785 sorts UTF-16 code units, Python code points; in ASCII they agree).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from remediate.errors import AuditError

#: Integers of this size or more do not survive every JSON reader.
INT_LIMIT = 2**53
#: Deeper nesting than any entry needs, shallower than any reader's limit.
MAX_DEPTH = 64

_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
)


def canonical(value: object) -> bytes:
    """The canonical bytes of `value`; an `AuditError` names the path of what cannot be recorded."""
    if not _fits([value], 0):
        _check(value, "$", 0)
    return _ENCODER.encode(value).encode()


def _fits(members: Iterable[Any], depth: int) -> bool:
    """Whether all members are plainly recordable; the quick answer for nearly every entry.

    What it does not know (subclasses, errors) is left to `_check`, which also builds paths.
    """
    for value in members:
        kind = type(value)
        if kind is str:
            if not value.isascii():
                return False
        elif kind is int:
            if not -INT_LIMIT < value < INT_LIMIT:
                return False
        elif kind is dict:
            if depth >= MAX_DEPTH or not _fits(value, depth + 1) or not _fits(value.values(), depth + 1):
                return False
            if any(type(key) is not str for key in value):
                return False
        elif kind is list:
            if depth >= MAX_DEPTH or not _fits(value, depth + 1):
                return False
        elif kind is not bool and value is not None:
            return False
    return True


def _check(value: Any, path: str, depth: int) -> None:
    if value is None or value is True or value is False:
        return
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, int):
        if not -INT_LIMIT < value < INT_LIMIT:
            raise AuditError(f"{path}: integer of 2**53 or more; record it as a string")
    elif isinstance(value, dict):
        _check_depth(path, depth)
        for key, member in value.items():
            _check_key(key, path)
            _check(member, f"{path}.{key}", depth + 1)
    elif isinstance(value, list):
        _check_depth(path, depth)
        for index, member in enumerate(value):
            _check(member, f"{path}[{index}]", depth + 1)
    else:
        raise AuditError(f"{path}: {type(value).__name__} cannot be recorded; {_advice(value)}")


def _check_text(text: str, path: str) -> None:
    # `isascii` is a flag on the string object; only the rare rest is encoded to look for surrogates.
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise AuditError(f"{path}: text holds a lone surrogate; decode it with errors='replace'") from None


def _check_key(key: object, path: str) -> None:
    if not isinstance(key, str) or not key.isascii():
        raise AuditError(f"{path}: key {key!r} is not ASCII text")


def _check_depth(path: str, depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise AuditError(f"{path[:200]}: nested deeper than {MAX_DEPTH} levels")


def _advice(value: object) -> str:
    if isinstance(value, float):
        return "use scaled integers or a decimal string"
    return "use text, integers, booleans, null, lists and objects"

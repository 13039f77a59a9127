"""Canonical JSON against an independent implementation of RFC 8785."""

from __future__ import annotations

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from remediate.audit.canonical import MAX_DEPTH, canonical
from remediate.errors import AuditError
from remediate.model.entry import Kind

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT
KEYS = st.text(st.characters(max_codepoint=127))
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=30)


@settings(max_examples=500, deadline=None)
@given(VALUES)
def test_the_bytes_are_those_of_rfc_8785(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


def test_an_enumeration_of_text_is_text() -> None:
    assert canonical({"kind": Kind.PLAN}) == b'{"kind":"plan"}'


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, 0.5]}, "$.a[1]"),
        ({"a": float("nan")}, "$.a"),
        ({"a": 2**53}, "$.a"),
        ({"a": {"b": -(2**53)}}, "$.a.b"),
        ({"\xe4": 1}, "$"),
        ({1: 1}, "$"),
        ({"a": "\ud800"}, "$.a"),
        ({"a": b"bytes"}, "$.a"),
        ({"a": (1, 2)}, "$.a"),
    ],
)
def test_what_cannot_be_recorded_is_refused_with_its_path(value: object, path: str) -> None:
    with pytest.raises(AuditError) as refusal:
        canonical(value)
    assert str(refusal.value).startswith(f"{path}: ")


def test_nesting_is_limited() -> None:
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    assert canonical(value)
    with pytest.raises(AuditError, match="nested deeper"):
        canonical([value])

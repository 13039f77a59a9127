"""Parameters reach Ansible as data, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remediate.errors import ExecutorError
from remediate.executors import extravars

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
VALUES = st.one_of(TEXT, st.booleans(), st.integers(-(2**53), 2**53), st.lists(TEXT, max_size=4))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.dictionaries(st.from_regex(r"p_[a-z0-9_]{0,10}", fullmatch=True), VALUES, max_size=5))
def test_every_value_is_read_back_as_it_was_meant(tmp_path: Path, variables: dict[str, object]) -> None:
    path = tmp_path / "extravars"

    extravars.write(path, variables)

    extravars.recheck(path, variables)
    assert path.stat().st_mode & 0o077 == 0


def test_every_text_is_wrapped_leaf_by_leaf(tmp_path: Path) -> None:
    extravars.write(tmp_path / "v", {"a": "x", "b": ["y", "z"], "c": 1, "d": True})

    assert json.loads((tmp_path / "v").read_text()) == {
        "a": {"__ansible_unsafe": "x"},
        "b": [{"__ansible_unsafe": "y"}, {"__ansible_unsafe": "z"}],
        "c": 1,
        "d": True,
    }


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "{{ 1 }}"}',
        '{"a": {"__ansible_unsafe": "{{ 1 }}"}, "b": {"__ansible_type": "X"}}',
        '{"a": {"__ansible_unsafe": "{{ 1 }}"},}',
        '# comment\n{"a": {"__ansible_unsafe": "{{ 1 }}"}}',
        '{"a": 1}',
        '{"b": {"__ansible_unsafe": "{{ 1 }}"}}',
        "[]",
    ],
)
def test_a_file_that_would_be_read_otherwise_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "v").write_text(text)

    with pytest.raises(ExecutorError, match="nothing was run"):
        extravars.recheck(tmp_path / "v", {"a": "{{ 1 }}"})


@pytest.mark.parametrize(("meant", "written"), [(True, "1"), (1, "true"), ("1", "1"), (["1"], "[1]")])
def test_types_count(tmp_path: Path, meant: object, written: str) -> None:
    (tmp_path / "v").write_text(f'{{"a": {written}}}')

    with pytest.raises(ExecutorError, match="differently"):
        extravars.recheck(tmp_path / "v", {"a": meant})


@pytest.mark.parametrize("value", [1.5, None, {"a": 1}, [1], [["x"]], b"x", "\ud800"])
def test_values_without_a_safe_form_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(ExecutorError):
        extravars.write(tmp_path / "v", {"a": value})


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "a-b", "a b", "__ansible_unsafe", "ansible_host", "vars", "a\n"]
)
def test_names_that_could_steer_ansible_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExecutorError, match="cannot be handed"):
        extravars.write(tmp_path / "v", {name: "x"})

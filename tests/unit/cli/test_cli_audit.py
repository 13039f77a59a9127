"""The trail from the command line: read, sealed, exported, falsified, its keys changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remediate.cli.main import call

Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """A project with a few recorded operator commands; what is printed to standard output."""
    directory = tmp_path / "site"
    assert call(["init", str(directory)]) == 0
    monkeypatch.chdir(directory)
    monkeypatch.setenv("REMEDIATE_ANCHORS", f"file:{directory / 'anchors'}")

    def answer(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = call(list(arguments))
        return code, capsys.readouterr().out

    assert answer("pause", "--reason", "drill")[0] == 0
    assert answer("resume", "--reason", "over")[0] == 0
    return answer


def as_json(answer: tuple[int, str]) -> Any:
    assert answer[0] == 0
    return json.loads(answer[1])


def test_a_trail_verifies_also_strictly_once_it_is_sealed(ask: Ask) -> None:
    assert ask("audit", "checkpoint")[0] == 0

    code, printed = ask("audit", "verify", "--strict")

    assert code == 0, printed
    assert "RESULT OK" in printed
    assert as_json(ask("audit", "verify", "-o", "json"))["ok"] is True


def test_entries_are_listed_and_shown_as_they_were_hashed(ask: Ask) -> None:
    listed = as_json(ask("audit", "list", "--kind", "killswitch", "-o", "json"))
    shown = as_json(ask("audit", "show", str(listed[0]["seq"]), "-o", "json"))

    assert [one["data"]["reason"] for one in listed] == ["drill", "over"]
    assert {name: shown[name] for name in listed[0]} == listed[0]
    assert len(shown["sha256"]) == 64
    assert ask("audit", "show", "9999")[0] == 64


def test_an_export_verifies_elsewhere_and_a_falsified_one_does_not(ask: Ask) -> None:
    assert ask("audit", "export", "trail.jsonl")[0] == 0
    assert ask("audit", "verify", "--file", "trail.jsonl")[0] == 0
    assert ask("audit", "export", "trail.jsonl")[0] == 64  # nothing is overwritten

    trail = Path("trail.jsonl")
    trail.write_bytes(trail.read_bytes().replace(b'"reason":"drill"', b'"reason":"fraud"'))
    code, printed = ask("audit", "verify", "--file", "trail.jsonl")

    assert code == 8
    assert "first bad" in printed


def test_a_key_is_rotated_and_revoked_on_record(ask: Ask) -> None:
    before = ask("audit", "keys", "list")[1].split()
    assert ask("audit", "keys", "rotate", "--reason", "yearly")[0] == 0
    size = as_json(ask("audit", "verify", "-o", "json"))["size"]
    assert ask("audit", "keys", "revoke", "--from-size", str(size), "--reason", "tape lost")[0] == 0

    after = as_json(ask("audit", "keys", "list", "-o", "json"))

    assert after[0] == before[0]
    assert len(after) == 3
    assert ask("audit", "keys")[1].split() == after
    kinds = as_json(ask("audit", "list", "--kind", "key.rotate", "--kind", "key.revoke", "-o", "json"))
    assert {one["kind"] for one in kinds} == {"key.rotate", "key.revoke"}
    assert {one["actor"]["type"] for one in kinds} == {"operator"}
    code, printed = ask("audit", "verify")
    assert code == 0, printed


def test_nothing_young_is_pruned(ask: Ask) -> None:
    code, printed = ask("audit", "prune", "--export-to", "old.jsonl")

    assert code == 0
    assert "nothing was removed" in printed
    assert not Path("old.jsonl").exists()


def test_arming_is_recorded_with_the_level_before(ask: Ask) -> None:
    code, printed = ask("catalog", "arm", "SEC-SESS-STALE", "observe", "--reason", "new here")

    assert code == 0
    assert "before it was approve" in printed
    change = as_json(ask("audit", "list", "--kind", "config.change", "-o", "json"))[0]["data"]
    assert (change["from"], change["to"], change["reason"]) == ("approve", "observe", "new here")


def test_the_plans_can_be_copied_and_the_copy_is_used_first(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask("catalog", "export", "mine")[0] == 0
    monkeypatch.setenv("REMEDIATE_CONTENT", "mine")

    shown = as_json(ask("catalog", "show", "SEC-SESS-STALE", "-o", "json"))

    assert Path("mine") in Path(shown["file"]).relative_to(Path.cwd()).parents


def test_help_comes_without_a_command_and_the_version_with_its_option(ask: Ask) -> None:
    assert ask("--version")[1].startswith("remediate, version ")
    assert ask("--help")[0] == 0
    assert ask()[0] == 64

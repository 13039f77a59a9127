"""`doctor` names what is wrong and the command that mends it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from remediate.cli.main import call

Rows = dict[str, dict[str, str]]
Ask = Callable[[], tuple[int, Rows]]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "site"
    assert call(["init", str(directory)]) == 0
    monkeypatch.chdir(directory)
    monkeypatch.setenv("REMEDIATE_ANCHORS", f"file:{directory / 'anchors'}")
    return directory


@pytest.fixture
def ask(site: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    def answer() -> tuple[int, Rows]:
        capsys.readouterr()
        code = call(["doctor", "-o", "json"])
        return code, {row["check"]: row for row in json.loads(capsys.readouterr().out)}

    return answer


def test_a_new_project_lacks_nothing_that_a_run_needs(ask: Ask) -> None:
    code, rows = ask()

    assert code == 0
    assert all(row["mend"] for row in rows.values() if row["health"] != "ok")
    assert rows["ansible-core"]["health"] == "ok"


def test_a_state_directory_that_others_can_enter_is_named(ask: Ask, site: Path) -> None:
    call(["audit", "checkpoint"])
    home = site / ".remediate"
    home.chmod(0o755)

    _, rows = ask()

    assert rows["state directory"]["health"] == "warning"
    assert rows["state directory"]["mend"] == f"chmod 700 {home}"


def test_tokens_that_others_can_read_are_an_error(ask: Ask, site: Path) -> None:
    call(["tokens", "add", "bob", "--role", "approver"])
    file = site / ".remediate" / "tokens"
    file.chmod(0o644)

    code, rows = ask()

    assert code == 1
    assert rows["tokens"]["mend"] == f"chmod 600 {file}"


def test_a_broken_plan_is_an_error_with_its_place(ask: Ask, site: Path) -> None:
    plan = site / "playbooks" / "catalog" / "APP-WEB-DOWN.yml"
    plan.write_text("code: APP-WEB-DOWN\n")

    code, rows = ask()

    assert code == 1
    assert "APP-WEB-DOWN.yml:1" in rows["catalog"]["found"]
    assert rows["catalog"]["mend"] == "remediate catalog lint"


def test_an_inventory_that_is_not_there_is_an_error(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMEDIATE_INVENTORY", "nowhere")

    code, rows = ask()

    assert code == 1
    assert "no inventory" in rows["inventory"]["found"]


def test_anchors_on_this_machine_alone_are_a_warning(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "all are on this machine" in ask()[1]["anchors"]["found"]
    monkeypatch.setenv("REMEDIATE_ANCHORS", "syslog:/dev/nowhere")
    assert "cannot be written" in ask()[1]["anchors"]["found"]
    monkeypatch.setenv("REMEDIATE_ANCHORS", "syslog:log.example:514")
    assert ask()[1]["anchors"]["health"] == "ok"

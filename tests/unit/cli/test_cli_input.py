"""Wrong input on the command line, field by field: our sentence and our exit code, never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from remediate.cli.main import call

Call = Callable[..., tuple[int, str]]
CODE, TARGET = "SEC-SESS-STALE", "iam1"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "site"
    assert call(["init", str(directory)]) == 0
    monkeypatch.chdir(directory)
    monkeypatch.setenv("REMEDIATE_ANCHORS", f"file:{directory / 'anchors'}")
    return directory


@pytest.fixture
def ask(project: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command line; its exit code and everything it printed."""

    def answer(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = call(list(arguments))
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return answer


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        # --- the group
        (["runn", CODE], "did you mean 'run'"),
        (["--config", "/nowhere.toml", "catalog", "list"], "no such settings file"),
        (["--colour"], "--colour"),
        # --- run and explain, field by field
        (["run"], "CODE"),
        (["run", CODE], "--target"),
        (["explain", CODE], "--target"),
        (["run", "SEC-SESS-STAL", "-t", TARGET], "did you mean 'SEC-SESS-STALE'"),
        (["explain", "nonsense", "-t", TARGET], "no plan for"),
        (["explain", CODE, "-t", "iam"], "did you mean iam1"),
        (["explain", CODE, "-t", "all"], "'all' is a group"),
        (["explain", CODE, "-t", "identity"], "is a group"),
        (["explain", CODE, "-t", "iam*"], "not one host name"),
        (["explain", CODE, "-t", "iam1,iam2"], "not one host name"),
        (["explain", CODE, "-t", ""], "no target"),
        (["explain", CODE, "-t", "localhost"], "this machine is not a target"),
        (["explain", CODE, "-t", TARGET, "-e", "scope"], "expected NAME=VALUE"),
        (["explain", CODE, "-t", TARGET, "-e", "=x"], "expected NAME=VALUE"),
        (["explain", CODE, "-t", TARGET, "-e", "scope=service", "-e", "scope=service"], "given twice"),
        (["explain", CODE, "-t", TARGET, "-e", "scop=service"], "did you mean 'scope'"),
        (["explain", CODE, "-t", TARGET, "-e", "scope=everything"], "is not one of"),
        (["explain", CODE, "-t", TARGET, "-e", "batch=many"], "whole number"),
        (["explain", CODE, "-t", TARGET, "-e", "batch=0"], "less than 1"),
        (["explain", CODE, "-t", TARGET, "-e", "prefix={{ x }}:"], "template"),
        (["run", CODE, "-t", TARGET, "--break-glass"], "--reason"),
        (["run", CODE, "-t", TARGET, "-o", "xml"], "xml"),
        # --- runs and approvals
        (["runs", "show"], "ID"),
        (["runs", "show", "last"], "nothing is recorded"),
        (["runs", "list", "--limit", "0"], "limit"),
        (["runs", "shwo"], "did you mean 'show'"),
        (["runs", "show", "last", "--lang", "fr"], "fr"),
        (["runs", "cancel", "x"], "nothing is recorded"),
        (["approvals", "review", "x"], "--reason"),
        # --- tokens
        (["tokens", "add", "bob"], "--role"),
        (["tokens", "add", "bob", "--role", "king"], "king"),
        (["tokens", "add", "Bob Smith", "--role", "operator"], "cannot name a token"),
        (["tokens", "rotate", "nobody"], "there is no token 'nobody'"),
        (["tokens", "revoke", "nobody"], "there is no token 'nobody'"),
        # --- catalog
        (["catalog", "show", "SEC-SES-STALE"], "did you mean"),
        (["catalog", "lint", "/nowhere"], "is no directory"),
        (["catalog", "arm", CODE, "always", "--reason", "x"], "always"),
        (["catalog", "arm", CODE, "auto"], "--reason"),
        (["catalog", "arm", CODE, "observe", "--reason", " "], "needs a reason"),
        (["catalog", "new", "APP-WEB-DOWN", "--probe", "ping"], "--playbook"),
        (["catalog", "new", "APP-WEB-DOWN", "--playbook", "no.yml", "--probe", "ping"], "no such playbook"),
        (["catalog", "new", "web", "--playbook", "no.yml", "--probe", "ping"], "no fault code"),
        # --- the kill switch
        (["pause"], "--reason"),
        (["pause", "--reason", " "], "reason"),
        (["resume", "--reason", "x"], "not engaged"),
        # --- audit
        (["audit", "show", "x"], "x"),
        (["audit", "show", "1"], "nothing is recorded"),
        (["audit", "list", "--kind", "run.ended"], "run.ended"),
        (["audit", "verify"], "is not there"),
        (["audit", "verify", "--file", "no.jsonl"], "is not there"),
        (["audit", "export", "/nowhere/x.jsonl"], "name a new file"),
        (["audit", "prune", "--export-to", "old.jsonl", "--days", "30"], "at least 183"),
        (["audit", "keys", "revoke", "--from-size", "99", "--reason", "x"], "holds only"),
        (["audit", "keys", "rotate"], "--reason"),
        # --- the rest
        (["init", "."], "not empty"),
        (["init"], "DIRECTORY"),
        (["demo", "--keep", "."], "not empty"),
        (["demo", "--pace", "-1"], "pace"),
    ],
)
def test_wrong_input_is_named_and_ends_with_64(ask: Call, arguments: list[str], says: str) -> None:
    code, printed = ask(*arguments)

    assert code == 64, printed
    assert says in printed
    assert "Traceback" not in printed


def test_an_unknown_environment_variable_is_an_error(ask: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMEDIATE_HOEM", "/tmp/x")

    code, printed = ask("catalog", "list")

    assert (code, "did you mean 'REMEDIATE_HOME'" in printed) == (64, True)


def test_a_token_that_is_not_known_is_refused(ask: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMEDIATE_TOKEN", "rmt_bob_0000")

    code, printed = ask("explain", CODE, "-t", TARGET)

    assert (code, "not known" in printed) == (3, True)


def test_a_role_may_only_do_what_it_is_for(ask: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    code, printed = ask("tokens", "add", "ann", "--role", "approver")
    assert code == 0
    monkeypatch.setenv("REMEDIATE_TOKEN", printed.splitlines()[0])

    for arguments in (
        ["run", CODE, "-t", TARGET],
        ["tokens", "add", "x", "--role", "admin"],
        ["catalog", "arm", CODE, "auto", "--reason", "x"],
        ["pause", "--reason", "x"],
        ["resume", "--reason", "x"],
        ["audit", "export", "x.jsonl"],
        ["audit", "checkpoint"],
        ["audit", "keys", "rotate", "--reason", "x"],
        ["approvals", "review", "x", "--reason", "x"],
    ):
        code, printed = ask(*arguments)
        assert code == 3, arguments
        assert "ann" in printed


def test_a_token_file_that_others_may_read_is_not_used(
    ask: Call, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project / "token"
    file.write_text("rmt_x_1\n")
    file.chmod(0o644)
    monkeypatch.setenv("REMEDIATE_TOKEN_FILE", str(file))

    code, printed = ask("runs", "list")

    assert (code, "chmod 600" in printed) == (64, True)


def test_operator_commands_are_recorded_without_the_text_of_a_token(ask: Call) -> None:
    _, shown = ask("tokens", "add", "ann", "--role", "approver")
    text = shown.splitlines()[0]

    _, recorded = ask("audit", "list", "-o", "json")

    assert '"tokens add"' in recorded
    assert '"ann"' in recorded
    assert text not in recorded
    assert text.rpartition("_")[2] not in recorded


def test_explain_records_nothing(ask: Call) -> None:
    ask("explain", CODE, "-t", TARGET)
    _, before = ask("audit", "list", "-o", "json")

    code, printed = ask("explain", CODE, "-t", TARGET, "-o", "json")

    assert code == 0, printed
    assert ask("audit", "list", "-o", "json")[1] == before


def test_explain_says_with_its_exit_code_what_would_happen(ask: Call) -> None:
    assert ask("explain", CODE, "-t", TARGET)[0] == 0
    assert ask("explain", CODE, "-t", TARGET, "-e", "scope=platform")[0] == 5
    ask("pause", "--reason", "freeze")
    code, printed = ask("explain", CODE, "-t", TARGET, "-o", "yaml")
    assert code == 3
    assert "verdict: refuse" in printed


def test_the_first_project_is_ready_to_use(ask: Call) -> None:
    code, printed = ask("doctor", "-o", "json")

    assert code == 0, printed
    assert ask("catalog", "lint")[0] == 0
    assert ask("catalog", "list", "-o", "yaml")[0] == 0

"""What starts often starts fast: no heavy library where none is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("ansible", "ansible_runner", "dbos", "pydantic", "httpx", "sqlalchemy", "rich", "yaml", "asyncio")
SCRIPT = """
import json, sys
from remediate.cli.main import call
code = call(json.loads(sys.argv[1]))
print(json.dumps([code, sorted(set(sys.modules) & set(json.loads(sys.argv[2])))]), file=sys.stderr)
"""


def imported(arguments: list[str], where: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(arguments), json.dumps(HEAVY)],
        cwd=where,
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, modules


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a trail and a warm catalog."""
    directory = tmp_path / "site"
    for arguments in (["init", str(directory)],):
        assert imported(arguments, tmp_path)[0] == 0
    (directory / "remediate.toml").write_text('anchors = ["file:anchors"]\n')
    for arguments in (["audit", "checkpoint"], ["catalog", "list"]):
        assert imported(arguments, directory)[0] == 0
    return directory


@pytest.mark.parametrize(
    "arguments", [["--help"], ["catalog", "list"], ["audit", "verify"], ["run", "--help"], ["runs", "--help"]]
)
def test_a_light_command_imports_nothing_heavy(project: Path, arguments: list[str]) -> None:
    code, modules = imported(arguments, project)

    assert code == 0
    allowed = {"asyncio"} if arguments[0] in ("run", "runs") else set()
    assert set(modules) - allowed == set()


def test_the_help_of_a_group_shows_what_its_commands_say_of_themselves() -> None:
    import click

    from remediate.cli.lazy import LazyGroup
    from remediate.cli.main import cli

    def check(group: click.Group, path: str) -> None:
        assert isinstance(group, LazyGroup)
        context = click.Context(group)
        for name, (_, line) in group.commands_at.items():
            command = group.get_command(context, name)
            assert command is not None, f"{path} {name}"
            assert line.endswith("."), f"{path} {name}"
            assert command.help, f"{path} {name}"
            assert "Example:" in command.help, f"{path} {name} has no example"
            assert f"remediate {path}{name}" in command.help.replace("\b\n", ""), f"{path}{name}"
            if isinstance(command, click.Group):
                check(command, f"{path}{name} ")

    check(cli, "")

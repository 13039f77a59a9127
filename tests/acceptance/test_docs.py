"""The documentation says what is there, and nothing that is not."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from remediate.cli.lazy import LazyGroup
from remediate.cli.main import cli
from remediate.cli.reference import commands_page
from remediate.config import SETTINGS
from remediate.demo.script import WRAP
from remediate.errors import ExitCode
from remediate.guard.policy import GUARDS
from remediate.model.entry import Kind
from remediate.model.run import EXIT_CODES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
FRONT = [ROOT / "README.md", ROOT / "README.zh-CN.md", DOCS / "quickstart.md", DOCS / "index.md"]


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name."""
    assert isinstance(group, LazyGroup)
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def test_the_help_shown_in_the_documentation_is_the_real_one() -> None:
    assert page("reference/commands.md") == commands_page(), (
        "run `python -m remediate.cli.reference > docs/reference/commands.md`"
    )


def test_every_command_and_option_is_documented() -> None:
    text = page("reference/commands.md")

    for name, command in commands(cli, "remediate"):
        assert f"## `{name}`" in text
        section = text.partition(f"## `{name}`\n")[2].partition("\n## ")[0]
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help or parameter.metavar or parameter.type.name == "choice", parameter.name
                assert all(option in section for option in parameter.opts), (name, parameter.opts)


def test_every_exit_code_and_outcome_is_documented() -> None:
    text = page("reference/exit-codes.md")

    for code in ExitCode:
        assert f"| {int(code)} | `{code.name}` |" in text
    for outcome in EXIT_CODES:
        assert f"`{outcome.value}`" in text
    assert set(re.findall(r"^\| (\d+) \|", text, re.MULTILINE)) == {str(int(c)) for c in ExitCode} | {"130"}


def test_every_setting_is_documented() -> None:
    text = page("reference/settings.md")

    assert [s.name for s in SETTINGS if f"| `{s.name}` |" not in text] == []


def test_every_guard_is_documented_in_its_order() -> None:
    text = page("reference/guards.md")
    places = [text.find(f"### `{name}`") for name, _ in GUARDS]

    assert -1 not in places
    assert places == sorted(places)


def test_every_kind_of_audit_entry_is_documented() -> None:
    text = page("reference/audit-entries.md")

    assert [kind.value for kind in Kind if f"`{kind.value}`" not in text] == []


def console_lines(text: str) -> Iterator[str]:
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                yield line[2:].partition(" #")[0].strip()


@pytest.mark.parametrize("file", FRONT, ids=lambda file: file.name)
def test_every_command_on_a_front_page_exists(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    makefile = ROOT / "Makefile"
    targets = (
        set(re.findall(r"^([a-z-]+):", makefile.read_text(), re.MULTILINE)) if makefile.exists() else None
    )

    for line in console_lines(text):
        for part in line.split(" && "):
            words = [word for word in shlex.split(part) if "=" not in word or word.startswith("-")]
            if words[:1] == ["remediate"]:
                understand(words[1:])
            elif words[:1] == ["make"] and targets is not None:
                assert words[1] in targets, part


def understand(words: list[str]) -> None:
    """Let click read a command line without carrying it out; an unknown option or command raises."""
    command: click.Command = cli
    context = click.Context(cli, info_name="remediate")
    while isinstance(command, LazyGroup) and words and not words[0].startswith("-"):
        name, words = words[0], words[1:]
        found = command.get_command(context, name)
        assert found is not None, name
        command, context = found, click.Context(found, parent=context, info_name=name)
    if "..." not in words:
        command.parse_args(context, words)


def test_the_last_words_of_the_demo_can_be_typed() -> None:
    understand(shlex.split(WRAP)[1:])


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    for file in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", file.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://", "mailto:")):
                assert (file.parent / target).exists(), f"{file.relative_to(ROOT)} -> {target}"


def test_both_front_pages_show_the_same_commands() -> None:
    english, chinese = (list(console_lines(file.read_text(encoding="utf-8"))) for file in FRONT[:2])

    # The Chinese page shows the Chinese report.
    assert [line.replace(" --lang zh", "") for line in chinese] == english


def test_the_picture_is_of_a_demo_that_ended_well() -> None:
    picture = (DOCS / "images" / "demo.svg").read_text(encoding="utf-8").replace("&#160;", " ")

    for sentence in ("recovered", "rolled_back", "is a group", "cooldown"):
        assert sentence in picture

"""The reference page of the commands, written from their own help.

python -m remediate.cli.reference > docs/reference/commands.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from remediate.cli.lazy import LazyGroup
from remediate.cli.main import cli

_HEAD = """\
# Commands

What follows is what `--help` prints; `python -m remediate.cli.reference` writes this page.

Words: a *code* says what is wrong, a *target* is one exact host of the inventory, a *run* carries out
the plan for that code on that target, and an *outcome* is how the run ended. What the exit codes mean
is in [exit-codes.md](exit-codes.md), what the settings mean in [settings.md](settings.md).

- A command that asks or draws does so only on a terminal. Elsewhere nothing is asked, nothing is
  coloured, and a run that is followed prints one line per event. `NO_COLOR` and `FORCE_COLOR` decide
  otherwise.
- With `-o json` or `-o yaml` standard output holds the result and nothing else; live lines go to
  standard error.
- Without a token you are your Unix user. `REMEDIATE_TOKEN`, or the file that `REMEDIATE_TOKEN_FILE`
  names, says who you are otherwise.
- The first Ctrl-C while a run is followed cancels the run and goes on following it; the second leaves
  at once (exit code 130), and `remediate runs follow ID` takes the run up again.
- `run` without a worker does the work itself and ends when the run is closed. While it lives, other
  commands on the same state directory hand their runs to it; if it dies, the next one takes over.
- Shell completion: `eval "$(_REMEDIATE_COMPLETE=bash_source remediate)"` (or `zsh_source`,
  `fish_source`).
"""


def commands_page() -> str:
    """The whole page."""
    parts = [_HEAD, *_sections(cli, "remediate", None)]
    return "\n".join(parts)


def _sections(command: click.Command, path: str, parent: click.Context | None) -> Iterator[str]:
    settings = {**cli.context_settings, "terminal_width": 100}
    context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent, **settings)
    yield f"## `{path}`\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, LazyGroup):
        for name in command.list_commands(context):
            if (child := command.get_command(context, name)) is not None:
                yield from _sections(child, f"{path} {name}", context)


if __name__ == "__main__":
    sys.stdout.write(commands_page())

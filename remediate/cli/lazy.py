"""Groups whose commands are imported only when they are used; `--help` imports none of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


def terminal_columns(otherwise: int) -> int:
    """How wide the terminal is. (`shutil` says it too, and brings every archive format along.)"""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(1).columns or otherwise
    except OSError:
        return otherwise


class LazyGroup(click.Group):
    """A group that knows its commands by name, place and one line of help."""

    def __init__(self, *args: Any, commands_at: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Name -> (`module:attribute`, the line `--help` shows).
        self.commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order in which a newcomer needs them."""
        return list(self.commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in self.commands_at:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.commands_at[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.commands_at.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant; an unknown one is an error that names the nearest."""
        from remediate.model.spelling import nearest

        if args and not args[0].startswith("-") and args[0] not in self.commands_at:
            known = ", ".join(self.commands_at)
            hint = nearest(args[0], self.commands_at) or f"; there are {known}"
            raise click.UsageError(f"{ctx.command_path!r} has no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

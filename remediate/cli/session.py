"""What every command of one call shares: settings, language, and who is asking."""

from __future__ import annotations

import sys
from functools import cached_property
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from remediate.config import Settings
    from remediate.guard.identity import Action, Identity


class Session:
    """One call of the command line."""

    def __init__(self, config: str | None) -> None:
        self.config = config

    @cached_property
    def settings(self) -> Settings:
        """The settings, read at their first use so that `--help` works with broken ones."""
        from pathlib import Path  # a seventh of the start of `--help`, which needs none

        from remediate.config import load_settings

        return load_settings(None if self.config is None else Path(self.config))

    @cached_property
    def identity(self) -> Identity:
        """Who is asking."""
        from remediate.control import identify

        return identify(self.settings)

    def require(self, action: Action) -> Identity:
        """Who is asking, when that is allowed; PermissionRefused says who could."""
        from remediate.guard.identity import require

        require(self.identity, action)
        return self.identity

    @staticmethod
    def note(text: str) -> None:
        """Tell the person at the terminal something that is not the result."""
        click.echo(text, err=True)

    @staticmethod
    def on_terminal() -> bool:
        """Whether there is somebody to ask."""
        return sys.stdin.isatty() and sys.stdout.isatty()

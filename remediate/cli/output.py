"""Data on standard output: a table for people, JSON or YAML for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from remediate.cli.lazy import terminal_columns
from remediate.report.layout import table

F = TypeVar("F", bound=Callable[..., Any])

output_option: Callable[[F], F] = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="How the result is printed.",
)


def show(data: Any, output: str, *, lines: Callable[[], Sequence[str]]) -> None:
    """Print `data` as JSON or YAML, or `lines()` for people."""
    if output == "json":
        click.echo(json.dumps(data, ensure_ascii=False, indent=2))
    elif output == "yaml":
        import yaml  # half of the start of a command that never prints it

        click.echo(yaml.safe_dump(data, allow_unicode=True, sort_keys=False), nl=False)
    else:
        for line in lines():
            click.echo(line)


def show_table(
    data: Any, output: str, headers: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str = "none"
) -> None:
    """Print rows, or the same as data."""
    show(data, output, lines=lambda: table(headers, rows, columns=columns()) if rows else [empty])


def columns() -> int:
    """How wide the terminal is, within reason; a usual width when there is none."""
    return max(60, min(terminal_columns(110), 160))


def clipped(text: str, longest: int) -> str:
    """The text, cut to so many characters; the whole of it is in `-o json`."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"

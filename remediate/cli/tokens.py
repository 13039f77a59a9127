"""`tokens`: named identities. The text of a token is shown once and is never recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from remediate.app import open_tokens, prepare_home
from remediate.cli.lazy import LazyGroup
from remediate.cli.output import output_option, show, show_table
from remediate.cli.session import Session
from remediate.cli.trail import note_command, recording
from remediate.guard.identity import Action, Role

COMMANDS = {
    "add": ("remediate.cli.tokens:add", "Make a token for a person; its text is shown this once."),
    "list": ("remediate.cli.tokens:list_tokens", "The names and their roles."),
    "rotate": ("remediate.cli.tokens:rotate", "Make a further token for a name; the one before stays valid."),
    "revoke": ("remediate.cli.tokens:revoke", "End every token of a name, at once."),
}


@click.group(cls=LazyGroup, commands_at=COMMANDS)
def tokens() -> None:
    """Named identities and their roles: operator, approver, auditor, admin.

    A command uses the token in REMEDIATE_TOKEN, or on the first line of the file REMEDIATE_TOKEN_FILE
    names; without one you are your Unix user, who may run plans but never be the second person.

    \b
    Example:
      remediate tokens add bob --role approver
    """


@click.command()
@click.argument("name")
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), required=True, help="What it is for."
)
@output_option
@click.pass_obj
def add(session: Session, name: str, role: str, output: str) -> None:
    """Make a token for a person; its text is shown this once and stored nowhere.

    \b
    Example:
      remediate tokens add bob --role approver
    """
    text = _change(session, "tokens add", lambda known: known.add(name, Role(role)), name=name, role=role)
    _show_text(session, text, name, output)


@click.command("list")
@output_option
@click.pass_obj
def list_tokens(session: Session, output: str) -> None:
    """The names, their roles, and how many texts of each are valid.

    \b
    Example:
      remediate tokens list
    """
    session.require(Action.READ)
    known = open_tokens(session.settings).list()
    show_table(
        [{"name": one.name, "role": one.role.value, "valid": len(one.hashes)} for one in known],
        output,
        ("name", "role", "valid"),
        [(one.name, one.role.value, str(len(one.hashes))) for one in known],
        empty="no tokens; `remediate tokens add NAME --role ROLE` makes one",
    )


@click.command()
@click.argument("name")
@output_option
@click.pass_obj
def rotate(session: Session, name: str, output: str) -> None:
    """Make a further token for a name; the one before stays valid until the next rotation.

    \b
    Example:
      remediate tokens rotate bob
    """
    _show_text(
        session, _change(session, "tokens rotate", lambda known: known.rotate(name), name=name), name, output
    )


@click.command()
@click.argument("name")
@click.pass_obj
def revoke(session: Session, name: str) -> None:
    """End every token of a name, at once.

    \b
    Example:
      remediate tokens revoke bob
    """
    _change(session, "tokens revoke", lambda known: known.revoke(name), name=name)
    click.echo(f"no token of {name} is valid any more")


def _change(session: Session, command: str, change: Callable[[Any], str | None], **details: str) -> str:
    """Do it with the trail open, and record it before anybody sees the text."""
    identity = session.require(Action.TOKENS)
    prepare_home(session.settings)
    with recording(session.settings) as ledger:
        text = change(open_tokens(session.settings))
        note_command(ledger, identity, command, **details)
    return text or ""


def _show_text(session: Session, text: str, name: str, output: str) -> None:
    show({"name": name, "token": text}, output, lines=lambda: [text])
    session.note(
        f"this is the only time the token of {name} is shown; keep it in a file with mode 0600 and name that "
        "file in REMEDIATE_TOKEN_FILE"
    )

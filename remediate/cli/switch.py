"""`pause` and `resume`: the kill switch."""

from __future__ import annotations

import click

from remediate.cli.session import Session
from remediate.cli.trail import recording
from remediate.flow import people
from remediate.guard.identity import Action
from remediate.guard.killswitch import KillSwitch


@click.command()
@click.option(
    "--reason", required=True, metavar="TEXT", help="Why; everybody who is stopped by it reads this."
)
@click.pass_obj
def pause(session: Session, reason: str) -> None:
    """Engage the kill switch: nothing new starts, and what runs stops before its next task.

    A rollback that is under way stops too. `touch` on the file of the setting `kill_switch` does the
    same without this command.

    \b
    Example:
      remediate pause --reason "change freeze: core migration"
    """
    identity = session.require(Action.PAUSE)
    switch = KillSwitch(session.settings.kill_switch)
    session.settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    people.pause(switch, lambda: recording(session.settings), identity.actor(), reason)
    click.echo(
        f"paused: nothing starts while {switch.file} is there; `remediate resume --reason TEXT` ends it"
    )


@click.command()
@click.option("--reason", required=True, metavar="TEXT", help="Why it is safe again.")
@click.pass_obj
def resume(session: Session, reason: str) -> None:
    """Release the kill switch, so that runs may start again.

    \b
    Example:
      remediate resume --reason "migration done"
    """
    identity = session.require(Action.RESUME)
    with recording(session.settings) as ledger:
        people.resume(KillSwitch(session.settings.kill_switch), ledger, identity.actor(), reason)
    click.echo("resumed: runs may start again")

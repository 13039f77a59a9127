"""`runs`: what was asked for and what became of it."""

from __future__ import annotations

import click

from remediate.cli.follow import Follower
from remediate.cli.lazy import LazyGroup
from remediate.cli.output import clipped, columns, output_option, show, show_table
from remediate.cli.run import print_run
from remediate.cli.session import Session
from remediate.cli.trail import find_run, reading, report_of
from remediate.guard.identity import Action
from remediate.model.run import Run
from remediate.report.messages import LANGUAGES
from remediate.report.text import run_text

COMMANDS = {
    "list": ("remediate.cli.runs:list_runs", "Runs, newest first."),
    "show": ("remediate.cli.runs:show_run", "Everything that is recorded of one run."),
    "follow": (
        "remediate.cli.runs:follow_run",
        "Watch a run to its outcome, and take it up when it stands still.",
    ),
    "cancel": (
        "remediate.cli.runs:cancel_run",
        "Stop a run before its next step; what it did is taken back.",
    ),
}


@click.group(cls=LazyGroup, commands_at=COMMANDS)
def runs() -> None:
    """List, show, follow or cancel runs.

    An ID may be shortened to a beginning that only one run has; `last` is the newest run.

    \b
    Example:
      remediate runs show last
    """


@click.command("list")
@click.option("--open", "open_only", is_flag=True, help="Only runs that are not closed.")
@click.option("--code", metavar="CODE", help="Only runs of this fault code.")
@click.option("--target", metavar="HOST", help="Only runs on this target.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="At most so many."
)
@output_option
@click.pass_obj
def list_runs(
    session: Session, open_only: bool, code: str | None, target: str | None, limit: int, output: str
) -> None:
    """Runs, newest first.

    \b
    Example:
      remediate runs list --open
    """
    session.require(Action.READ)
    with reading(session.settings) as ledger:
        found = ledger.runs(open_only=open_only, code=code and code.upper(), target=target, limit=limit)
    rows = [
        (
            run.id,
            run.accepted_at[:19] + "Z",
            run.request.code,
            run.request.target,
            _end_of(run),
            clipped(run.reason, 60),
        )
        for run in found
    ]
    show_table(
        [_summary(run) for run in found],
        output,
        ("run", "accepted", "code", "target", "outcome", "reason"),
        rows,
        empty="no runs" + (" are open" if open_only else " are recorded"),
    )


def _end_of(run: Run) -> str:
    return run.outcome.value if run.outcome else f"({run.state.value})"


def _summary(run: Run) -> dict[str, str | None]:
    return {
        "id": run.id,
        "code": run.request.code,
        "target": run.request.target,
        "state": run.state.value,
        "outcome": run.outcome.value if run.outcome else None,
        "reason": run.reason,
        "accepted_at": run.accepted_at,
        "ended_at": run.ended_at or None,
    }


@click.command("show")
@click.argument("run_id", metavar="ID")
@click.option(
    "--lang", type=click.Choice(LANGUAGES), help="Language of the report; otherwise the setting `lang`."
)
@output_option
@click.pass_obj
def show_run(session: Session, run_id: str, lang: str | None, output: str) -> None:
    """Everything that is recorded of one run: guards, people, phases, samples, times, audit entries.

    \b
    Example:
      remediate runs show last --lang zh
    """
    session.require(Action.READ)
    with reading(session.settings) as ledger:
        report = report_of(ledger, find_run(ledger, run_id))
    language = lang or session.settings.lang
    show(report.as_json(), output, lines=lambda: [run_text(report, language, columns=columns())])


@click.command("follow")
@click.argument("run_id", metavar="ID")
@output_option
@click.pass_obj
def follow_run(session: Session, run_id: str, output: str) -> int:
    """Watch a run to its outcome; if nobody works on it, this command does.

    \b
    Example:
      remediate runs follow last
    """
    session.require(Action.READ)
    with reading(session.settings) as ledger:
        found = find_run(ledger, run_id)
    if found.closed:
        return print_run(session, found, output)
    follower = Follower(session, quiet_output=output != "table")
    return print_run(session, follower.carry(lambda desk: desk.run(found.id)), output)


@click.command("cancel")
@click.argument("run_id", metavar="ID")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept in the audit trail.")
@output_option
@click.pass_obj
def cancel_run(session: Session, run_id: str, reason: str, output: str) -> int:
    """Stop a run before its next step, and follow it until it is closed.

    What it has already done is rolled back; a rollback is never stopped.

    \b
    Example:
      remediate runs cancel last --reason "wrong host"
    """
    session.require(Action.CANCEL)
    with reading(session.settings) as ledger:
        found = find_run(ledger, run_id)
    follower = Follower(session, quiet_output=output != "table")
    done = follower.carry(lambda desk: desk.cancel(found.id, reason), decided=True)
    return print_run(session, done, output)

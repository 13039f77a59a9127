"""`run`: one plan on one target, through guards, engine and audit, followed to its outcome."""

from __future__ import annotations

import click

from remediate.cli.explain import look_ahead, plan_lines
from remediate.cli.follow import Follower, end_code, print_end
from remediate.cli.output import output_option, show
from remediate.cli.request import read_request, request_arguments
from remediate.cli.session import Session
from remediate.cli.trail import reading, report_of
from remediate.control import Desk, LocalDesk, connect
from remediate.errors import ExitCode, UsageError
from remediate.guard.identity import Action
from remediate.guard.policy import Ruling
from remediate.model.run import Request, Run


@click.command()
@request_arguments
@click.option("--check", is_flag=True, help="Dry run: report what would change and touch nothing.")
@click.option("--diff", is_flag=True, help="Show what each step changes.")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept in the audit trail.")
@click.option(
    "--break-glass",
    is_flag=True,
    help="Alone on call: run without the second person; needs --reason and is reviewed later.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask on the terminal before acting.")
@click.option(
    "--no-wait", is_flag=True, help="Hand the run to the worker that lives, print its id and leave."
)
@output_option
@click.pass_obj
def run(
    session: Session,
    code: str,
    target: str,
    pairs: tuple[str, ...],
    check: bool,
    diff: bool,
    reason: str,
    break_glass: bool,
    yes: bool,
    no_wait: bool,
    output: str,
) -> int:
    """Run the plan for a fault code on one target, and follow it to its outcome.

    Guards judge it first; then it looks, acts, and verifies from elsewhere, and what did not help is
    rolled back. The exit code says how it ended: 0 recovered, 2 failed, 3 refused, 4 unreachable,
    5 awaiting approval, 6 unknown, 7 rolled back. Ctrl-C cancels the run and goes on following it.

    \b
    Example:
      remediate run SEC-SESS-STALE --target iam1 --reason "signing key leaked"
    """
    identity = session.require(Action.RUN)
    if break_glass and not reason.strip():
        raise UsageError(
            "--break-glass without --reason: say why nobody else can be asked; add `--reason TEXT`"
        )
    request = read_request(
        identity, code, target, pairs, check=check, diff=diff, reason=reason, break_glass=break_glass
    )
    if session.on_terminal() and not yes and not _agreed(session, request):
        click.echo("nothing was started")
        return int(ExitCode.REFUSED)
    if no_wait:
        return _hand_in(session, request, output)
    follower = Follower(session, quiet_output=output != "table")
    done = follower.carry(lambda desk: desk.submit(request))
    return print_run(session, done, output)


def print_run(session: Session, done: Run, output: str) -> int:
    """The end of a run that was followed, and its exit code."""
    if output == "table":
        print_end(done, session.settings.lang)
        return end_code(done)
    with reading(session.settings) as ledger:
        show(report_of(ledger, done).as_json(), output, lines=list)
    return end_code(done)


def _agreed(session: Session, request: Request) -> bool:
    """Show what is about to happen, and whether the person wants it."""
    outlook = look_ahead(session.settings, request)
    for line in plan_lines(outlook):
        click.echo(line)
    passed = sum(verdict.verdict.value in ("pass", "n/a") for verdict in outlook.verdicts)
    click.echo(f"guards   {passed} of {len(outlook.verdicts)} pass or do not apply")
    if outlook.decision.verdict is not Ruling.RUN:
        click.secho(f"         {outlook.decision.verdict.value}: {outlook.decision.reason}", fg="yellow")
    question = "dry run, nothing is changed; go on?" if request.check else "go on?"
    return click.confirm(question)


def _hand_in(session: Session, request: Request, output: str) -> int:
    with connect(session.settings, note=session.note) as desk:
        _refuse_without_worker(desk)
        accepted = desk.submit(request)
    show(
        {"id": accepted.id, "state": accepted.state.value},
        output,
        lines=lambda: [
            f"run {accepted.id} is recorded and handed to the worker",
            f"follow it: remediate runs follow {accepted.id}",
        ],
    )
    return int(ExitCode.OK)


def _refuse_without_worker(desk: Desk) -> None:
    if isinstance(desk, LocalDesk):
        raise UsageError(
            "--no-wait needs a worker that goes on when this command has left, and none lives in this state "
            "directory; leave --no-wait away, then this command does the work itself"
        )

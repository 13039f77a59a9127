"""`approvals`: the second person's part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from remediate.app import build_parts, open_store
from remediate.audit.ledger import LedgerReader
from remediate.cli.follow import Follower
from remediate.cli.lazy import LazyGroup
from remediate.cli.output import clipped, output_option, show, show_table
from remediate.cli.run import print_run
from remediate.cli.session import Session
from remediate.cli.trail import find_run, reading
from remediate.control import Desk
from remediate.errors import AuditError
from remediate.flow import people
from remediate.flow.decision import REVIEW
from remediate.guard.identity import Action
from remediate.model.entry import Kind
from remediate.model.run import Run, State

COMMANDS = {
    "list": ("remediate.cli.approvals:list_approvals", "What waits for a second person."),
    "approve": (
        "remediate.cli.approvals:approve",
        "Say yes; the run goes on and is followed to its outcome.",
    ),
    "reject": ("remediate.cli.approvals:reject", "Say no."),
    "review": ("remediate.cli.approvals:review", "Close the review of a break-glass run."),
}


@click.group(cls=LazyGroup, commands_at=COMMANDS)
def approvals() -> None:
    """Decide as a second person on a run that waits, or review a break-glass run.

    Needs an approver's token, in REMEDIATE_TOKEN or in the file REMEDIATE_TOKEN_FILE names; who asked
    for a run never decides on it.

    \b
    Example:
      REMEDIATE_TOKEN_FILE=~/.remediate-token remediate approvals approve last
    """


@click.command("list")
@output_option
@click.pass_obj
def list_approvals(session: Session, output: str) -> None:
    """Runs that wait for a second person, and break-glass runs that wait for a review.

    \b
    Example:
      remediate approvals list -o json
    """
    session.require(Action.READ)
    with reading(session.settings) as ledger:
        waiting = [
            _approval(ledger, run)
            for run in ledger.runs(open_only=True)
            if run.state is State.AWAITING_APPROVAL
        ]
        waiting += [_review(ledger, run_id) for run_id in ledger.flags(REVIEW)]
    rows = [
        (
            one["run"],
            one["waits_for"],
            one["code"],
            one["target"],
            one["risk"],
            one["asked_by"],
            one["expires_at"][:19],
            clipped(one["reason"] or "no reason given", 60),
        )
        for one in waiting
    ]
    show_table(
        waiting,
        output,
        ("run", "waits for", "code", "target", "risk", "asked by", "until", "because"),
        rows,
        empty="nothing waits for a second person",
    )


def _approval(ledger: LedgerReader, run: Run) -> dict[str, Any]:
    asked = ledger.entries(run_id=run.id, kinds=(Kind.APPROVAL_REQUESTED,))
    expires = str(asked[-1].data["expires_at"]) if asked else ""
    return {**_facts(run), "waits_for": "approval", "needed": run.reason, "expires_at": expires}


def _review(ledger: LedgerReader, run_id: str) -> dict[str, Any]:
    run = ledger.run(run_id)
    if run is None:
        raise AuditError(f"run {run_id} waits for a review and is not recorded; run `remediate audit verify`")
    return {**_facts(run), "waits_for": "review", "needed": "a review by somebody else", "expires_at": ""}


def _facts(run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "code": run.request.code,
        "target": run.request.target,
        "risk": run.risk,
        "asked_by": run.request.actor.id,
        "plan_hash": run.plan_hash,
        "reason": run.request.reason,
    }


@click.command()
@click.argument("run_id", metavar="ID")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept in the audit trail.")
@output_option
@click.pass_obj
def approve(session: Session, run_id: str, reason: str, output: str) -> int:
    """Say yes to the plan that waits, and follow the run to its outcome.

    \b
    Example:
      REMEDIATE_TOKEN_FILE=bob.token remediate approvals approve last
    """
    session.require(Action.APPROVE)
    return _decide(session, run_id, output, lambda desk, found: desk.approve(found, reason))


@click.command()
@click.argument("run_id", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="Why not; it is kept in the audit trail.")
@output_option
@click.pass_obj
def reject(session: Session, run_id: str, reason: str, output: str) -> int:
    """Say no; one no is enough, and the run is closed as refused (exit code 3).

    \b
    Example:
      REMEDIATE_TOKEN_FILE=bob.token remediate approvals reject last --reason "wait for the shift change"
    """
    session.require(Action.REJECT)
    return _decide(session, run_id, output, lambda desk, found: desk.reject(found, reason))


def _decide(session: Session, run_id: str, output: str, word: Callable[[Desk, str], Run]) -> int:
    with reading(session.settings) as ledger:
        found = find_run(ledger, run_id)
        told = list(ledger.entries(run_id=found.id))
    follower = Follower(session, quiet_output=output != "table")
    follower.skip(told)
    done = follower.carry(lambda desk: word(desk, found.id), decided=True)
    return print_run(session, done, output)


@click.command()
@click.argument("run_id", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="What the review found.")
@output_option
@click.pass_obj
def review(session: Session, run_id: str, reason: str, output: str) -> None:
    """Close the review of a break-glass run; never by the person who broke the glass.

    \b
    Example:
      REMEDIATE_TOKEN_FILE=eve.token remediate approvals review last --reason "justified: nobody else on call"
    """
    identity = session.require(Action.REVIEW)
    with open_store(session.settings) as store:
        parts = build_parts(session.settings, store)
        found = find_run(LedgerReader(store), run_id)
        people.review(parts, found.id, identity.actor(), reason)
    show(
        {"run": found.id, "reviewed_by": identity.id, "reason": reason},
        output,
        lines=lambda: [f"the review of run {found.id} is closed by {identity.id}"],
    )

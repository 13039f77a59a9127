"""`explain`: every guard's input and verdict; nothing runs and nothing of it is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from remediate.app import onlooker, open_reader, open_store
from remediate.cli.output import columns, output_option, show
from remediate.cli.request import read_request, request_arguments
from remediate.cli.session import Session
from remediate.config import Settings
from remediate.errors import ExitCode
from remediate.flow.decision import resolve
from remediate.flow.intake import understand
from remediate.guard.identity import Action
from remediate.guard.policy import Decision, Ruling
from remediate.guard.policy import decision as conclude
from remediate.model.guard import GuardVerdict
from remediate.model.plan import Plan
from remediate.model.run import Request, Run
from remediate.report.layout import table

EXIT_CODES = {
    Ruling.RUN: ExitCode.OK,
    Ruling.HOLD: ExitCode.AWAITING_APPROVAL,
    Ruling.REFUSE: ExitCode.REFUSED,
}
_WORDS = {
    Ruling.RUN: "it would run",
    Ruling.HOLD: "it would wait for a second person",
    Ruling.REFUSE: "it would be refused",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What would become of a request."""

    plan: Plan
    run: Run
    verdicts: tuple[GuardVerdict, ...]
    decision: Decision

    def as_json(self) -> dict[str, Any]:
        """The form of `explain -o json`."""
        return {
            "code": self.plan.code,
            "plan": self.plan.slug,
            "plan_hash": self.run.plan_hash,
            "target": self.run.request.target,
            "touches": list(self.run.touches),
            "vantage": self.run.vantage,
            "params": dict(self.run.request.params),
            "tier": self.run.tier,
            "risk": self.run.risk,
            "arming": self.run.arming,
            "verdict": self.decision.verdict.value,
            "guard": self.decision.guard,
            "reason": self.decision.reason,
            "guards": [verdict.as_json() for verdict in self.verdicts],
        }


def look_ahead(settings: Settings, request: Request) -> Outlook:
    """Judge a request as it would be judged now; a new state directory is made when there is none."""
    if not (settings.home / "audit.db").exists():
        open_store(settings).close()
    with open_reader(settings) as reader:
        dispatcher = onlooker(settings, reader)
        parts = dispatcher.parts
        plan, understood = understand(request, catalog=parts.catalog, inventory=parts.inventory)
        run = resolve(parts, plan, Run(id="", case_id="", request=understood))
        verdicts = dispatcher.explain(request)
    return Outlook(plan=plan, run=run, verdicts=verdicts, decision=conclude(verdicts))


@click.command()
@request_arguments
@click.option("--check", is_flag=True, help="Judge a dry run.")
@click.option("--break-glass", is_flag=True, help="Judge a run of somebody alone on call.")
@click.option("--reason", default="", metavar="TEXT", help="The reason that would be given.")
@output_option
@click.pass_obj
def explain(
    session: Session,
    code: str,
    target: str,
    pairs: tuple[str, ...],
    check: bool,
    break_glass: bool,
    reason: str,
    output: str,
) -> int:
    """Show every guard's verdict and reason on a request; nothing runs.

    Ends with 0 if it would run, 3 if it would be refused, 5 if a second person had to decide.

    \b
    Example:
      remediate explain SEC-SESS-STALE --target iam1 -e scope=platform
    """
    identity = session.require(Action.READ)
    request = read_request(identity, code, target, pairs, check=check, break_glass=break_glass, reason=reason)
    outlook = look_ahead(session.settings, request)
    show(outlook.as_json(), output, lines=lambda: outlook_lines(outlook))
    return int(EXIT_CODES[outlook.decision.verdict])


def outlook_lines(outlook: Outlook) -> list[str]:
    """The plan, the guards, and the conclusion."""
    rows = [(verdict.name, verdict.verdict.value, verdict.reason) for verdict in outlook.verdicts]
    why = f": {outlook.decision.reason}" if outlook.decision.verdict is not Ruling.RUN else ""
    return [
        *plan_lines(outlook),
        "",
        *table(("guard", "verdict", "reason"), rows, columns=columns()),
        "",
        f"{_WORDS[outlook.decision.verdict]}{why}",
    ]


def plan_lines(outlook: Outlook) -> list[str]:
    """What would be done to which host."""
    run = outlook.run
    params = " ".join(f"{name}={value}" for name, value in run.request.params.items())
    lines = [
        f"code     {outlook.plan.code}  {outlook.plan.title.en}  {outlook.plan.title.zh}",
        f"target   {run.request.target}"
        + (f", also touches {', '.join(run.touches)}" if run.touches else ""),
        f"plan     {outlook.plan.slug}  {params}".rstrip(),
        f"tier     {run.tier}   risk {run.risk}   armed {run.arming}   looked at from {run.vantage}",
    ]
    if not outlook.plan.has_rollback:
        lines.append("rollback none: what this plan does cannot be taken back")
    return lines

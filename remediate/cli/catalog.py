"""`catalog`: the plans. Listing them loads neither Ansible nor the engine, nor what parses plan files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from remediate.catalog import load_catalog, select
from remediate.catalog.store import Catalog
from remediate.cli.lazy import LazyGroup
from remediate.cli.output import output_option, show, show_table
from remediate.cli.session import Session
from remediate.content import ContentRoots
from remediate.errors import ExitCode, UsageError
from remediate.model.duration import format_duration
from remediate.model.plan import Arming, Parameter, Plan, Risk, Tier

COMMANDS = {
    "list": ("remediate.cli.catalog:list_plans", "Every plan: its code, what it does, where, how dangerous."),
    "show": ("remediate.cli.catalog:show_plan", "One plan: parameters, phases, verification, guards."),
    "lint": ("remediate.cli.catalog:lint", "Everything that is wrong with the plans, by file and line."),
    "new": ("remediate.cli.catalog:new", "Wrap a playbook you already have into a plan."),
    "arm": ("remediate.cli.catalog:arm", "Set how far a fault code may act by itself."),
    "export": ("remediate.cli.catalog:export", "Copy the plans and what they run into a directory of yours."),
}


@click.group(cls=LazyGroup, commands_at=COMMANDS)
def catalog() -> None:
    """The plans there are, one for each fault code.

    Plans in the directories of the setting `content` come first, the packaged ones last.

    \b
    Example:
      remediate catalog list
    """


@click.command("list")
@output_option
@click.pass_obj
def list_plans(session: Session, output: str) -> None:
    """Every plan: its code, what it does, on which groups, how dangerous it is.

    \b
    Example:
      remediate catalog list -o json
    """
    plans = _catalog(session).plans()
    chinese = session.settings.lang == "zh"
    show_table(
        [_summary(plan) for plan in plans],
        output,
        ("code", "groups", "tier", "risk", "armed", "title"),
        [
            (
                plan.code,
                ",".join(plan.groups),
                plan.tier.value,
                plan.risk.value,
                plan.arming.value,
                plan.title.zh if chinese else plan.title.en,
            )
            for plan in plans
        ],
        empty="no plans",
    )


def _catalog(session: Session) -> Catalog:
    settings = session.settings
    return load_catalog(ContentRoots.from_settings(settings), settings.home / "cache")


def _summary(plan: Plan) -> dict[str, Any]:
    return {
        "code": plan.code,
        "plan": plan.slug,
        "title": {"en": plan.title.en, "zh": plan.title.zh},
        "groups": list(plan.groups),
        "tier": plan.tier.value,
        "risk": plan.risk.value,
        "arming": plan.arming.value,
        "rollback": plan.has_rollback,
    }


@click.command("show")
@click.argument("code")
@output_option
@click.pass_obj
def show_plan(session: Session, code: str, output: str) -> None:
    """One plan: parameters, phases, verification, guards. `armed` is the level the plan ships with.

    \b
    Example:
      remediate catalog show SEC-SESS-STALE
    """
    plan = select(_catalog(session), code)
    data = {
        **_summary(plan),
        "layer": plan.layer,
        "risk_when": {name: {k: r.value for k, r in risks.items()} for name, risks in plan.risk_when.items()},
        "parameters": [_parameter_json(one) for one in plan.parameters],
        "phases": {
            phase.value: {"timeout_s": spec.timeout, "idempotent": spec.idempotent}
            for phase, spec in plan.phases.items()
        },
        "verify": {
            "probe": plan.verify.probe,
            "from": plan.verify.vantage,
            "address": plan.verify.address,
            "samples": plan.verify.samples,
            "min_ok": plan.verify.min_ok,
        },
        "touches": list(plan.touches),
        "secrets": list(plan.secrets),
        "cooldown_s": plan.guards.cooldown,
        "foreign": plan.foreign,
        "playbook": plan.playbook,
        "file": plan.file,
        "content_sha256": plan.digest,
    }
    show(data, output, lines=lambda: _plan_lines(plan))


def _parameter_json(one: Parameter) -> dict[str, Any]:
    return {
        "name": one.name,
        "type": one.type,
        "required": one.required,
        "default": one.default,
        "allowed": _allowed(one),
        "description": one.description,
    }


def _allowed(one: Parameter) -> str:
    if one.choices:
        return ", ".join(map(str, one.choices))
    if one.min is not None and one.max is not None:
        return f"{one.min} to {one.max} {one.unit}".strip()
    return f"matches {one.regex}" if one.regex else "true, false"


def _plan_lines(plan: Plan) -> list[str]:
    verify = plan.verify
    raised = "; ".join(
        f"{risk.value} with {name}={value}"
        for name, by in plan.risk_when.items()
        for value, risk in by.items()
    )
    return [
        f"code        {plan.code}  {plan.title.en}  {plan.title.zh}",
        f"plan        {plan.slug}  ({plan.file})",
        f"targets     one host of {', '.join(plan.groups)}",
        f"tier, risk  {plan.tier.value}, {plan.risk.value}" + (f"; {raised}" if raised else ""),
        f"armed       {plan.arming.value} as shipped",
        "phases      "
        + ", ".join(f"{phase.value} {format_duration(spec.timeout)}" for phase, spec in plan.phases.items()),
        f"verify      {verify.min_ok} of {verify.samples} samples by {verify.probe} from {verify.vantage}",
        f"rollback    {'yes' if plan.has_rollback else 'no: what it does cannot be taken back'}",
        f"secrets     {', '.join(plan.secrets) or 'none'}",
        f"cooldown    {format_duration(plan.guards.cooldown)}",
        "parameters" + ("" if plan.parameters else "  none"),
        *(_parameter_line(one) for one in plan.parameters),
    ]


def _parameter_line(one: Parameter) -> str:
    need = "required" if one.required else f"otherwise {one.default}"
    return f"  -e {one.name}=   {one.type}, {_allowed(one)}; {need}"


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@output_option
@click.pass_obj
def lint(session: Session, directory: Path | None, output: str) -> int:
    """Everything that is wrong with the plans, by file and line; exit code 64 when something is.

    DIRECTORY is a content directory (with `playbooks/catalog/`); without it those of the setting
    `content` and the packaged plans are read.

    \b
    Example:
      remediate catalog lint
    """
    from remediate.catalog.linting import lint as find_problems

    if directory is not None and not directory.is_dir():
        raise UsageError(f"{directory} is no directory; name one that holds `playbooks/catalog/`")
    roots = ContentRoots.of(directory) if directory else ContentRoots.from_settings(session.settings)
    problems = find_problems(roots)
    show(
        [{"file": str(one.file), "line": one.line, "message": one.message} for one in problems],
        output,
        lines=lambda: [*map(str, problems), _verdict(len(problems), len(roots.catalog_files()))],
    )
    return int(ExitCode.USAGE if problems else ExitCode.OK)


def _verdict(problems: int, plans: int) -> str:
    return f"{problems} problem(s) in {plans} plan(s)" if problems else f"{plans} plan(s), nothing is wrong"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.pass_obj
def export(session: Session, directory: Path) -> None:
    """Copy the plans and what they run into a directory of yours, to change them there.

    \b
    Example:
      remediate catalog export ./my-content
    """
    from remediate.catalog.exporting import export as copy_plans

    written = copy_plans(_catalog(session), directory)
    click.echo(f"{len(written)} files in {directory}; add it to the setting `content` to use them first")


@click.command()
@click.argument("code")
@click.argument("level", type=click.Choice([level.value for level in Arming]))
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the audit trail.")
@click.pass_obj
def arm(session: Session, code: str, level: str, reason: str) -> None:
    """Set how far a fault code may act by itself: observe, approve (a person decides), or auto.

    \b
    Example:
      remediate catalog arm SEC-SESS-STALE observe --reason "new on this site"
    """
    from remediate.app import build_parts, open_store
    from remediate.flow import people
    from remediate.guard.identity import Action

    identity = session.require(Action.ARM)
    plan = select(_catalog(session), code)
    with open_store(session.settings) as store:
        before = people.arm(
            build_parts(session.settings, store), plan.code, Arming(level), identity.actor(), reason
        )
    click.echo(f"{plan.code}: armed {level}, before it was {before.value}")


@click.command()
@click.argument("code")
@click.option(
    "--playbook",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The playbook you have; it stays where it is and as it is.",
)
@click.option(
    "--probe",
    required=True,
    metavar="PROBE",
    help="What proves that it helped: http:URL, tcp:HOST:PORT, ping, segment:URL or playbook:FILE; "
    "{host} stands for the target's address.",
)
@click.option(
    "--group", "groups", multiple=True, metavar="GROUP", help="A target's group; else the play's hosts."
)
@click.option(
    "--param", "parameters", multiple=True, metavar="NAME:TYPE", help="str, int, bool or list; repeatable."
)
@click.option("--title", default="", metavar="TEXT", help="What it does; otherwise the play's name.")
@click.option("--title-zh", default="", metavar="TEXT", help="The same in Chinese.")
@click.option("--tier", type=click.Choice([tier.value for tier in Tier]), default="L2", show_default=True)
@click.option(
    "--risk",
    type=click.Choice([Risk.R2.value, Risk.R3.value]),
    default="R2",
    show_default=True,
    help="R3 asks a second person each time.",
)
@click.option(
    "--timeout", default="5m", show_default=True, metavar="DURATION", help="After so long it is stopped."
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Content directory to write the plan into; otherwise the project.",
)
@click.pass_obj
def new(session: Session, /, code: str, directory: Path | None, **given: Any) -> None:
    """Wrap a playbook you already have into a plan; it gets guards, audit and an independent verification.

    Such a playbook has no rollback, so when the probe does not find the target healthy the run ends
    failed and tells you; it never ends recovered because of a return code.

    \b
    Example:
      remediate catalog new APP-WEB-HUNG --playbook restart_web.yml --probe http:http://{host}:8080/healthz
    """
    from remediate.catalog.wrapping import new_plan

    where = directory or session.settings.project
    if where is None:
        raise UsageError(
            "this is no project, so nobody knows where to put the plan; add `--dir DIR` or `remediate init`"
        )
    file = new_plan(code.strip().upper(), given.pop("playbook"), given.pop("probe"), directory=where, **given)
    click.echo(f"{file}")
    click.echo(f"look it over, then: remediate catalog lint && remediate explain {file.stem} --target HOST")

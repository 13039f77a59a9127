"""From a plan file to a `Plan`, or to everything that is wrong with it."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from remediate.catalog.marked import Document, Place, Unreadable, read_marked
from remediate.catalog.parameters import misfit
from remediate.catalog.problem import Problem
from remediate.catalog.schema import ParameterFile, PhaseFile, PlanFile, VerifyFile
from remediate.catalog.specs import RoleSpec, agreement, facts_of, read_spec, spec_problems
from remediate.content import ContentRoots
from remediate.model.plan import (
    GuardSpec,
    Parameter,
    Phase,
    PhaseSpec,
    Plan,
    Risk,
    Title,
    VerifySpec,
)
from remediate.model.spelling import nearest

#: Phases that a plan of ours has to have; a foreign playbook only has the last two.
_OWN_PHASES = (Phase.PRECHECK, Phase.SNAPSHOT, Phase.APPLY, Phase.VERIFY)
#: The template language of addresses (`remediate.probes.address` fills it in).
_ADDRESS = re.compile(r"[^\s{}]*(\{(host|name|var:[A-Za-z_][A-Za-z0-9_]*)\}[^\s{}]*)*")
#: Names Ansible keeps for itself; handing one to a playbook changes how it runs, not what it does.
_MAGIC = frozenset(
    {
        "environment", "group_names", "groups", "hostvars", "inventory_dir", "inventory_file",
        "inventory_hostname", "inventory_hostname_short", "omit", "play_hosts", "playbook_dir", "role_name",
        "role_path", "vars",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """What became of one plan file: a plan, or problems."""

    file: Path
    plan: Plan | None
    problems: tuple[Problem, ...] = ()


def read_plan(file: Path, roots: ContentRoots) -> Reading:
    """Read one plan file and its role's argument spec."""
    try:
        document = read_marked(file)
        parsed = PlanFile.model_validate(document.data)
    except Unreadable as error:
        return Reading(file, None, (error.problem,))
    except ValidationError as error:
        return Reading(file, None, tuple(_problems(document, error)))
    try:
        spec = _spec_of(document, parsed, roots)
    except Unreadable as error:
        return Reading(file, None, (error.problem,))
    plan = _plan(document, parsed, spec)
    if problems := tuple(_check(document, parsed, spec, plan, roots)):
        return Reading(file, None, problems)
    return Reading(file, plan)


# --- what Pydantic found, in words and with a line -----------------------------------------------


def _problems(document: Document, error: ValidationError) -> Iterator[Problem]:
    seen: set[tuple[int, str]] = set()
    for found in error.errors(include_url=False):
        place = _place(document, found["loc"])
        problem = document.problem(place, _sentence(found["loc"], place, found))
        if (problem.line, problem.message) not in seen:  # one message, not one per branch of a union
            seen.add((problem.line, problem.message))
            yield problem


def _place(document: Document, location: Place) -> Place:
    """The part of Pydantic's location that is in the file; the rest names branches of a union."""
    length = len(location)
    while length and location[:length] not in document.lines:
        length -= 1
    return location[:length]


def _sentence(location: Place, place: Place, found: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in place)
    kind, value = found["type"], found["input"]
    if kind == "extra_forbidden":
        return f"unknown key {where!r}{nearest(str(place[-1]), _keys_at(place[:-1]))}"
    if kind == "missing":
        return f"`{'.'.join(str(part) for part in location)}` is missing"
    message = str(found["msg"]).removeprefix("Value error, ")
    if kind in ("enum", "literal_error"):
        words = re.findall(r"'([^']*)'", str(found["ctx"]["expected"]))
        message += nearest(str(value), words)
    return f"`{where}` is {value!r}: {message}" if where else f"this is no plan: {message}"


def _keys_at(place: Place) -> list[str]:
    """The keys that the schema knows at a place."""
    model: Any = PlanFile
    for part in place:
        model = _model_below(model, part)
        if model is None:
            return []
    return _keys(model) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _model_below(model: Any, part: str | int) -> Any:
    if isinstance(model, type) and issubclass(model, BaseModel):
        return next(
            (_core(f.annotation) for n, f in model.model_fields.items() if part in (n, f.alias)), None
        )
    if typing.get_origin(model) is dict:
        return _core(typing.get_args(model)[1])
    return None


def _core(annotation: Any) -> Any:
    """An annotation without `| None`."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return next(arm for arm in typing.get_args(annotation) if arm is not type(None))
    return annotation


def _keys(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


# --- what the schema cannot say --------------------------------------------------------------------


def _spec_of(document: Document, parsed: PlanFile, roots: ContentRoots) -> RoleSpec | None:
    if parsed.foreign:
        return None
    role = roots.role(parsed.plan)
    if role is None:
        raise Unreadable(document.problem(("plan",), f"there is no role roles/{parsed.plan}"))
    return read_spec(role)


def _check(
    document: Document, parsed: PlanFile, spec: RoleSpec | None, plan: Plan, roots: ContentRoots
) -> Iterator[Problem]:
    yield from _names(document, parsed, plan, roots)
    yield from _phases(document, parsed)
    yield from _verification(document, parsed, plan, roots)
    yield from _risks(document, parsed, plan)
    if spec is None:
        yield from _foreign(document, parsed)
    else:
        for name in parsed.parameters:
            yield from agreement(document, spec, parsed.plan, name)
        yield from spec_problems(spec, parsed.plan)
    for parameter in plan.parameters:
        yield from _parameter_problems(document, parameter)


def _names(document: Document, parsed: PlanFile, plan: Plan, roots: ContentRoots) -> Iterator[Problem]:
    if document.file.stem != parsed.code:
        yield document.problem(
            ("code",), f"`code` is {parsed.code!r}, so the file has to be {parsed.code}.yml"
        )
    if "/" in parsed.executor.playbook and not parsed.foreign:
        yield document.problem(("executor", "playbook"), "only a foreign playbook is named by a path")
    elif roots.playbook_of(plan) is None:
        there = [f.stem for folder in roots.directories("playbooks") for f in folder.glob("*.yml")]
        wanted = parsed.executor.playbook
        yield document.problem(
            ("executor", "playbook"), f"there is no playbook {wanted!r}{nearest(wanted, there)}"
        )


def _phases(document: Document, parsed: PlanFile) -> Iterator[Problem]:
    wanted = (Phase.APPLY, Phase.VERIFY) if parsed.foreign else _OWN_PHASES
    allowed = wanted if parsed.foreign else (*_OWN_PHASES, Phase.ROLLBACK)
    present = [phase for phase in Phase if getattr(parsed.phases, phase.value, None) is not None]
    for phase in wanted:
        if phase not in present:
            yield document.problem(("phases",), f"`phases.{phase}` is missing")
    for phase in present:
        if phase not in allowed:
            yield document.problem(
                ("phases", phase.value), f"a foreign playbook has no phases, so no `{phase}` either"
            )
        elif not getattr(parsed.phases, phase.value).timeout:
            yield document.problem(("phases", phase.value, "timeout"), "a timeout of 0 ends a phase at once")
    if parsed.duration.expected > parsed.duration.deadline:
        yield document.problem(("duration",), "`expected` is later than `deadline`")


def _verification(document: Document, parsed: PlanFile, plan: Plan, roots: ContentRoots) -> Iterator[Problem]:
    verify, place = parsed.phases.verify, ("phases", "verify")
    if verify.min_ok > verify.samples:
        yield document.problem(
            (*place, "min_ok"), f"`min_ok` is {verify.min_ok} of only {verify.samples} samples"
        )
    if verify.probe in ("http", "tcp", "segment") and not plan.verify.address:
        yield document.problem(place, f"the {verify.probe} probe needs an `address`")
    if verify.probe != "playbook" and not _ADDRESS.fullmatch(plan.verify.address):
        yield document.problem(
            (*place, "address"),
            f"`address` is {plan.verify.address!r}: only {{host}}, {{name}} and {{var:NAME}} are filled in",
        )
    if parsed.foreign and verify.probe == "playbook" and (verify.samples, verify.min_ok) != (1, 1):
        yield document.problem(place, "a check playbook looks once: `samples` and `min_ok` are 1")
    if parsed.foreign and verify.probe == "playbook" and roots.check_of(plan) is None:
        yield document.problem(
            (*place, "address"),
            f"`address` is {plan.verify.address!r}, which is no playbook; name the one that looks",
        )


def _risks(document: Document, parsed: PlanFile, plan: Plan) -> Iterator[Problem]:
    known = {parameter.name: parameter for parameter in plan.parameters}
    for name, values in parsed.risk_when.items():
        if name not in known:
            yield document.problem(
                ("risk_when", name), f"there is no parameter {name!r}{nearest(name, known)}"
            )
            continue
        choices = [str(choice) for choice in known[name].choices]
        for value in values:
            if choices and value not in choices:
                yield document.problem(
                    ("risk_when", name, value), f"{value!r} is no choice of {name!r}{nearest(value, choices)}"
                )


def _foreign(document: Document, parsed: PlanFile) -> Iterator[Problem]:
    if parsed.risk < Risk.R2:
        yield document.problem(
            ("risk",), f"a foreign playbook cannot be taken back, so its risk is R2 or R3, not {parsed.risk}"
        )
    if parsed.arming == "auto":
        yield document.problem(
            ("arming",),
            "a foreign playbook starts at observe or approve; `remediate catalog arm` promotes it",
        )
    for name in parsed.parameters:
        if name.startswith(("ansible_", "remediate_")) or name in _MAGIC:
            yield document.problem(
                ("parameters", name),
                f"parameter {name!r} is a name that Ansible or the toolkit keeps for itself",
            )


def _parameter_problems(document: Document, parameter: Parameter) -> Iterator[Problem]:
    """A parameter that would let anything through, or whose own default would not pass."""
    place, name = ("parameters", parameter.name), parameter.name
    if parameter.type in ("str", "list") and not (parameter.regex or parameter.choices):
        yield document.problem(place, f"parameter {name!r} is text; give it a `regex` or `choices`")
    if parameter.type == "int" and not parameter.choices and None in (parameter.min, parameter.max):
        yield document.problem(place, f"parameter {name!r} is a number; give it `min` and `max`")
    if parameter.required and parameter.default is not None:
        yield document.problem(place, f"parameter {name!r} is required, so its default is never used")
    if parameter.default is not None and (wrong := misfit(parameter, parameter.default)):
        yield document.problem(place, f"parameter {name!r}: its default {parameter.default!r} {wrong}")


# --- the value ---------------------------------------------------------------------------------------


def _plan(document: Document, parsed: PlanFile, spec: RoleSpec | None) -> Plan:
    phases = {
        phase: PhaseSpec(timeout=found.timeout, idempotent=found.idempotent)
        for phase in Phase
        if isinstance(found := getattr(parsed.phases, phase.value, None), PhaseFile)
    }
    return Plan(
        code=parsed.code,
        slug=parsed.plan,
        title=Title(en=parsed.title.en, zh=parsed.title.zh),
        layer=parsed.layer,
        groups=tuple(parsed.targets.groups),
        parameters=tuple(
            _parameter(name, given, facts_of(spec, parsed.plan, name) if spec else {})
            for name, given in parsed.parameters.items()
        ),
        tier=parsed.tier,
        risk=parsed.risk,
        risk_when=parsed.risk_when,
        arming=parsed.arming,
        playbook=parsed.executor.playbook,
        phases=phases,
        verify=_verify(parsed.phases.verify),
        foreign=parsed.foreign,
        touches=tuple(parsed.touches),
        secrets=tuple(parsed.secrets),
        guards=GuardSpec(
            cooldown=parsed.guards.cooldown,
            failure_domain=f"remediate_{parsed.guards.failure_domain.removeprefix('remediate_')}",
            never=tuple(parsed.guards.never),
        ),
        expected=parsed.duration.expected,
        deadline=parsed.duration.deadline,
        evidence={name: item.model_dump(by_alias=True) for name, item in parsed.evidence.items()},
        saturation=parsed.saturation.model_dump() if parsed.saturation else {},
        file=str(document.file.absolute()),
    )


def _parameter(name: str, given: ParameterFile, facts: Mapping[str, Any]) -> Parameter:
    said = {**facts, **given.model_dump(exclude_none=True)}
    return Parameter(
        name=name,
        type=said.get("type", "str"),
        description=said.get("description", ""),
        required=bool(said.get("required", False)),
        default=said.get("default"),
        choices=tuple(said.get("choices", ())),
        regex=said.get("regex", ""),
        min=said.get("min"),
        max=said.get("max"),
        unit=said.get("unit", ""),
        source=said.get("source", ""),
    )


def _verify(found: VerifyFile) -> VerifySpec:
    default = "{host}" if found.probe == "ping" else ""
    return VerifySpec(
        probe=found.probe,
        vantage=found.vantage,
        address=found.address or default,
        expect_status=found.expect_status,
        expect_text=found.expect_text,
        max_age=found.max_age,
        timeout=found.timeout,
        samples=found.samples,
        interval=found.interval,
        min_ok=found.min_ok,
    )

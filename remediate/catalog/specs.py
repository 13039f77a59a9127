"""What a role says of its options, in `meta/argument_specs.yml`, and how it agrees with the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remediate.catalog.marked import Document, Place, Unreadable, read_marked
from remediate.catalog.problem import Problem
from remediate.model.spelling import nearest

#: Where the options of a role's normal entry point are.
_OPTIONS: Place = ("argument_specs", "main", "options")
_TYPES = ("str", "int", "bool", "list")
#: Facts of a parameter that both files may state; they must not differ.
_SHARED = ("type", "required", "default", "choices")


@dataclass(frozen=True)
class RoleSpec:
    """A role's options, with the file they are in."""

    document: Document
    options: Mapping[str, Mapping[str, Any]]

    def problem(self, option: str, message: str) -> Problem:
        """Something wrong with an option."""
        return self.document.problem((*_OPTIONS, option), message)


def read_spec(role: Path) -> RoleSpec:
    """The argument spec of a role; Unreadable when there is none."""
    file = role / "meta" / "argument_specs.yml"
    document = read_marked(file)
    data = document.data
    for key in _OPTIONS:
        data = data.get(key) if isinstance(data, dict) else None
    if data is None:
        data = {}
    if not isinstance(data, dict) or not all(isinstance(option, dict) for option in data.values()):
        raise Unreadable(document.problem(_OPTIONS, "`argument_specs.main.options` is no mapping of options"))
    return RoleSpec(document, data)


def spec_problems(spec: RoleSpec, slug: str) -> Iterator[Problem]:
    """Options under a strange name, or without a word on what they are.

    An option that is not a parameter of the plan is set in the inventory: nothing from outside reaches
    it, so forgetting to declare a parameter is safe, and needs no rule.
    """
    for option, facts in spec.options.items():
        if not option.startswith((f"{slug}_", "remediate_")):
            yield spec.problem(option, f"option {option!r} does not start with {slug}_ or remediate_")
        if not _description(facts):
            yield spec.problem(option, f"option {option!r} has no description")


def agreement(plan: Document, spec: RoleSpec, slug: str, name: str) -> Iterator[Problem]:
    """Where a plan's parameter and the role's option of that name differ."""
    place, option = ("parameters", name), f"{slug}_{name}"
    facts = spec.options.get(option)
    if facts is None:
        yield plan.problem(
            place, f"parameter {name!r}: the role has no option {option!r}{nearest(option, spec.options)}"
        )
        return
    if (kind := facts.get("type", "str")) not in _TYPES:
        yield spec.problem(
            option, f"option {option!r} is a {kind}; a parameter is one of {', '.join(_TYPES)}"
        )
    given = plan.data["parameters"][name] or {}
    for fact in _SHARED:
        if fact in given and given[fact] != facts.get(fact):
            yield plan.problem(
                (*place, fact),
                f"parameter {name!r}: {fact} is {given[fact]!r}, "
                f"but {spec.document.file.name} of the role says {facts.get(fact)!r}",
            )


def facts_of(spec: RoleSpec, slug: str, name: str) -> dict[str, Any]:
    """What the role says of a parameter, in the words of a plan file."""
    facts = spec.options.get(f"{slug}_{name}", {})
    found = {fact: facts[fact] for fact in _SHARED if fact in facts}
    kind = found.get("type") if found.get("type") in _TYPES else "str"  # another type is a problem of its own
    return {**found, "type": kind, "description": _description(facts)}


def _description(facts: Mapping[str, Any]) -> str:
    """A description as one text; Ansible also takes a list of paragraphs."""
    text = facts.get("description", "")
    return " ".join(str(line).strip() for line in (text if isinstance(text, list) else [text])).strip()

"""The only door for outside values: what a plan declares, typed and in range."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from remediate.errors import UsageError
from remediate.model.plan import Parameter, Plan
from remediate.model.spelling import nearest

#: Characters of one text, and texts of one list.
LONGEST_TEXT = 256
LONGEST_LIST = 64
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_TEMPLATE = ("{{", "{%", "{#")


def validate_params(plan: Plan, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every declared parameter that has a value, typed, defaults applied; UsageError names what is wrong.

    Text (from a command line or a label) is turned into the declared type; a typed value must have it.
    """
    declared = {parameter.name: parameter for parameter in plan.parameters}
    for name in given:
        if name not in declared:
            raise UsageError(f"{plan.code} has no parameter {name!r}{_known(name, declared)}")
    values: dict[str, Any] = {}
    for name, parameter in declared.items():
        if name in given:
            values[name] = _value(plan, parameter, given[name])
        elif parameter.required:
            raise UsageError(f"{plan.code} needs the parameter {name!r}: give it with `-e {name}=VALUE`")
        elif parameter.default is not None:
            values[name] = parameter.default
    return values


def misfit(parameter: Parameter, value: Any) -> str:
    """Why a typed value is not allowed (`is not one of ...`), or the empty string."""
    if parameter.type == "list":
        return _list_misfit(parameter, value)
    wanted: type = {"str": str, "int": int, "bool": bool}[parameter.type]
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        return f"is not {_name_of(parameter.type)}"
    if parameter.choices and value not in parameter.choices:
        near = nearest(str(value), map(str, parameter.choices))
        return f"is not one of {', '.join(map(str, parameter.choices))}{near}"
    if isinstance(value, str):
        return _text_misfit(parameter, value)
    return _range_misfit(parameter, value) if isinstance(value, int) else ""


def _value(plan: Plan, parameter: Parameter, raw: Any) -> Any:
    value = _typed(parameter.type, raw) if isinstance(raw, str) else raw
    value = list(value) if isinstance(value, tuple) else value
    if wrong := misfit(parameter, value):
        shown = repr(raw) if len(repr(raw)) <= 80 else f"{raw!r:.77}..."
        raise UsageError(f"{plan.code}: parameter {parameter.name!r} is {shown}, which {wrong}")
    return value


def _typed(kind: str, text: str) -> Any:
    """A text as the declared type; as it is when it does not look like that, so the error can show it."""
    if kind == "int" and re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    if kind == "bool":
        return _WORDS.get(text.lower(), text)
    if kind == "list":
        return [part.strip() for part in text.split(",")] if text else []
    return text


def _list_misfit(parameter: Parameter, value: Any) -> str:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return "is not a list of texts"
    if len(value) > LONGEST_LIST:
        return f"has {len(value)} entries, more than {LONGEST_LIST}"
    for entry in value:
        if not isinstance(entry, str):
            return f"holds {entry!r}, which is not text"
        if parameter.choices and entry not in parameter.choices:
            near = nearest(entry, map(str, parameter.choices))
            return f"holds {entry!r}, not one of {', '.join(map(str, parameter.choices))}{near}"
        if wrong := _text_misfit(parameter, entry):
            return f"holds an entry that {wrong}"
    return ""


def _text_misfit(parameter: Parameter, text: str) -> str:
    if len(text) > LONGEST_TEXT:
        return f"is longer than {LONGEST_TEXT} characters"
    # `isprintable` is false for line breaks, control, format and unassigned characters, not for a space.
    if not text.isprintable():
        return "holds a control character or a line break"
    if any(mark in text for mark in _TEMPLATE):
        return "holds the beginning of a template"
    if parameter.regex and not re.fullmatch(parameter.regex, text):
        return f"does not match {parameter.regex}"
    return ""


def _range_misfit(parameter: Parameter, value: int) -> str:
    unit = f" {parameter.unit}" if parameter.unit else ""
    if parameter.min is not None and value < parameter.min:
        return f"is less than {parameter.min}{unit}"
    if parameter.max is not None and value > parameter.max:
        return f"is more than {parameter.max}{unit}"
    return ""


def _name_of(kind: str) -> str:
    return {"str": "text", "int": "a whole number", "bool": "true or false"}[kind]


def _known(name: str, declared: Mapping[str, Parameter]) -> str:
    if near := nearest(name, declared):
        return near
    return f"; it has {', '.join(declared)}" if declared else "; it has none"

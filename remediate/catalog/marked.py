"""YAML with line numbers: what a file says, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from remediate.catalog.problem import Problem

#: A place in a document: keys and indices from the top.
Place = tuple[str | int, ...]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: Deeper nesting is no plan; an alias that holds itself would never end.
_DEEPEST = 20


@dataclass(frozen=True)
class Document:
    """A parsed file."""

    file: Path
    data: Any
    lines: dict[Place, int] = field(repr=False)

    def line(self, *place: str | int) -> int:
        """The line of a place, or of the nearest thing around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def problem(self, place: Sequence[str | int], message: str) -> Problem:
        """Something wrong at a place of this file."""
        return Problem(self.file, self.line(*place), message)


class Unreadable(Exception):
    """The file is not YAML that could be a document of ours; holds the problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read_marked(file: Path) -> Document:
    """One YAML document with a line for every key; Unreadable on anything else, duplicate keys too."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(Problem(file, 1, f"cannot be read: {error}")) from error
    loader = _LOADER(text)
    lines: dict[Place, int] = {}
    try:
        node = loader.get_single_node()
        data = None if node is None else _plain(loader, file, node, (), lines)
    except yaml.YAMLError as error:
        raise Unreadable(_from_yaml(file, error)) from error
    finally:
        loader.dispose()
    return Document(file, data, lines)


def _plain(loader: Any, file: Path, node: yaml.Node, place: Place, lines: dict[Place, int]) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(place, line)
    if len(place) > _DEEPEST:
        raise Unreadable(Problem(file, line, "nested too deeply"))
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, file, node, place, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, file, one, (*place, n), lines) for n, one in enumerate(node.value)]
    if node.tag.startswith("!"):  # Ansible's own (`!vault`, `!unsafe`): the text is all we look at
        return node.value
    return loader.construct_object(node)


def _mapping(
    loader: Any, file: Path, node: yaml.MappingNode, place: Place, lines: dict[Place, int]
) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in data:
            raise Unreadable(
                Problem(file, line, f"{key!r} is here twice (first in line {lines[*place, key]})")
            )
        lines[*place, key] = line
        data[key] = _plain(loader, file, value_node, (*place, key), lines)
    return data


def _from_yaml(file: Path, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    words = getattr(error, "problem", None) or str(error)
    return Problem(file, mark.line + 1 if mark is not None else 1, f"is not YAML: {words}")

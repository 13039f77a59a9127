"""Everything that is wrong with the plans at once, for the person who writes them."""

from __future__ import annotations

from collections.abc import Iterator

from remediate.catalog.marked import Document, Unreadable, read_marked
from remediate.catalog.problem import Problem
from remediate.catalog.reading import read_plan
from remediate.content import ContentRoots
from remediate.model.plan import Plan


def lint(roots: ContentRoots) -> list[Problem]:
    """Every problem of every plan, by file and line; a catalog without one loads."""
    found: list[Problem] = []
    for file in roots.catalog_files():
        reading = read_plan(file, roots)
        found += reading.problems
        if reading.plan is not None:
            found += _hosts(reading.plan, roots)
    found += _stray_files(roots)
    return sorted(found, key=lambda problem: (str(problem.file), problem.line, problem.message))


def _hosts(plan: Plan, roots: ContentRoots) -> Iterator[Problem]:
    """Groups of the plan that none of the playbook's plays is for: a run there would match nothing."""
    playbook = roots.playbook_of(plan)
    if playbook is None:
        return
    try:
        document = read_marked(playbook)
    except Unreadable as error:
        yield error.problem
        return
    words = hosts_of(document)
    if words is None or "all" in words:
        return
    for group in plan.groups:
        if group not in words:
            yield Problem(playbook, 1, f"no play is for the group {group!r} that {plan.code} names as target")


def hosts_of(document: Document) -> set[str] | None:
    """What the plays of a playbook are for; None when that cannot be read from the file alone."""
    plays = document.data if isinstance(document.data, list) else []
    words: set[str] = set()
    for play in plays:
        hosts = play.get("hosts") if isinstance(play, dict) else None
        listed = hosts if isinstance(hosts, list) else [hosts]
        for text in listed:
            if not isinstance(text, str) or any(mark in text for mark in "{*?[~&!@"):
                return None
            words |= {word.strip() for part in text.split(",") for word in part.split(":")}
    return words or None


def _stray_files(roots: ContentRoots) -> Iterator[Problem]:
    """Files that look like plans and are not read."""
    for directory in roots.directories("playbooks/catalog"):
        for file in directory.iterdir():
            if file.suffix != ".yml" and not file.name.startswith("."):
                yield Problem(file, 1, "is not read: a plan is called CODE.yml")

"""The plans of a deployment: read once, kept compiled, looked up by fault code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from remediate.catalog import compiled
from remediate.content import ContentRoots
from remediate.errors import CatalogError, UsageError
from remediate.model.plan import Plan
from remediate.model.spelling import nearest


class Catalog:
    """Plans by fault code; those in an operator's directory replace ours of the same code."""

    def __init__(self, roots: ContentRoots, plans: Sequence[Plan]) -> None:
        self.roots = roots
        self._plans = {plan.code: plan for plan in sorted(plans, key=lambda plan: plan.code)}

    def plan(self, code: str) -> Plan:
        """The plan for a fault code; UsageError with the nearest code when there is none.

        Its digest is of all files it runs as they are now, so an edit after an approval is noticed.
        """
        if (plan := self._plans.get(code)) is None:
            upper = code.upper()
            hint = nearest(upper, self._plans) or f"; there are {', '.join(self._plans) or 'none'}"
            raise UsageError(f"there is no plan for {code!r}{hint}")
        return replace(plan, digest=self.roots.digest_of(plan).sha256)

    def plans(self) -> Sequence[Plan]:
        """Every plan, by code, without a digest: reading all that they run is not needed to list them."""
        return tuple(self._plans.values())

    def playbook(self, plan: Plan) -> Path:
        """Absolute path of a plan's playbook; CatalogError when it is gone."""
        if (found := self.roots.playbook_of(plan)) is None:
            raise CatalogError(f"{plan.file}:1: the playbook {plan.playbook!r} is not there any more")
        return found

    def check_playbook(self, plan: Plan) -> Path:
        """Absolute path of the playbook that proves a foreign one; CatalogError when it is gone."""
        if (found := self.roots.check_of(plan)) is None:
            raise CatalogError(f"{plan.file}:1: the check {plan.verify.address!r} is not there any more")
        return found


def select(catalog: Catalog, code: str) -> Plan:
    """The plan for a fault code as a person types it, lower case included."""
    return catalog.plan(code.strip().upper())


def load_catalog(roots: ContentRoots, cache_dir: Path | None = None) -> Catalog:
    """Every plan of the roots; CatalogError with file and line for each thing that is wrong.

    With a cache directory the plans are kept compiled there, for as long as no plan, argument spec or
    playbook comes, goes or changes its size or times.
    """
    if cache_dir is None:
        return Catalog(roots, _read(roots))
    cache, key = cache_dir / "catalog.json", _fingerprint(roots)
    if (plans := _kept(cache, key)) is not None:
        return Catalog(roots, plans)
    plans = _read(roots)
    _keep(cache, key, plans)
    return Catalog(roots, plans)


def _read(roots: ContentRoots) -> list[Plan]:
    from remediate.catalog.reading import read_plan  # brings YAML and Pydantic; a warm start needs neither

    readings = [read_plan(file, roots) for file in roots.catalog_files()]
    if problems := [problem for reading in readings for problem in reading.problems]:
        raise CatalogError("\n".join(map(str, problems)))
    return [reading.plan for reading in readings if reading.plan is not None]


def _fingerprint(roots: ContentRoots) -> str:
    """Name, size and times of every file that the plans are read from, our own code included.

    The change time is among them: unlike the modification time it cannot be set back.
    """
    lines = []
    for path in _sources(roots):
        with suppress(FileNotFoundError, NotADirectoryError):
            found = os.stat(path)  # noqa: PTH116 - a Path for each costs more than the call
            lines.append(f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {path}")
    return "\n".join(lines)


def _sources(roots: ContentRoots) -> Iterator[str]:
    yield from _listed(os.path.dirname(__file__))  # noqa: PTH120 - as above
    for root in map(str, roots.roots):
        yield from _listed(f"{root}/playbooks/catalog")
        yield from _listed(f"{root}/playbooks")
        yield from (f"{role}/meta/argument_specs.yml" for role in _listed(f"{root}/roles"))


def _listed(directory: str) -> list[str]:
    """What a directory holds, as text paths."""
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 - as above
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [f"{directory}/{name}" for name in names if not name.startswith((".", "__pycache__"))]


def _kept(cache: Path, key: str) -> list[Plan] | None:
    """The compiled plans; None when there are none or they are of another state of the files."""
    try:
        data = json.loads(cache.read_bytes())
        if data["key"] != key:
            return None
        return [compiled.from_json(plan) for plan in data["plans"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _keep(cache: Path, key: str, plans: Sequence[Plan]) -> None:
    """Write the cache at once or not at all; without one the next start is slower, no more."""
    new = cache.with_suffix(f".{os.getpid()}")
    text = json.dumps({"key": key, "plans": [compiled.to_json(plan) for plan in plans]}, ensure_ascii=False)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new.write_text(text, encoding="utf-8")
        new.replace(cache)
    except OSError:
        with suppress(OSError):
            new.unlink()

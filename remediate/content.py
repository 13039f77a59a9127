"""Where playbooks, roles and plugins are, and a digest of those that a plan runs.

The operator's directories come first, ours last; the current directory counts only if a setting names
it, because whoever can write there would decide what is executed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from remediate.config import Settings, packaged_content
from remediate.errors import CatalogError, UsageError
from remediate.model.plan import Plan

#: What Ansible picks up from beside a playbook without being told.
_BESIDE_PLAYBOOK = (
    "tasks", "handlers", "vars", "templates", "files", "group_vars", "host_vars",
    "library", "module_utils", "action_plugins", "filter_plugins", "lookup_plugins", "test_plugins",
)  # fmt: skip
_NOT_CONTENT = frozenset({"__pycache__", "molecule", ".git"})
_TEXT_SUFFIXES = (".yml", ".yaml")


class ContentFile(NamedTuple):
    """One file that a plan may run."""

    #: Path below its content root, or absolute when it lies outside of all of them.
    name: str
    path: Path
    sha256: str


class ContentDigest(NamedTuple):
    """What a plan runs, byte for byte."""

    sha256: str
    files: tuple[ContentFile, ...]


@dataclass(frozen=True)
class ContentRoots:
    """Directories that hold `playbooks/`, `roles/` and `plugins/`; the first one that has a file wins."""

    roots: Sequence[Path]

    @classmethod
    def of(cls, *directories: Path) -> ContentRoots:
        """The operator's directories in this order, then the packaged content."""
        resolved = [directory.resolve() for directory in directories]
        return cls(tuple(dict.fromkeys([*resolved, packaged_content()])))

    @classmethod
    def from_settings(cls, settings: Settings) -> ContentRoots:
        """The roots a deployment names; UsageError when one of them is not there."""
        for directory in settings.content:
            if not directory.is_dir():
                raise UsageError(f"{directory}: this content directory does not exist (setting `content`)")
        return cls.of(*settings.content)

    def directories(self, name: str) -> list[Path]:
        """Every root's directory of that name (`roles`, `plugins/modules`), in order."""
        return [found for root in self.roots if (found := root / name).is_dir()]

    def catalog_files(self) -> list[Path]:
        """The plan files, by name; one in an earlier root hides its namesakes."""
        found: dict[str, Path] = {}
        for directory in self.directories("playbooks/catalog"):
            for file in directory.glob("*.yml"):
                found.setdefault(file.name, file)
        return [found[name] for name in sorted(found)]

    def playbook(self, stem: str) -> Path | None:
        """`playbooks/<stem>.yml` of the first root that has it."""
        return self._first(f"playbooks/{stem}.yml")

    def role(self, stem: str) -> Path | None:
        """`roles/<stem>` of the first root that has it."""
        return self._first(f"roles/{stem}")

    def playbook_of(self, plan: Plan) -> Path | None:
        """The playbook a plan names: a stem, a path below the root its catalog file is in, or absolute."""
        return self._named(plan, plan.playbook)

    def check_of(self, plan: Plan) -> Path | None:
        """The playbook that looks whether a foreign one is needed and has helped, when the plan names one."""
        if not plan.foreign or plan.verify.probe != "playbook":
            return None
        return self._named(plan, plan.verify.address)

    def _named(self, plan: Plan, reference: str) -> Path | None:
        if "/" not in reference:
            return self.playbook(reference)
        path = root_of(Path(plan.file)) / reference
        return path if path.is_file() else None

    def digest_of(self, plan: Plan) -> ContentDigest:
        """SHA-256 over a plan's catalog file, playbook, roles and all plugins, read now.

        CatalogError when one of them cannot be read any more.
        """
        import hashlib  # listing the plans needs no digest, and start-up counts

        try:
            hashed = [
                ContentFile(self._name(path), path, hashlib.sha256(path.read_bytes()).hexdigest())
                for path in self.files_of(plan)
            ]
        except OSError as error:
            raise CatalogError(f"{plan.file}:1: what the plan runs cannot be read: {error}") from error
        hashed.sort(key=lambda file: (file.name, file.sha256))
        lines = "".join(f"{file.name}\0{file.sha256}\n" for file in hashed)
        return ContentDigest(hashlib.sha256(lines.encode()).hexdigest(), tuple(hashed))

    def files_of(self, plan: Plan) -> list[Path]:
        """Every file that a run of the plan may read from content."""
        files = [Path(plan.file)] if plan.file else []
        for playbook in (self.playbook_of(plan), self.check_of(plan)):
            if playbook is not None:
                files += [playbook, *_beside(playbook)]
        files += self._roles_named_in(files, known={plan.slug})
        files += [file for directory in self.directories("plugins") for file in walk(directory)]
        return list(dict.fromkeys(files))

    def _roles_named_in(self, files: Sequence[Path], known: set[str]) -> list[Path]:
        """Files of the roles that these files name, and of those that they name in turn.

        A role counts as named when its name occurs anywhere, be it in a comment: one file too many in a
        digest does no harm, one too few would. A name that a template computes is not seen.
        """
        folders = self._role_folders(files)
        text, found = _text_of(files), list[Path]()
        fresh = {name for name in folders if name in known or name in text}
        while fresh:
            trees = [list(walk(folders.pop(name))) for name in sorted(fresh)]
            found += [file for tree in trees for file in tree]
            text = "".join(_text_of(tree) for tree in trees)
            fresh = {name for name in folders if name in text}
        return found

    def _role_folders(self, files: Iterable[Path]) -> dict[str, Path]:
        """Roles by name, as Ansible would find them: beside the playbook first, then in the roots."""
        beside = [file.parent / "roles" for file in files if file.parent.name != "catalog"]
        folders: dict[str, Path] = {}
        for directory in [*beside, *self.directories("roles")]:
            if directory.is_dir():
                for role in directory.iterdir():
                    folders.setdefault(role.name, role)
        return folders

    def _first(self, name: str) -> Path | None:
        return next((found for root in self.roots if (found := root / name).exists()), None)

    def _name(self, path: Path) -> str:
        for root in self.roots:
            if path.is_relative_to(root):
                return path.relative_to(root).as_posix()
        return str(path)


def root_of(catalog_file: Path) -> Path:
    """The content root that a `ROOT/playbooks/catalog/CODE.yml` belongs to."""
    return catalog_file.parent.parent.parent


def walk(directory: Path) -> Iterator[Path]:
    """The files below a directory, sorted, without caches and scenarios; links are followed once."""
    return _walk(directory, set())


def _walk(directory: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    try:
        found = directory.stat()
        with os.scandir(directory) as listing:
            listed = sorted(listing, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    if (found.st_dev, found.st_ino) in seen:
        return
    seen.add((found.st_dev, found.st_ino))
    for entry in listed:
        if entry.is_dir():
            if entry.name not in _NOT_CONTENT:
                yield from _walk(Path(entry.path), seen)
        elif entry.is_file() and not entry.name.endswith(".pyc"):
            yield Path(entry.path)


def _beside(playbook: Path) -> list[Path]:
    return [file for name in _BESIDE_PLAYBOOK for file in walk(playbook.parent / name)]


def _text_of(files: Iterable[Path]) -> str:
    texts = (file for file in files if file.suffix in _TEXT_SUFFIXES)
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in texts)

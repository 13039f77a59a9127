"""A copy of the plans to change: a directory that can be named as a content root."""

from __future__ import annotations

import shutil
from pathlib import Path

from remediate.catalog.store import Catalog
from remediate.errors import UsageError


def export(catalog: Catalog, directory: Path) -> list[Path]:
    """Copy what every plan runs into `directory`; the files, as written. What is there stays as it is."""
    copies: dict[Path, Path] = {}
    for plan in catalog.plans():
        for file in catalog.roots.digest_of(plan).files:
            if not Path(file.name).is_absolute():
                copies.setdefault(directory / file.name, file.path)
    if taken := next((copy for copy in copies if copy.exists()), None):
        raise UsageError(f"{taken} is already there; export into a new directory")
    for copy, original in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, copy)
        copy.chmod(original.stat().st_mode & 0o755)
    return sorted(copies)

"""`doctor`: what this machine lacks, and the command that mends it."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

import click

from remediate.cli.output import output_option, show_table
from remediate.cli.session import Session
from remediate.config import Settings
from remediate.errors import ExitCode, RemediateError

#: The oldest versions we work with.
PYTHON = (3, 11)
ANSIBLE = (2, 19)
#: Megabytes that a state directory should have left.
SPACE_MB = 512
#: Commands that also work where nothing can be run.
READ_COMMANDS = "explain, runs list, runs show, catalog, audit list, audit show, audit verify"


class Health(StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at, and the command that mends it."""

    what: str
    health: Health
    found: str
    mend: str = ""

    def as_json(self) -> dict[str, str]:
        """The form of `doctor -o json`."""
        return {"check": self.what, "health": self.health.value, "found": self.found, "mend": self.mend}


@click.command()
@output_option
@click.pass_obj
def doctor(session: Session, output: str) -> int:
    """Say what this machine lacks and which command mends it; exit code 1 when something is missing.

    \b
    Example:
      remediate doctor
    """
    rows = list(examine(session.settings))
    show_table(
        [row.as_json() for row in rows],
        output,
        ("check", "health", "found", "mend"),
        [(row.what, row.health.value, row.found, row.mend) for row in rows],
    )
    return int(ExitCode.INTERNAL if any(row.health is Health.MISSING for row in rows) else ExitCode.OK)


def examine(settings: Settings) -> Iterator[Row]:
    """Every check, in the order in which one mends things."""
    yield _system()
    yield _python()
    yield _package("ansible-core", ANSIBLE)
    yield _package("ansible-runner", (2, 4))
    yield _confinement()
    yield _home(settings)
    yield _space(settings)
    yield _worker(settings)
    yield _asked("inventory", "remediate init DIR", lambda: _inventory(settings))
    yield _asked("catalog", "remediate catalog lint", lambda: _catalog(settings))
    yield _asked("audit trail", "remediate audit verify", lambda: _trail(settings))
    yield _anchors(settings)
    yield _tokens(settings)


def _system() -> Row:
    if platform.system() == "Linux":
        return Row("system", Health.OK, f"Linux {platform.release()}")
    return Row(
        "system",
        Health.MISSING,
        f"{platform.system()}: runs need Linux",
        f"run it on a Linux machine; here these work: {READ_COMMANDS}",
    )


def _python() -> Row:
    found = platform.python_version()
    if sys.version_info >= PYTHON:
        return Row("Python", Health.OK, found)
    return Row("Python", Health.MISSING, found, f"install Python {PYTHON[0]}.{PYTHON[1]} or later")


def _package(name: str, oldest: tuple[int, int]) -> Row:
    wanted = f"{oldest[0]}.{oldest[1]}"
    mend = f"{sys.executable} -m pip install '{name}>={wanted}'"
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Row(name, Health.MISSING, "not installed", mend)
    numbers = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
    if numbers >= oldest:
        return Row(name, Health.OK, found)
    return Row(name, Health.MISSING, f"{found}, older than {wanted}", mend)


def _confinement() -> Row:
    from remediate.executors.supervise import Confinement, confinement

    if confinement() is Confinement.NAMESPACE:
        return Row("confinement", Health.OK, "each run gets a PID namespace of its own")
    return Row(
        "confinement",
        Health.WARNING,
        "no PID namespaces here; the child of a run ends its process tree by itself instead",
        "nothing has to be done; as root, with util-linux installed, the kernel does it",
    )


def _home(settings: Settings) -> Row:
    home = settings.home
    if not home.exists():
        parent = next(one for one in home.parents if one.exists())
        if os.access(parent, os.W_OK):
            return Row("state directory", Health.OK, f"{home} is made by the first run")
        return Row("state directory", Health.MISSING, f"{home} cannot be made", "export REMEDIATE_HOME=DIR")
    found = home.stat()
    if found.st_uid not in (0, os.geteuid()):
        return Row(
            "state directory",
            Health.MISSING,
            f"{home} belongs to uid {found.st_uid}",
            "export REMEDIATE_HOME=DIR",
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        return Row(
            "state directory", Health.WARNING, f"{home} is open to others ({mode:o})", f"chmod 700 {home}"
        )
    if not os.access(home, os.W_OK):
        return Row("state directory", Health.MISSING, f"{home} is not writable", f"chmod u+w {home}")
    return Row("state directory", Health.OK, str(home))


def _space(settings: Settings) -> Row:
    place = next(one for one in (settings.home, *settings.home.parents) if one.exists())
    free = shutil.disk_usage(place).free // 1_000_000
    if free >= SPACE_MB:
        return Row("free disk", Health.OK, f"{free} MB")
    return Row(
        "free disk", Health.WARNING, f"{free} MB at {place}, less than {SPACE_MB}", f"du -sh {place}/*"
    )


def _worker(settings: Settings) -> Row:
    from remediate.app import WorkerBusy, worker_lock
    from remediate.control import socket_address

    if not settings.home.exists():
        return Row("worker", Health.OK, "none lives; `remediate run` does the work itself")
    try:
        with worker_lock(settings):
            return Row("worker", Health.OK, "none lives; `remediate run` does the work itself")
    except WorkerBusy as busy:
        if socket_address(settings).exists():
            return Row("worker", Health.OK, "one lives and can be asked")
        return Row(
            "worker", Health.WARNING, f"{busy}, and cannot be asked", f"fuser {settings.home}/worker.lock"
        )


def _asked(what: str, mend: str, look: Callable[[], Row]) -> Row:
    """What `look` says; an error that an operator can act on becomes a row as well."""
    try:
        return look()
    except RemediateError as error:
        return Row(what, Health.MISSING, str(error), mend)


def _inventory(settings: Settings) -> Row:
    from remediate.inventory import load_inventory

    inventory = load_inventory(settings)
    count = len(inventory.hosts())
    if not count:
        return Row("inventory", Health.WARNING, f"{inventory.path} holds no host", f"edit {inventory.path}")
    return Row("inventory", Health.OK, f"{count} host(s) in {inventory.path}")


def _catalog(settings: Settings) -> Row:
    from remediate.catalog.linting import lint
    from remediate.content import ContentRoots

    roots = ContentRoots.from_settings(settings)
    problems = lint(roots)
    if problems:
        found = f"{len(problems)} problem(s), the first: {problems[0]}"
        return Row("catalog", Health.MISSING, found, "remediate catalog lint")
    return Row("catalog", Health.OK, f"{len(roots.catalog_files())} plan(s)")


def _trail(settings: Settings) -> Row:
    from remediate.app import open_reader

    if not (settings.home / "audit.db").exists():
        return Row("audit trail", Health.OK, "is made by the first run")
    with open_reader(settings) as reader:
        return Row("audit trail", Health.OK, f"{reader.size()} entries; `remediate audit verify` checks them")


def _anchors(settings: Settings) -> Row:
    bad = [anchor for anchor in settings.anchors if not _reachable(anchor)]
    if bad:
        found = f"cannot be written: {', '.join(bad)}"
        return Row("anchors", Health.WARNING, found, "set `anchors` in remediate.toml")
    if all(_on_this_machine(anchor) for anchor in settings.anchors):
        return Row(
            "anchors",
            Health.WARNING,
            "all are on this machine; only one elsewhere helps against somebody who holds the signing key",
            'anchors = ["file:/mnt/other-machine/anchors", "syslog:HOST:514"] in remediate.toml',
        )
    return Row("anchors", Health.OK, ", ".join(settings.anchors))


def _reachable(anchor: str) -> bool:
    """Whether an anchor could be written, as far as that shows without writing to it."""
    kind, _, place = anchor.partition(":")
    if kind == "file":
        return _writable(Path(place))
    return not place.startswith("/") or Path(place).exists()


def _on_this_machine(anchor: str) -> bool:
    kind, _, place = anchor.partition(":")
    return kind == "file" or place.startswith("/")


def _writable(directory: Path) -> bool:
    place = next(one for one in (directory, *directory.parents) if one.exists())
    return os.access(place, os.W_OK)


def _tokens(settings: Settings) -> Row:
    file = settings.home / "tokens"
    if not file.exists():
        return Row(
            "tokens",
            Health.WARNING,
            "none; nobody can be the second person that a dangerous run needs",
            "remediate tokens add NAME --role approver",
        )
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        return Row("tokens", Health.MISSING, f"{file} is open to others ({mode:o})", f"chmod 600 {file}")
    return Row("tokens", Health.OK, str(file))

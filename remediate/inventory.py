"""The one inventory, read through Ansible, and the rule for what a target may be called."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remediate.config import Settings
from remediate.content import walk
from remediate.errors import InventoryError, TargetError

if TYPE_CHECKING:
    from remediate import ports  # the Protocols bring half of the model with them, and start-up counts

#: Seconds Ansible may take; a dynamic inventory asks other systems.
_TIMEOUT = 60
#: What Ansible is told of our environment; a script takes its credentials from a file.
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy")
#: Bytes that make a file's meaning depend on more than the file: a plugin asks elsewhere, and what a
#: vault hides must not be written down in clear.
_NOT_CACHED = re.compile(rb"^plugin\s*:|\$ANSIBLE_VAULT", re.MULTILINE)
#: Raise it when the form of the cached data changes.
_CACHE_FORM = 1
#: A name that no part of the chain reads as anything else: pattern, option, path or shell word.
_HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class AnsibleInventory:
    """What `ansible-inventory --list` said."""

    path: Path
    digest: str
    #: Group -> its hosts, those of its children included.
    groups: Mapping[str, tuple[str, ...]]
    host_variables: Mapping[str, Mapping[str, Any]] = field(repr=False)

    @classmethod
    def from_listing(cls, listing: Mapping[str, Any], *, path: Path, digest: str) -> AnsibleInventory:
        """Read the JSON Ansible prints."""
        names = [name for name in listing if name != "_meta"]
        groups = {name: tuple(dict.fromkeys(_members(listing, name, ()))) for name in names}
        every = {host: None for hosts in groups.values() for host in hosts}
        groups["all"] = tuple(every)
        return cls(path, digest, groups, listing.get("_meta", {}).get("hostvars", {}))

    def hosts(self) -> Sequence[str]:
        """Exact host names."""
        return self.groups["all"]

    def groups_of(self, host: str) -> Sequence[str]:
        """Groups a host belongs to, with parents; `all` is one of them."""
        return self._groups_by_host.get(host, ())

    def members(self, group: str) -> Sequence[str]:
        """Hosts of a group; none when there is no such group."""
        return self.groups.get(group, ())

    def variables(self, host: str) -> Mapping[str, Any]:
        """A host's variables, those of its groups included, templates not evaluated."""
        return self.host_variables.get(host, {})

    @cached_property
    def _groups_by_host(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for group in sorted(self.groups):
            for host in self.groups[group]:
                found.setdefault(host, []).append(group)
        return {host: tuple(groups) for host, groups in found.items()}


def load_inventory(settings: Settings) -> ports.Inventory:
    """The inventory of a deployment; InventoryError says why it cannot be read.

    Ansible takes half a second to start, so what it said is kept under the digest of the files it read,
    except for inventories that ask elsewhere (scripts, plugins) or hold vaulted values.
    """
    path = settings.inventory.absolute()
    if not path.exists():
        raise InventoryError(f"{path}: there is no inventory here (setting `inventory`)")
    digest, cacheable = _fingerprint(path)
    if not cacheable:
        text = _ask_ansible(path, settings)
        return _parsed(text, path, hashlib.sha256(text).hexdigest())
    cache = settings.home / "cache" / f"inventory-{_cache_key(digest, settings)}.json"
    if (kept := _kept(cache, path, digest)) is not None:
        return kept
    text = _ask_ansible(path, settings)
    inventory = _parsed(text, path, digest)
    _keep(cache, text)
    return inventory


def exact_target(inventory: ports.Inventory, text: str) -> str:
    """`text` when it is the name of one host of the inventory; TargetError says why it is not."""
    if not text.strip(" ,"):
        raise TargetError("no target was named; a run needs exactly one inventory host")
    hosts = inventory.hosts()
    if not _HOST_NAME.fullmatch(text):
        raise TargetError(
            f"{text!r} is not one host name: patterns, lists, files and spaces are refused, "
            "a run acts on exactly one inventory host"
        )
    if text in ("all", "ungrouped") or inventory.members(text):
        raise TargetError(f"{text!r} is a group; name one of its hosts{_some(inventory.members(text))}")
    if text in hosts:
        return text
    if text in _THIS_MACHINE:
        raise TargetError(f"{text!r} is not in the inventory, so this machine is not a target")
    import difflib  # only a misspelt name needs it

    close = difflib.get_close_matches(text, hosts, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else f" ({inventory.path})"
    raise TargetError(f"{text!r} is not a host of the inventory{hint}")


def _some(hosts: Sequence[str]) -> str:
    more = ", ..." if len(hosts) > 3 else ""
    return f" ({', '.join(hosts[:3])}{more})" if hosts else ""


def _members(listing: Mapping[str, Any], group: str, above: tuple[str, ...]) -> Iterator[str]:
    entry = listing.get(group, {})
    yield from entry.get("hosts", ())
    for child in entry.get("children", ()):
        if child not in above:
            yield from _members(listing, child, (*above, group))


# --- what the files say ------------------------------------------------------------------------


def _fingerprint(path: Path) -> tuple[str, bool]:
    """SHA-256 over the names and bytes of the inventory's files, and whether they say it all."""
    summary, cacheable = hashlib.sha256(), True
    base = path if path.is_dir() else path.parent
    try:
        for file in _files(path):
            data = file.read_bytes()
            if file.stat().st_mode & stat.S_IXUSR or _NOT_CACHED.search(data):
                cacheable = False
            name = file.relative_to(base).as_posix()
            summary.update(f"{name}\0{hashlib.sha256(data).hexdigest()}\n".encode())
    except OSError as error:
        raise InventoryError(f"{path}: the inventory cannot be read: {error}") from error
    return summary.hexdigest(), cacheable


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from walk(path)
        return
    yield path
    for beside in ("group_vars", "host_vars"):
        yield from walk(path.parent / beside)


# --- the cache ---------------------------------------------------------------------------------


def _cache_key(digest: str, settings: Settings) -> str:
    """Everything that decides what Ansible says: the files, its configuration and its version."""
    config = settings.ansible_cfg.read_bytes() if settings.ansible_cfg else b""
    spec = importlib.util.find_spec("ansible")
    parts = (str(_CACHE_FORM), digest, hashlib.sha256(config).hexdigest(), str(spec and spec.origin))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _kept(cache: Path, path: Path, digest: str) -> AnsibleInventory | None:
    try:
        return _parsed(cache.read_bytes(), path, digest)
    except (OSError, InventoryError):
        return None


def _keep(cache: Path, text: bytes) -> None:
    """Write the cache file at once or not at all; without a cache the next start is slower, no more."""
    new = cache.with_suffix(f".{os.getpid()}")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text)
        new.replace(cache)
        for older in cache.parent.glob("inventory-*.json"):
            if older != cache:
                older.unlink(missing_ok=True)
    except OSError:
        with suppress(OSError):
            new.unlink()


# --- Ansible -----------------------------------------------------------------------------------


def _ask_ansible(path: Path, settings: Settings) -> bytes:
    import subprocess

    if importlib.util.find_spec("ansible") is None:
        raise InventoryError(
            f"{path}: the inventory is read through Ansible, and this Python ({sys.executable}) has no "
            "ansible-core; it exists for Linux and macOS, `pip install ansible-core` brings it"
        )
    command = [sys.executable, "-P", "-m", "ansible.cli.inventory", "-i", str(path), "--list"]
    if settings.vault_password_file is not None:
        command += ["--vault-password-file", str(settings.vault_password_file)]
    try:
        # The root directory as the current one: no group_vars or ansible.cfg of a stranger is read there.
        done = subprocess.run(  # noqa: S603 - our own interpreter, no shell
            command, env=_environment(settings), cwd="/", capture_output=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InventoryError(f"{path}: Ansible did not read the inventory: {error}") from error
    if done.returncode != 0:
        raise InventoryError(f"{path}: Ansible cannot read this inventory: {_complaint(done.stderr)}")
    return done.stdout


def _environment(settings: Settings) -> dict[str, str]:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= {
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_NOCOLOR": "1",
        # By default Ansible warns of a file it cannot read and goes on without its hosts.
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
    }
    if settings.ansible_cfg is not None:
        environment["ANSIBLE_CONFIG"] = str(settings.ansible_cfg)
    return environment


def _complaint(stderr: bytes) -> str:
    """Ansible's own words without its warnings."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("[ERROR]", "ERROR!"))]
    words = (errors or lines or ["it gave no reason"])[0]
    return re.sub(r"^(\[ERROR\]:|ERROR!)\s*", "", words)


def _parsed(text: bytes, path: Path, digest: str) -> AnsibleInventory:
    try:
        listing = json.loads(text)
        inventory = AnsibleInventory.from_listing(listing, path=path, digest=digest)
    except (ValueError, AttributeError, TypeError) as error:
        raise InventoryError(f"{path}: Ansible's answer is not an inventory: {error}") from error
    if not inventory.hosts():
        raise InventoryError(f"{path}: this inventory holds no host")
    return inventory

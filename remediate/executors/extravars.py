"""Writes parameters so that Ansible reads them as data, and makes sure that it did.

Ansible trusts everything on its command line as template. Two facts decide the form: only a *leaf*
wrapped as `{"__ansible_unsafe": text}` stays data, and one odd `__ansible_*` object anywhere makes
the loader fall back to YAML, where the wrapper means nothing. So the file is flat, its keys are
plain, and the very file is read back with Ansible's own loader before anything is launched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remediate.errors import ExecutorError

_NAME = re.compile(r"[a-z][a-z0-9_]*")
#: Ansible's own variables; a parameter of that name would steer the play instead of informing it.
_MAGIC = frozenset(
    {
        "environment",
        "group_names",
        "groups",
        "hostvars",
        "inventory_dir",
        "inventory_file",
        "inventory_hostname",
        "inventory_hostname_short",
        "omit",
        "play_hosts",
        "playbook_dir",
        "role_name",
        "role_names",
        "role_path",
        "vars",
    }
)


def write(path: Path, variables: Mapping[str, Any]) -> None:
    """Write the file, or ExecutorError when a name or a value has no safe form."""
    wrapped = {_checked_name(name): _wrapped(name, value) for name, value in variables.items()}
    path.write_text(json.dumps(wrapped), encoding="utf-8")
    path.chmod(0o600)


def recheck(path: Path, meant: Mapping[str, Any]) -> None:
    """Read the file as `ansible-playbook -e @file` will; ExecutorError unless all of it is inert."""
    from ansible.parsing.dataloader import DataLoader
    from ansible.template import is_trusted_as_template

    read = DataLoader().load_from_file(str(path), trusted_as_template=True)
    if not isinstance(read, dict) or set(read) != set(meant):
        raise ExecutorError(
            "the parameters were not read back as they were written; nothing was run. "
            "Compare the version of ansible-core with the supported ones."
        )
    for name, value in meant.items():
        _recheck_value(name, value, read[name], is_trusted_as_template)


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name) or name.startswith("ansible_") or name in _MAGIC:
        raise ExecutorError(
            f"{name!r} cannot be handed to a playbook: expected a lower-case name that is not one of "
            "Ansible's own variables. Rename the parameter in the plan."
        )
    return name


def _wrapped(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return {"__ansible_unsafe": _encodable(name, value)}
    if isinstance(value, (bool, int)):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return [{"__ansible_unsafe": _encodable(name, item)} for item in value]
    raise ExecutorError(
        f"{name} is a {type(value).__name__}: expected text, a whole number, true, false or a list of texts."
    )


def _encodable(name: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ExecutorError(f"{name} holds half a character (a lone surrogate); nothing was run.") from None
    return text


def _recheck_value(name: str, meant: Any, read: Any, is_trusted: Any) -> None:
    expected = list(meant) if isinstance(meant, tuple) else meant
    leaves = read if isinstance(read, list) else [read]
    same_type = isinstance(read, type(expected)) and isinstance(read, bool) == isinstance(expected, bool)
    if not same_type or read != expected:
        raise ExecutorError(
            f"Ansible reads {name} differently from what was meant; nothing was run. "
            "Compare the version of ansible-core with the supported ones."
        )
    if any(isinstance(leaf, str) and is_trusted(leaf) for leaf in leaves):
        raise ExecutorError(
            f"Ansible would run the text of {name} as a template; nothing was run. "
            "Compare the version of ansible-core with the supported ones."
        )

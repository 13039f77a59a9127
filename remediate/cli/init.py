"""`init`: a project directory that works at once."""

from __future__ import annotations

from pathlib import Path

import click

from remediate.config import FILE_NAME, SETTINGS
from remediate.errors import UsageError

INVENTORY = """\
# One inventory for Ansible and the toolkit. A plan names the groups it is for; a target is one host.
# The variables that guards read are explained in docs/reference and in the packaged example inventory.
all:
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  children:
    identity:
      hosts:
        iam1:
          ansible_connection: local
          remediate_failure_domain: identity-1
          remediate_units: 1
"""

README = """\
# Remediation project

- `remediate.toml`      settings; every one is listed with its default
- `inventory/`          the hosts; a target is one exact host of it
- `playbooks/catalog/`  your plans; `remediate catalog new CODE --playbook FILE --probe PROBE` makes one
- `roles/`              your roles; they come before the packaged ones
- `.remediate/`         state: audit trail, keys, locks. Keep it private (0700) and back it up

First steps:

    remediate doctor
    remediate catalog list
    remediate explain SEC-SESS-STALE --target iam1
    remediate tokens add NAME --role approver
"""


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
def init(directory: Path) -> None:
    """Make a project: settings, an inventory with one local host, and places for plans and roles.

    DIRECTORY must be new or empty.

    \b
    Example:
      remediate init ./site-a && cd ./site-a && remediate doctor
    """
    write_project(directory)
    click.echo(f"{directory} is a project; next: cd {directory} && remediate doctor")


def write_project(directory: Path, *, inventory: str = INVENTORY, settings: str | None = None) -> None:
    """The files of a new project; UsageError when the directory holds something."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is not empty; name a new or an empty directory, nothing was written")
    files = {
        FILE_NAME: commented_settings() if settings is None else settings,
        "inventory/hosts.yml": inventory,
        "README.md": README,
        "playbooks/catalog/.gitkeep": "",
        "roles/.gitkeep": "",
        ".gitignore": ".remediate/\n",
    }
    try:
        for name, text in files.items():
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{directory} cannot be written ({error.strerror}); name another directory"
        ) from error


def commented_settings() -> str:
    """Every setting with its meaning and its default, each commented out."""
    blocks = [
        "# Settings of this project. A line without `#` replaces the default; the environment\n"
        "# (REMEDIATE_NAME) goes before this file. Paths start at this directory.\n"
    ]
    for setting in SETTINGS:
        default = setting.default_text.replace("`", "")
        blocks.append(f"# {setting.help}\n# default: {default}\n# {setting.name} = ...\n")
    return "\n".join(blocks)

"""The environment is an allow-list, and what we pin cannot be shadowed by content."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediate.executors import environment


def pinned(
    *, foreign: bool = False, control_dir: Path | None = None, vault: Path | None = None
) -> dict[str, str]:
    return environment.pinned(
        roots=[Path("/user"), Path("/packaged")],
        gate_dir=Path("/packaged/plugins/callback"),
        private=Path("/private"),
        config=Path("/cfg/ansible.cfg"),
        control_dir=control_dir,
        vault_password_file=vault,
        foreign=foreign,
    )


def test_only_listed_variables_pass() -> None:
    there = {
        "HOME": "/h",
        "PATH": "/bin",
        "AWS_SECRET_ACCESS_KEY": "x",
        "ANSIBLE_HOST_KEY_CHECKING": "no",
        "A": "b",
    }

    env = environment.base(there, python=Path("/venv/bin/python"), extra={"EXTRA": "1"})

    assert env == {"HOME": "/h", "PATH": "/venv/bin:/bin", "PYTHONUTF8": "1", "EXTRA": "1"}


def test_content_is_looked_for_in_the_users_roots_first() -> None:
    assert pinned()["ANSIBLE_ROLES_PATH"] == "/user/roles:/packaged/roles"


def test_no_root_can_put_another_gate_before_ours() -> None:
    assert pinned()["ANSIBLE_CALLBACK_PLUGINS"].split(":")[0] == "/packaged/plugins/callback"


def test_host_keys_are_checked() -> None:
    assert pinned()["ANSIBLE_HOST_KEY_CHECKING"] == "True"


@pytest.mark.parametrize(("foreign", "gathering"), [(False, "explicit"), (True, None)])
def test_facts_are_off_unless_a_foreign_playbook_may_count_on_them(
    foreign: bool, gathering: str | None
) -> None:
    assert pinned(foreign=foreign).get("ANSIBLE_GATHERING") == gathering


def test_optional_paths_are_set_only_when_given() -> None:
    given = pinned(control_dir=Path("/c"), vault=Path("/v"))

    assert (given["ANSIBLE_SSH_CONTROL_PATH_DIR"], given["ANSIBLE_VAULT_PASSWORD_FILE"]) == ("/c", "/v")
    assert not {"ANSIBLE_SSH_CONTROL_PATH_DIR", "ANSIBLE_VAULT_PASSWORD_FILE"} & set(pinned())

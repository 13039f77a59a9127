"""The inventory as Ansible reads it, and what may be a target."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediate.config import load_settings
from remediate.errors import ExitCode, InventoryError, TargetError
from remediate.inventory import AnsibleInventory, exact_target, load_inventory


@pytest.fixture
def ansible_runs(monkeypatch):
    """Counts how often Ansible was really started."""
    runs = []
    real = subprocess.run

    def counted(*args, **kwargs):
        runs.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(subprocess, "run", counted)
    return runs


@dataclass
class Place:
    """A state directory and an inventory beside it."""

    folder: Path
    flags: dict = field(default_factory=dict)

    def write(self, text, name="inventory/hosts.yml", mode=0o644):
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")
        file.chmod(mode)
        return file

    def load(self, inventory="inventory"):
        flags = {"home": self.folder / "home", "inventory": self.folder / inventory, **self.flags}
        return load_inventory(load_settings(None, {}, flags))


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


TWO = """\
    all:
      children:
        platform:
          children:
            web:
              hosts:
                web-1: {remediate_units: 3}
                web-2:
              vars: {remediate_site: north}
            db: {hosts: {db-1: }}
    """


def test_hosts_groups_with_parents_and_variables_of_groups(place):
    place.write(TWO)

    inventory = place.load()

    assert sorted(inventory.hosts()) == ["db-1", "web-1", "web-2"]
    assert set(inventory.groups_of("web-1")) == {"all", "platform", "web"}
    assert sorted(inventory.members("platform")) == ["db-1", "web-1", "web-2"]
    assert inventory.members("nobody") == ()
    assert inventory.groups_of("nobody") == ()
    assert dict(inventory.variables("web-1")) == {"remediate_units": 3, "remediate_site": "north"}
    assert dict(inventory.variables("db-1")) == {}


def test_what_ansible_said_is_kept_until_a_file_changes(place, ansible_runs):
    place.write(TWO)

    first = place.load()
    again = place.load()

    assert len(ansible_runs) == 1
    assert again == first

    place.write("remediate_site: south\n", "inventory/group_vars/db.yml")
    changed = place.load()

    assert len(ansible_runs) == 2
    assert changed.digest != first.digest
    assert changed.variables("db-1")["remediate_site"] == "south"
    (kept,) = (place.folder / "home" / "cache").glob("inventory-*.json")
    assert kept.stat().st_mode & 0o777 == 0o600


def test_variables_beside_an_inventory_file_count_as_well(place, ansible_runs):
    place.write("web-1\n", "hosts")
    before = place.load("hosts").digest

    place.write("remediate_site: north\n", "host_vars/web-1.yml")

    assert place.load("hosts").digest != before
    assert place.load("hosts").variables("web-1")["remediate_site"] == "north"
    assert len(ansible_runs) == 2


def test_a_broken_cache_is_read_anew(place):
    place.write(TWO)
    first = place.load()
    (kept,) = (place.folder / "home" / "cache").glob("inventory-*.json")
    kept.write_text('["half a fi', encoding="utf-8")

    assert place.load() == first


def test_a_script_is_asked_every_time(place, ansible_runs):
    listing = '{"_meta": {"hostvars": {}}, "web": {"hosts": ["web-1"]}}'
    place.write(f"#!/bin/sh\necho '{listing}'\n", "inventory/ask", mode=0o755)

    assert place.load().hosts() == ("web-1",)
    place.load()

    assert len(ansible_runs) == 2
    assert not list((place.folder / "home").glob("cache/*"))


def test_what_a_vault_hides_is_not_written_down(place, ansible_runs):
    place.write(TWO)
    secret = place.write("store_password: hunter2\n", "inventory/group_vars/db.yml")
    password = place.write("open sesame\n", "vault-password", mode=0o600)
    subprocess.run(
        [
            Path(sys.executable).with_name("ansible-vault"),
            "encrypt",
            "--vault-password-file",
            password,
            secret,
        ],
        check=True,
        capture_output=True,
    )
    place.flags["vault_password_file"] = password

    inventory = place.load()

    assert inventory.variables("db-1")["store_password"] == "hunter2"
    assert "hunter2" not in repr(inventory)
    assert not list((place.folder / "home").glob("cache/*"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("inventory/hosts.yml", "all: {hosts: [", "Ansible cannot read this inventory"),
        ("inventory/hosts.yml", "all: {hosts: {}}\n", "this inventory holds no host"),
        ("inventory/ask", "#!/bin/sh\nexit 3\n", "Ansible cannot read this inventory"),
    ],
)
def test_an_inventory_that_cannot_be_read_is_our_error(place, name, text, message):
    place.write(text, name, mode=0o755 if name.endswith("ask") else 0o644)

    with pytest.raises(InventoryError, match=message) as caught:
        place.load()

    assert caught.value.exit_code is ExitCode.USAGE
    assert str(caught.value).startswith(str(place.folder / "inventory"))


def test_an_inventory_that_is_not_there_is_our_error(place):
    with pytest.raises(InventoryError, match="there is no inventory here"):
        place.load()


def test_without_ansible_the_error_says_so(place, monkeypatch):
    place.write(TWO)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(InventoryError, match=r"has no ansible-core.*pip install ansible-core"):
        place.load()


def test_the_example_inventory_is_whole(tmp_path):
    inventory = load_inventory(load_settings(None, {}, {"home": tmp_path}))
    hosts = set(inventory.hosts())

    assert "edge-s1" in hosts
    for host in hosts:
        variables = inventory.variables(host)
        assert {"remediate_site", "remediate_platform", "remediate_failure_domain"} <= variables.keys()
        named = [*variables.get("remediate_observers", []), *variables.get("remediate_depends_on", [])]
        named += [link["peer"] for link in variables.get("remediate_links", [])]
        named += [variables.get("remediate_pair", host), *variables.get("remediate_management_path", [])]
        assert set(named) <= hosts, host
    for host in hosts:
        for link in inventory.variables(host).get("remediate_links", []):
            back = inventory.variables(link["peer"]).get("remediate_links")
            assert back is None or link["port"] in [one["peer_port"] for one in back if one["peer"] == host]


# --- targets ---

LISTING = {
    "_meta": {"hostvars": {}},
    "all": {"children": ["web", "db", "twice"]},
    "web": {"hosts": ["web-1", "web-2.example.net", "WEB_3"]},
    "db": {"hosts": ["db[1]", "db 2", "-db3"]},
    "twice": {"hosts": ["twice"]},
}
SMALL = AnsibleInventory.from_listing(LISTING, path=Path("/inventory"), digest="")


@pytest.mark.parametrize("host", ["web-1", "web-2.example.net", "WEB_3"])
def test_an_exact_host_is_a_target(host):
    assert exact_target(SMALL, host) == host


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no target was named"),
        (" ", "no target was named"),
        (",", "no target was named"),
        (" , ", "no target was named"),
        ("all", "is a group; name one of its hosts"),
        ("ungrouped", "is a group"),
        ("web", r"is a group; name one of its hosts \(web-1, web-2.example.net, WEB_3\)"),
        ("twice", "is a group"),
        ("*", "is not one host name"),
        ("web*", "is not one host name"),
        ("~web", "is not one host name"),
        ("!web-1", "is not one host name"),
        ("@hosts.retry", "is not one host name"),
        ("web-1,web-2", "is not one host name"),
        ("web-1:web-2", "is not one host name"),
        ("web-1;id", "is not one host name"),
        ("web[0]", "is not one host name"),
        ("db[1]", "is not one host name"),
        ("db 2", "is not one host name"),
        ("-db3", "is not one host name"),
        ("web-1\n", "is not one host name"),
        (" web-1", "is not one host name"),
        ("../web-1", "is not one host name"),
        ("{{ x }}", "is not one host name"),
        ("localhost", "this machine is not a target"),
        ("127.0.0.1", "this machine is not a target"),
        ("::1", "is not one host name"),
        ("web-4", "is not a host of the inventory; did you mean web-1"),
        ("Web-1", "is not a host of the inventory; did you mean web-1"),
        ("printer", r"is not a host of the inventory \(/inventory\)"),
    ],
)
def test_anything_else_is_refused(text, message):
    with pytest.raises(TargetError, match=message) as caught:
        exact_target(SMALL, text)

    assert caught.value.exit_code is ExitCode.USAGE


def test_localhost_is_a_target_when_the_inventory_names_it():
    inventory = AnsibleInventory.from_listing({"web": {"hosts": ["localhost"]}}, path=Path("/i"), digest="")

    assert exact_target(inventory, "localhost") == "localhost"


@given(st.text(max_size=12) | st.lists(st.sampled_from([*SMALL.hosts(), *":,!&~@*[] "])).map("".join))
def test_only_a_plain_host_name_ever_comes_through(text):
    try:
        target = exact_target(SMALL, text)
    except TargetError:
        return
    assert target == text
    assert target in {"web-1", "web-2.example.net", "WEB_3"}


def test_groups_that_hold_each_other_end():
    listing = {"a": {"children": ["b"], "hosts": ["h"]}, "b": {"children": ["a"]}}

    inventory = AnsibleInventory.from_listing(listing, path=Path("/i"), digest="")

    assert inventory.hosts() == ("h",)

"""Clock, secrets, catalog and inventory: the fake and the real thing answer alike."""

from __future__ import annotations

import json
from datetime import UTC
from pathlib import Path

import pytest

from remediate.app import SystemClock
from remediate.catalog import load_catalog
from remediate.config import EnvironmentSecrets, load_settings
from remediate.content import ContentRoots
from remediate.errors import UsageError
from remediate.inventory import load_inventory
from remediate.testing import FakeCatalog, FakeClock, FakeInventory, FakeSecrets

PROOF = Path(__file__).parents[1] / "data" / "proof"


@pytest.fixture(params=[FakeClock, SystemClock])
def clock(request):
    return request.param()


def test_a_clock_is_utc_and_goes_forward(clock):
    before, ticks = clock.now(), clock.monotonic_ns()

    clock.sleep(0.01)

    assert clock.now().tzinfo is UTC
    assert clock.now() >= before
    assert clock.monotonic_ns() - ticks >= 9_000_000


@pytest.fixture(params=["fake", "real"])
def secrets(request, tmp_path):
    if request.param == "fake":
        return FakeSecrets({"session_canary_password": "geheim"})
    settings = load_settings(environ={"HOME": str(tmp_path), "REMEDIATE_HOME": str(tmp_path)})
    return EnvironmentSecrets(settings, {"REMEDIATE_SECRET_SESSION_CANARY_PASSWORD": "geheim"})


def test_a_secret_is_found_by_name_or_is_none(secrets):
    assert secrets.get("session_canary_password") == "geheim"
    assert secrets.get("another") is None


@pytest.fixture(params=["fake", "real"])
def catalog(request):
    real = load_catalog(ContentRoots((PROOF,)))
    return real if request.param == "real" else FakeCatalog(real.plan("TST-KILL-PROOF"))


def test_a_plan_is_found_by_its_code_and_listed(catalog):
    plan = catalog.plan("TST-KILL-PROOF")

    assert [p.code for p in catalog.plans()] == ["TST-KILL-PROOF"]
    assert len(plan.digest) == 64
    assert catalog.playbook(plan).name == "kill_proof.yml"
    with pytest.raises(UsageError):
        catalog.plan("NET-VLAN-STORM")


@pytest.fixture(params=["fake", "real"])
def inventory(request, tmp_path):
    if request.param == "fake":
        return FakeInventory(
            groups={"all": ["h1", "h2"], "web": ["h1", "h2"], "edge": ["h2"]}, host_variables={"h1": {"a": 1}}
        )
    file = tmp_path / "hosts.json"
    content = {"web": {"hosts": {"h1": {"a": 1}, "h2": {}}}, "edge": {"hosts": {"h2": {}}}}
    file.write_text(json.dumps(content))
    return load_inventory(
        load_settings(
            environ={"HOME": str(tmp_path), "REMEDIATE_HOME": str(tmp_path), "REMEDIATE_INVENTORY": str(file)}
        )
    )


def test_an_inventory_knows_hosts_groups_and_variables(inventory):
    assert sorted(inventory.hosts()) == ["h1", "h2"]
    assert set(inventory.groups_of("h2")) >= {"web", "edge"}
    assert sorted(inventory.members("web")) == ["h1", "h2"]
    assert list(inventory.members("nowhere")) == []
    assert dict(inventory.variables("h1")) == {"a": 1}
    assert dict(inventory.variables("nobody")) == {}
    assert len(inventory.digest) == 64

"""Which file is found, and what a digest covers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from remediate import config
from remediate.config import load_settings, packaged_content
from remediate.content import ContentRoots, walk
from remediate.errors import CatalogError, UsageError
from remediate.model.plan import Arming, Phase, PhaseSpec, Plan, Risk, Tier, Title, VerifySpec

REPOSITORY = Path(__file__).parents[2]


def put(root, name, text="x"):
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "content"
    put(root, "playbooks/catalog/APP-WEB-HUNG.yml")
    put(root, "playbooks/web_restart.yml", "- hosts: web\n  roles: [web_restart]\n")
    put(root, "roles/web_restart/tasks/main.yml", "- include_role: {name: acme.common}\n")
    put(root, "roles/web_restart/molecule/default/converge.yml")
    put(root, "roles/acme.common/tasks/main.yml")
    put(root, "roles/unrelated/tasks/main.yml")
    put(root, "plugins/modules/web.py")
    return root


def plan(root, **changes):
    facts = {
        "code": "APP-WEB-HUNG",
        "slug": "web_restart",
        "title": Title(en="", zh=""),
        "layer": "application",
        "groups": ("web",),
        "parameters": (),
        "tier": Tier.L2,
        "risk": Risk.R2,
        "arming": Arming.APPROVE,
        "playbook": "web_restart",
        "phases": {Phase.APPLY: PhaseSpec(timeout=1)},
        "verify": VerifySpec(probe="ping"),
        "file": str(root / "playbooks/catalog/APP-WEB-HUNG.yml"),
    }
    return Plan(**{**facts, **changes})


def names(roots, of):
    return {file.name for file in roots.digest_of(of).files if not file.path.is_relative_to(REPOSITORY)}


def test_an_operators_file_comes_before_ours_and_the_current_directory_does_not_count(
    root, tmp_path, monkeypatch
):
    monkeypatch.chdir(root)
    ours = ContentRoots.of()

    assert ours.playbook("web_restart") is None
    assert ContentRoots.of(root).playbook("web_restart") == root / "playbooks/web_restart.yml"
    assert ContentRoots.of(tmp_path, root).roots == (tmp_path, root, packaged_content())


def test_an_earlier_root_hides_a_plan_of_the_same_code(root, tmp_path):
    mine = put(tmp_path / "mine", "playbooks/catalog/APP-WEB-HUNG.yml")

    files = ContentRoots.of(tmp_path / "mine", root).catalog_files()

    assert mine in files
    assert root / "playbooks/catalog/APP-WEB-HUNG.yml" not in files


def test_a_content_directory_that_is_not_there_is_an_error(tmp_path):
    settings = load_settings(None, {}, {"content": [str(tmp_path / "gone")]})

    with pytest.raises(UsageError, match="does not exist"):
        ContentRoots.from_settings(settings)


def test_in_a_checkout_our_content_is_its_top_level():
    assert packaged_content() == REPOSITORY


def test_in_a_wheel_our_content_is_inside_the_package(tmp_path, monkeypatch):
    put(tmp_path, "remediate/_content/playbooks/x.yml")
    monkeypatch.setattr(config, "__file__", str(tmp_path / "remediate" / "config.py"))

    assert packaged_content() == tmp_path / "remediate" / "_content"


def test_a_digest_covers_plan_playbook_named_roles_and_plugins(root):
    found = names(ContentRoots.of(root), plan(root))

    assert found == {
        "playbooks/catalog/APP-WEB-HUNG.yml",
        "playbooks/web_restart.yml",
        "roles/web_restart/tasks/main.yml",
        "roles/acme.common/tasks/main.yml",
        "plugins/modules/web.py",
    }


def test_caches_and_scenarios_change_no_digest(root):
    roots = ContentRoots.of(root)
    before = roots.digest_of(plan(root)).sha256
    put(root, "roles/web_restart/molecule/default/verify.yml")
    put(root, "plugins/modules/__pycache__/web.cpython-311.pyc")

    assert ContentRoots.of(root).digest_of(plan(root)).sha256 == before


@pytest.mark.parametrize(
    "name",
    [
        "playbooks/catalog/APP-WEB-HUNG.yml",
        "playbooks/web_restart.yml",
        "roles/web_restart/tasks/main.yml",
        "roles/acme.common/tasks/main.yml",
        "plugins/modules/web.py",
    ],
)
def test_one_byte_changes_the_digest(root, name):
    roots = ContentRoots.of(root)
    before = roots.digest_of(plan(root)).sha256
    file = root / name
    file.write_text(file.read_text(encoding="utf-8") + " ", encoding="utf-8")

    assert roots.digest_of(plan(root)).sha256 != before


def test_a_new_name_changes_the_digest_and_another_place_does_not(root, tmp_path):
    before = ContentRoots.of(root).digest_of(plan(root)).sha256
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved)

    assert ContentRoots.of(moved).digest_of(plan(moved)).sha256 == before
    put(moved, "roles/web_restart/handlers/main.yml")
    assert ContentRoots.of(moved).digest_of(plan(moved)).sha256 != before


def test_a_foreign_playbook_brings_what_lies_beside_it(root, tmp_path):
    outside = put(tmp_path / "ops", "restart.yml", "- hosts: all\n  roles: [nginx]\n")
    put(tmp_path / "ops", "roles/nginx/tasks/main.yml")
    put(tmp_path / "ops", "group_vars/all.yml")
    put(tmp_path / "ops", "unrelated.yml")
    roots = ContentRoots.of(root)
    foreign = plan(root, slug="app_web_hung", playbook=str(outside), foreign=True)

    assert roots.playbook_of(foreign) == outside
    assert {Path(name).name for name in names(roots, foreign)} == {
        "APP-WEB-HUNG.yml",
        "restart.yml",
        "main.yml",
        "all.yml",
        "web.py",
    }


def test_a_plan_file_that_vanished_is_our_error(root):
    (root / "playbooks/catalog/APP-WEB-HUNG.yml").unlink()

    with pytest.raises(CatalogError, match="what the plan runs cannot be read"):
        ContentRoots.of(root).digest_of(plan(root))


def test_a_link_to_its_own_parent_ends(tmp_path):
    put(tmp_path, "a/x.yml")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a")

    assert list(walk(tmp_path / "a")) == [tmp_path / "a" / "x.yml"]

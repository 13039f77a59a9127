"""From plan files to plans: merged with the role's spec, overridden, kept compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from remediate.catalog import load_catalog, select
from remediate.catalog.exporting import export
from remediate.catalog.linting import lint
from remediate.catalog.schema import PUBLISHED, schema_text
from remediate.content import ContentRoots
from remediate.errors import CatalogError, UsageError
from remediate.model.plan import Arming, Parameter, Phase, Risk, Tier

REPOSITORY = Path(__file__).parents[3]
PACKAGED = ContentRoots.of()


def test_a_plan_has_what_its_file_and_its_roles_spec_say(content):
    plan = load_catalog(content.roots).plan("APP-WEB-HUNG")

    assert (plan.tier, plan.risk, plan.arming) == (Tier.L2, Risk.R1, Arming.APPROVE)
    assert plan.title.zh == "网站重启"
    assert plan.parameters == (
        Parameter(name="mode", type="str", default="soft", choices=("soft", "hard"), description="How."),
        Parameter(name="service", type="str", required=True, regex="[a-z]+", description="Unit to restart."),
        Parameter(
            name="wait", type="int", default=5, min=0, max=60, unit="seconds", source="labels.wait",
            description="Seconds to wait.",
        ),
    )  # fmt: skip
    assert plan.phases[Phase.PRECHECK].timeout == 20
    assert plan.phases[Phase.PRECHECK].idempotent
    assert not plan.phases[Phase.APPLY].idempotent
    assert plan.has_rollback
    assert (plan.verify.vantage, plan.verify.address) == ("observers", "https://{host}/healthz")
    assert (plan.verify.samples, plan.verify.min_ok, plan.verify.timeout) == (5, 4, 30)
    assert plan.guards.failure_domain == "remediate_l2_domain"
    assert plan.guards.cooldown == 600
    assert plan.risk_of({"mode": "hard"}) is Risk.R2
    assert plan.variable("mode") == "web_restart_mode"
    assert plan.file == str(content.file)
    assert plan.digest == content.roots.digest_of(plan).sha256


def test_the_playbook_is_an_absolute_path(content):
    catalog = load_catalog(content.roots)

    assert catalog.playbook(catalog.plan("APP-WEB-HUNG")) == content.folder / "playbooks/web_restart.yml"


def test_a_playbook_that_vanished_since_is_an_error(content):
    catalog = load_catalog(content.roots)
    plan = catalog.plan("APP-WEB-HUNG")
    (content.folder / "playbooks/web_restart.yml").unlink()

    with pytest.raises(CatalogError, match="is not there any more"):
        catalog.playbook(plan)


def test_an_unknown_code_names_the_nearest_one(content):
    catalog = load_catalog(content.roots)

    with pytest.raises(UsageError, match="no plan for 'APP-WEB-HANG'; did you mean 'APP-WEB-HUNG'"):
        catalog.plan("APP-WEB-HANG")
    assert select(catalog, " app-web-hung ").code == "APP-WEB-HUNG"


def test_an_operators_plan_replaces_ours_of_the_same_code(content, tmp_path):
    ours = load_catalog(PACKAGED).plan("SEC-SESS-STALE")
    exported = tmp_path / "mine"
    export(load_catalog(PACKAGED), exported)
    file = exported / "playbooks/catalog/SEC-SESS-STALE.yml"
    file.write_text(file.read_text(encoding="utf-8").replace("tier: L1", "tier: L3"), encoding="utf-8")

    theirs = load_catalog(ContentRoots.of(exported)).plan("SEC-SESS-STALE")

    assert (theirs.tier, theirs.file) == (Tier.L3, str(file))
    assert theirs.digest != ours.digest


def test_an_unchanged_copy_has_the_digest_of_the_original(tmp_path):
    catalog = load_catalog(PACKAGED)
    export(catalog, tmp_path / "copy")

    copied = load_catalog(ContentRoots((tmp_path / "copy",)))

    for plan in catalog.plans():
        assert copied.plan(plan.code).digest == catalog.plan(plan.code).digest
    with pytest.raises(UsageError, match="is already there"):
        export(catalog, tmp_path / "copy")


# --- kept compiled ---


def test_a_warm_catalog_is_the_cold_one(content, tmp_path):
    roots = ContentRoots.of(content.folder)
    cold = load_catalog(roots, tmp_path / "cache")
    warm = load_catalog(roots, tmp_path / "cache")

    assert list(warm.plans()) == list(cold.plans()) == list(load_catalog(roots).plans())


@pytest.mark.parametrize(
    "name",
    [
        "playbooks/catalog/APP-WEB-HUNG.yml",
        "roles/web_restart/meta/argument_specs.yml",
    ],
)
def test_an_edit_is_noticed_even_if_it_keeps_size_and_modification_time(content, tmp_path, name):
    load_catalog(content.roots, tmp_path)
    file = content.folder / name
    found = file.stat()
    text = file.read_bytes()
    file.write_bytes(b"[" + text[1:])
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))

    assert file.stat().st_size == found.st_size
    with pytest.raises(CatalogError, match="is not YAML"):
        load_catalog(content.roots, tmp_path)


def test_a_playbook_that_is_gone_is_noticed(content, tmp_path):
    load_catalog(content.roots, tmp_path)
    (content.folder / "playbooks/web_restart.yml").unlink()

    with pytest.raises(CatalogError, match="there is no playbook 'web_restart'"):
        load_catalog(content.roots, tmp_path)


def test_a_plan_asked_for_has_the_digest_of_the_files_as_they_are_now(content, tmp_path):
    catalog = load_catalog(content.roots, tmp_path)
    before = catalog.plan("APP-WEB-HUNG").digest
    content.write("roles/web_restart/tasks/main.yml", "- debug:\n")

    assert catalog.plan("APP-WEB-HUNG").digest != before


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"key": 1, "plans": 2}', "\0", '{"key": "'])
def test_a_broken_cache_is_made_anew(content, tmp_path, text):
    first = load_catalog(content.roots, tmp_path)
    (tmp_path / "catalog.json").write_text(text, encoding="utf-8")

    assert load_catalog(content.roots, tmp_path).plans() == first.plans()


def test_a_cache_that_cannot_be_written_is_no_error(content, tmp_path):
    (tmp_path / "file").touch()

    assert load_catalog(content.roots, tmp_path / "file" / "cache").plans()


def test_a_warm_start_imports_neither_yaml_nor_pydantic(content, tmp_path):
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from remediate.catalog import load_catalog\nfrom remediate.content import ContentRoots\n"
        f"load_catalog(ContentRoots((Path({str(content.folder)!r}),)), Path({str(tmp_path)!r})).plans()\n"
        "print(*sorted({'yaml', 'pydantic', 'tomllib', 'difflib', 'hashlib', 'ansible'} & set(sys.modules)))"
    )

    def imported():
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=REPOSITORY, check=True, capture_output=True, text=True
        )
        return done.stdout.split()

    assert {"yaml", "pydantic"} <= set(imported())
    assert imported() == []


# --- what we ship ---


def test_the_published_schema_is_up_to_date():
    assert PUBLISHED.read_text(encoding="utf-8") == schema_text(), (
        "python -m remediate.catalog.schema > remediate/catalog/plan.schema.json"
    )


@pytest.mark.parametrize("file", PACKAGED.catalog_files(), ids=lambda file: file.stem)
def test_a_packaged_plan_is_valid_and_not_armed(file):
    schema = json.loads(PUBLISHED.read_text(encoding="utf-8"))

    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(file.read_text(encoding="utf-8")))

    assert load_catalog(PACKAGED).plan(file.stem).arming is not Arming.AUTO


def test_the_plan_in_the_documentation_is_one(content):
    page = (REPOSITORY / "docs/how-to/add-a-plan.md").read_text(encoding="utf-8")
    content.file.write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")

    assert load_catalog(content.roots).plan("APP-WEB-HUNG").verify.min_ok == 4


def test_the_packaged_catalog_has_no_problem():
    assert lint(PACKAGED) == []

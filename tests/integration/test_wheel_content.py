"""A plain wheel brings its playbooks and roles, and finds them from any directory."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PROGRAM = """
import json
from remediate.catalog import load_catalog
from remediate.config import load_settings
from remediate.content import ContentRoots
settings = load_settings(None, {"REMEDIATE_HOME": "/nonexistent"}, {})
catalog = load_catalog(ContentRoots.from_settings(settings))
plan = catalog.plan("SEC-SESS-STALE")
files = [file.name for file in catalog.roots.digest_of(plan).files]
print(json.dumps([str(settings.inventory), str(catalog.playbook(plan)), plan.digest, files]))
"""


def ask(folder, where):
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{PROGRAM}"],
        cwd=where,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, REPOSITORY],
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_a_wheel_runs_the_same_content_as_the_checkout(wheel, tmp_path):
    inventory, playbook, digest, files = ask(wheel, tmp_path)

    assert inventory == str(wheel / "remediate/_content/inventories/example")
    assert playbook == str(wheel / "remediate/_content/playbooks/session_token_reset.yml")
    assert (digest, files) == tuple(ask(REPOSITORY, tmp_path)[2:])
    assert (wheel / "remediate/catalog/plan.schema.json").is_file()
    assert not list(wheel.rglob("molecule"))

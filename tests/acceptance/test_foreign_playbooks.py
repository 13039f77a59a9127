"""Playbooks written without knowledge of this project, wrapped by one command, guarded, verified, audited."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

FOREIGN = Path(__file__).parents[1] / "data" / "foreign"
PLAYBOOKS = sorted(FOREIGN.glob("*.yml"))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(tmp_path):
    """A project made by `init`, a web server whose health page is gone, and an innocent neighbour."""
    roots = {name: tmp_path / name for name in ("web1", "web2")}
    for root in roots.values():
        root.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(roots["web1"]))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        site = Site(tmp_path, roots, server.server_port)
        assert site("init", "site", cwd=tmp_path).returncode == 0
        site.write_inventory()
        yield site
        server.shutdown()
        thread.join()


class Site:
    """The project's directory, and how a person uses it."""

    def __init__(self, folder: Path, roots: dict[str, Path], port: int) -> None:
        self.project = folder / "site"
        self.roots = roots
        self.port = port
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}

    def __call__(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("remediate")), *arguments],
            cwd=cwd or self.project,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def write_inventory(self) -> None:
        hosts = {
            name: {"ansible_connection": "local", "ansible_host": "127.0.0.1", "web_root": str(root)}
            for name, root in self.roots.items()
        }
        shutil.rmtree(self.project / "inventory")
        (self.project / "inventory").mkdir()
        (self.project / "inventory" / "hosts.yml").write_text(json.dumps({"web": {"hosts": hosts}}))

    def wrap(self, playbook: Path, *more: str, probe: str = "") -> subprocess.CompletedProcess[str]:
        probe = probe or f"http:http://{{host}}:{self.port}/healthz"
        return self(
            *(
                "catalog",
                "new",
                "APP-WEB-HUNG",
                "--playbook",
                str(playbook),
                "--probe",
                probe,
                "--group",
                "web",
            ),
            *more,
        )


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=[p.stem for p in PLAYBOOKS])
def test_a_foreign_playbook_runs_guarded_verified_and_audited(site, playbook):
    wrapped = site.wrap(playbook)
    assert wrapped.returncode == 0, wrapped.stderr
    assert site("catalog", "lint").returncode == 0

    done = site("run", "APP-WEB-HUNG", "--target", "web1", "--yes")

    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads(site("runs", "show", "last", "-o", "json").stdout)
    assert (run["outcome"], run["risk"]) == ("recovered", "R2")
    assert (site.roots["web1"] / "healthz").exists()
    assert list(site.roots["web2"].iterdir()) == []
    assert site("audit", "verify").returncode == 0
    print(f"COUNT foreign playbooks: {playbook.stem} recovered")


def test_a_healthy_service_is_left_alone_and_one_that_stays_broken_is_a_failure(site):
    assert site.wrap(FOREIGN / "all_hosts.yml").returncode == 0
    (site.roots["web1"] / "healthz").write_text("ok")
    assert site("run", "APP-WEB-HUNG", "--target", "web1", "--yes").returncode == 0
    outcome = json.loads(site("runs", "show", "last", "-o", "json").stdout)["outcome"]
    assert outcome == "self_healed"

    (site.roots["web1"] / "healthz").unlink()
    useless = site.project / "useless.yml"
    useless.write_text("- hosts: web\n  gather_facts: false\n  tasks:\n    - command: /bin/true\n")
    shutil.rmtree(site.project / "playbooks" / "catalog")
    assert site.wrap(useless).returncode == 0
    done = site("run", "APP-WEB-HUNG", "--target", "web1", "--yes")

    assert done.returncode == 2, done.stdout + done.stderr
    assert "no rollback" in done.stdout


def test_an_operators_own_check_playbook_can_be_the_proof(site):
    check = site.project / "check.yml"
    check.write_text(
        "- hosts: web\n  gather_facts: false\n  tasks:\n"
        "    - command: test -e {{ web_root }}/healthz\n      changed_when: false\n"
    )
    wrapped = site.wrap(FOREIGN / "all_hosts.yml", probe=f"playbook:{check}")
    assert wrapped.returncode == 0, wrapped.stderr

    first = site("run", "APP-WEB-HUNG", "--target", "web1", "--yes")
    assert first.returncode == 0, first.stdout + first.stderr
    assert json.loads(site("runs", "show", "last", "-o", "json").stdout)["outcome"] == "recovered"

    again = site("run", "APP-WEB-HUNG", "--target", "web1", "--yes", "--check")

    assert again.returncode == 0, again.stdout + again.stderr
    assert "healthy" in again.stdout
    assert list(site.roots["web2"].iterdir()) == []

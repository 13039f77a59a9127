"""A broken folder for each host, a plan that can mend it, and workers to kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from remediate.app import open_reader
from remediate.audit.ledger import AuditLedger
from remediate.audit.verify import Report, verify
from remediate.config import Settings, load_settings
from remediate.model.run import Outcome, Run

ROOT = Path(__file__).parents[2]
CONTENT = ROOT / "tests" / "data" / "proof"
CLIENT = Path(__file__).with_name("client.py")


class World:
    """A broken folder, the host that can mend it, and the worker's state directory."""

    def __init__(self, folder: Path, *, helps: bool = True, hosts: int = 1, seconds: float = 0.3) -> None:
        self.folder = folder
        folder.mkdir()
        inventory = {"victims": {"hosts": {}, "vars": {"ansible_connection": "local"}}}
        for n in range(1, hosts + 1):
            world = folder / f"h{n}"
            world.mkdir()
            (world / "state").write_text("broken")
            inventory["victims"]["hosts"][f"h{n}"] = {
                "kill_proof_world": str(world),
                "kill_proof_helps": helps,
                "kill_proof_seconds": str(seconds),
            }
        (folder / "hosts.json").write_text(json.dumps(inventory))
        (folder / "remediate.toml").write_text(
            f'inventory = "hosts.json"\ncontent = ["{CONTENT}"]\n'
            # The same host is asked for again and again: only the rules against overlaps stay as they are.
            'anchors = ["file:anchors"]\nattempts = "1000 in 6h"\nbreaker_target = "1000 in 1h"\n'
            'breaker_code = "1000 in 1h"\nmax_targets_per_hour_percent = 100\nstorm_percent = 100\n'
        )
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "REMEDIATE_CONFIG": str(folder / "remediate.toml"),
        }

    @property
    def settings(self) -> Settings:
        return load_settings(environ=self.environ)

    def start(self, *arguments: str, crash_at: str = "") -> subprocess.Popen[bytes]:
        environ = self.environ | ({"REMEDIATE_CRASH_AT": crash_at} if crash_at else {})
        with (self.folder / "client.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(CLIENT), *arguments], env=environ, stdout=log, stderr=log
            )

    def runs(self) -> list[Run]:
        with open_reader(self.settings) as reader:
            return list(AuditLedger(reader).runs())

    def acknowledged(self) -> set[str]:
        """Ids of the runs that a worker told its caller about before it was killed."""
        words = (self.folder / "client.log").read_text().split()
        return {word for word in words if len(word) == 36 and word.count("-") == 4}

    def settle(self) -> None:
        """Start workers until nothing is open any more."""
        for _ in range(5):
            assert self.start().wait(timeout=120) == 0, self.log()
            if all(run.closed for run in self.runs()):
                return
        pytest.fail(f"still open: {[run for run in self.runs() if not run.closed]}\n{self.log()}")

    def verified(self) -> Report:
        """The trail, checked against its anchors with nothing left open."""
        report = verify(
            self.settings.home / "audit.db", anchors=self.folder / "anchors", keys=None, strict=True
        )
        assert report.ok, report.findings
        return report

    def check(self) -> Counter[str]:
        """What must hold after any kill; the outcomes."""
        self.verified()
        assert not list(self.folder.glob("*/overlaps")), "two acts at once on one target"
        runs = self.runs()
        assert all(run.closed and run.outcome for run in runs)
        for run in runs:
            mended = (self.folder / run.request.target / "state").read_text() == "mended"
            assert mended == (run.outcome in (Outcome.RECOVERED, Outcome.SELF_HEALED)), run
        return Counter(run.outcome.value for run in runs if run.outcome)

    def log(self) -> str:
        return (self.folder / "client.log").read_text()[-4000:]


def outcomes_of(project: Path) -> list[Outcome | None]:
    """How the runs of a project ended, newest first."""
    with open_reader(load_settings(config=project / "remediate.toml", environ={})) as reader:
        return [run.outcome for run in AuditLedger(reader).runs()]


def verified_trail(project: Path) -> None:
    """The project's trail verifies, with nothing left open."""
    report = verify(project / ".remediate" / "audit.db", anchors=None, keys=None, strict=False)
    assert report.ok, report.findings

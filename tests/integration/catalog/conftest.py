"""Content directories on disk."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from remediate.content import ContentRoots

PLAN = """\
---
code: APP-WEB-HUNG
plan: web_restart
title: {en: Web restart, zh: 网站重启}
layer: application
targets: {groups: [web], per_run: 1}
parameters:
  service: {regex: "[a-z]+"}
  wait: {min: 0, max: 60, unit: seconds, from: labels.wait}
tier: L2
risk: R1
risk_when: {mode: {hard: R2}}
arming: approve
executor: {playbook: web_restart}
phases:
  precheck: {timeout: 20s, idempotent: true}
  snapshot: {timeout: 20s, idempotent: true}
  apply: {timeout: 1m}
  verify:
    {timeout: 30s, from: observers, probe: http, address: "https://{host}/healthz", samples: 5, min_ok: 4}
  rollback: {timeout: 1m}
touches: []
secrets: [web_password]
guards: {cooldown: 10m, failure_domain: l2_domain, never: [uplink]}
duration: {expected: 30s, deadline: 2m}
"""
SPEC = """\
argument_specs:
  main:
    options:
      web_restart_service: {type: str, required: true, description: Unit to restart.}
      web_restart_wait: {type: int, default: 5, description: [Seconds, to wait.]}
      web_restart_mode: {type: str, default: soft, choices: [soft, hard], description: How.}
      web_restart_port: {type: int, default: 443, description: Port of the service.}
      remediate_phase: {type: str, default: all, description: The phase.}
"""


class Content:
    """A content root that a test writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan = PLAN.replace("\nparameters:", "\nparameters:\n  mode: {}")
        self.write("playbooks/web_restart.yml", "- hosts: web\n  roles: [web_restart]\n")
        self.write("roles/web_restart/tasks/main.yml", "[]\n")
        self.write("roles/web_restart/meta/argument_specs.yml", SPEC)
        self.file = self.write("playbooks/catalog/APP-WEB-HUNG.yml", self.plan)

    def write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")
        return file

    def change(self, old: str, new: str) -> int:
        """Replace text in the plan; the line it is in."""
        assert self.plan.count(old) == 1, old
        self.plan = self.plan.replace(old, new)
        self.file.write_text(self.plan, encoding="utf-8")
        return self.plan[: self.plan.index(new)].count("\n") + 1 if new else 0

    def change_spec(self, old: str, new: str) -> None:
        assert SPEC.count(old) == 1, old
        self.write("roles/web_restart/meta/argument_specs.yml", SPEC.replace(old, new))

    @property
    def roots(self) -> ContentRoots:
        return ContentRoots((self.folder,))


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return Content(tmp_path / "content")

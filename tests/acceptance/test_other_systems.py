"""Elsewhere than on Linux nothing runs, and what only reads still works."""

from __future__ import annotations

import sys

import pytest

from remediate.cli.main import call
from tests.reliability.world import World


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """The command on another system, beside a trail that a Linux machine wrote."""
    world = World(tmp_path / "world")
    assert world.start().wait(timeout=60) == 0, world.log()
    monkeypatch.setenv("REMEDIATE_CONFIG", world.environ["REMEDIATE_CONFIG"])
    monkeypatch.setenv("HOME", world.environ["HOME"])
    monkeypatch.setattr(sys, "platform", "darwin")
    return world


def test_catalog_explain_and_verify_work(elsewhere):
    assert call(["catalog", "list"]) == 0
    assert call(["explain", "TST-KILL-PROOF", "--target", "h1"]) == 0
    assert call(["audit", "verify"]) == 0


def test_a_run_says_that_it_needs_linux(elsewhere, capsys):
    assert call(["run", "TST-KILL-PROOF", "--target", "h1", "--yes"]) == 64

    assert "Linux only" in capsys.readouterr().err
    assert elsewhere.runs() == []

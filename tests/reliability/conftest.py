"""The demo's hosts, for the tests that need real services."""

from __future__ import annotations

import pytest

from remediate.demo.stage import set_up


@pytest.fixture
def stage(tmp_path):
    with set_up(tmp_path / "site") as stage:
        yield stage

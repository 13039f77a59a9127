"""What every test may use, and the summary that a run prints: counts and what was left out."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

# A machine that is busy with something else is slow at drawing examples; that is no fault of a test.
settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared-machine")

_COUNT_LINE = re.compile(r"^COUNT (.+)$", re.MULTILINE)
_counts: list[str] = []
_skips: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches a test."""
    for name in [name for name in os.environ if name.startswith("REMEDIATE_")]:
        if not name.startswith(("REMEDIATE_TEST_", "REMEDIATE_LONG")):
            monkeypatch.delenv(name)


@pytest.fixture
def full_count() -> bool:
    """Whether `make test-long` asked for the full n."""
    return os.environ.get("REMEDIATE_LONG") == "1"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what a test counted, and why one was left out."""
    if report.when == "call":
        _counts.extend(_COUNT_LINE.findall(report.capstdout))
    if report.skipped and isinstance(report.longrepr, tuple):
        _skips[report.longrepr[2].removeprefix("Skipped: ")] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts and the reasons once, at the end."""
    if _counts:
        terminalreporter.section("counts (CI n; `make test-long` runs the full n)")
        for line in _counts:
            terminalreporter.line(line)
    if _skips:
        terminalreporter.section("left out, and why")
        for reason, count in _skips.most_common():
            terminalreporter.line(f"{count:4d}  {reason}")

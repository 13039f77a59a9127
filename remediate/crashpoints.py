"""Named places where a test may kill the process, so that every boundary of a run is crash-tested.

A crash point does nothing unless `REMEDIATE_CRASH_AT` names it; the reliability suite walks
`CrashPoint` itself, so a new boundary is covered as soon as it has a name.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum


class CrashPoint(StrEnum):
    """Boundaries of a run, in the order in which a run passes them."""

    INTAKE_RECORDED = "intake-recorded"
    CASE_STARTED = "case-started"
    DECISION_RECORDED = "decision-recorded"
    RUN_ENQUEUED = "run-enqueued"
    RUN_STARTED = "run-started"
    LOCKS_HELD = "locks-held"
    CHILD_STARTED = "child-started"
    INTENT_RECORDED = "intent-recorded"
    ACT_UNDER_WAY = "act-under-way"
    ACT_DONE = "act-done"
    RESULT_RECORDED = "result-recorded"
    VERIFY_RECORDED = "verify-recorded"
    END_RECORDED = "end-recorded"


def crash_point(point: CrashPoint, *, detail: str = "") -> None:
    """Kill this process when the environment asks for it: `REMEDIATE_CRASH_AT=point[:detail]`."""
    wanted = os.environ.get("REMEDIATE_CRASH_AT")
    if wanted is not None and wanted in (point.value, f"{point.value}:{detail}"):
        os.kill(os.getpid(), signal.SIGKILL)

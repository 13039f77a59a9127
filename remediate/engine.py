"""The durable engine: two workflows that schedule `decide` and `drive`. Only this module imports dbos.

What a run has done is in the audit trail, not in here; a workflow is repeated from its start after a
crash and finds out from the trail where it stands. So the shape of the workflows can stay the same
while plans come and go, and a lost `engine.db` loses no run: open runs are started again.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetEnqueueOptions, SetWorkflowID

from remediate.crashpoints import CrashPoint, crash_point
from remediate.model.run import State
from remediate.ports import Work

T = TypeVar("T")

#: Changes only with the workflows' shape: a run of another version would be stuck for ever.
APPLICATION_VERSION = "1"
#: Seconds between two looks of a queue.
POLL_SECONDS = 0.1
#: Ends of a workflow after which its run has to be started anew when it is still open.
_DEAD = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


class DurableEngine:
    """DBOS on SQLite in the state directory; one per process, and one process per state directory."""

    def __init__(self, home: Path, work: Work, *, limits: Mapping[str, int]) -> None:
        self._work = work
        self._failures: dict[str, BaseException] = {}
        self._lock = threading.Lock()
        #: Decisions look at what other runs do, so they are taken one at a time.
        self._deciding = threading.Lock()
        database = home / "engine.db"
        _use_wal(database)
        # DBOS advertises its paid service at INFO and tells of recoveries at WARNING.
        logging.getLogger("dbos").setLevel(logging.ERROR)
        DBOS(config=_config(database))
        self._register()
        DBOS.launch()
        for tier, limit in limits.items():
            DBOS.register_queue(
                tier,
                partition_concurrency=1,
                worker_concurrency=limit,
                polling_interval_sec=POLL_SECONDS,
                on_conflict="always_update",
            )

    def _register(self) -> None:
        @DBOS.step(name="decide")
        def decide(run_id: str) -> str:
            with self._deciding:
                return self._guarded(run_id, self._work.decide).value

        @DBOS.step(name="drive")
        def drive(run_id: str) -> None:
            self._guarded(run_id, self._work.drive)

        @DBOS.workflow(name="run", max_recovery_attempts=20)
        def run(run_id: str) -> None:
            drive(run_id)

        @DBOS.workflow(name="case", max_recovery_attempts=1000)
        def case(run_id: str) -> None:
            crash_point(CrashPoint.CASE_STARTED)
            # A case that waits for a person ends here and is started again when there is something new:
            # so nothing sleeps in a thread, and the wait outlives every worker.
            if State(decide(run_id)).under_way:
                self._enqueue(run_id)
                crash_point(CrashPoint.RUN_ENQUEUED)

        self._run, self._case = run, case

    def _guarded(self, run_id: str, step: Callable[[str], T]) -> T:
        """Do a step; keep what it raises, because the workflow itself has nobody to tell."""
        try:
            return step(run_id)
        except BaseException as error:
            with self._lock:
                self._failures[run_id] = error
            raise

    def _enqueue(self, run_id: str) -> None:
        run = self._work.run(run_id)
        with (
            SetWorkflowID(self._live_id(f"{run_id}-run")),
            SetEnqueueOptions(queue_partition_key=run.request.target),
        ):
            DBOS.enqueue_workflow(run.tier, self._run, run_id)

    @staticmethod
    def _live_id(base: str) -> str:
        """An id whose workflow can still do something: one that ended is followed by a new one."""
        known = {w.workflow_id: w.status for w in DBOS.list_workflows(workflow_id_prefix=base)}
        number = 0
        while known.get(f"{base}-{number}") in _DEAD:
            number += 1
        return f"{base}-{number}"

    def start(self, run_id: str) -> None:
        """Begin, or go on with, a recorded run; one that waits is judged again.

        Calling it again for a living one changes nothing.
        """
        run = self._work.run(run_id)
        if run.closed:
            return
        if run.state in (State.RECEIVED, State.AWAITING_APPROVAL):
            with SetWorkflowID(self._live_id(f"{run_id}-case")):
                DBOS.start_workflow(self._case, run_id)
        else:
            self._enqueue(run_id)

    def failure(self, run_id: str) -> BaseException | None:
        """What stopped the work on a run that is still open, if anything did."""
        with self._lock:
            return self._failures.get(run_id)

    def close(self) -> None:
        """Take no more work; what is under way is taken up by the next worker."""
        DBOS.destroy(destroy_registry=True)


def _config(database: Path) -> DBOSConfig:
    return {
        "name": "remediate",
        "system_database_url": f"sqlite:///{database}",
        "application_version": APPLICATION_VERSION,
        "executor_id": "worker",  # on SQLite there is exactly one, which `worker.lock` enforces
        "serializer": DBOSPortableJSONSerializer(),
        "log_level": "ERROR",
        "run_migrations": True,
        "enable_otlp": False,
        "notification_listener_polling_interval_sec": POLL_SECONDS,
    }


def _use_wal(database: Path) -> None:
    """Write-ahead logging must be on before the engine opens the file (it leaves the old journal)."""
    database.touch(mode=0o600, exist_ok=True)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")

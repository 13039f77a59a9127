"""A power cut at every point of a recorded run: what was acknowledged is there, and the log verifies.

A shim under the process records each write, truncation, sync and unlink of the store, and the program
adds a mark when an append was acknowledged. Each prefix of that record is then replayed in several ways:
what was not synced is dropped, kept at random, or torn at 512-byte sectors. The file system is assumed to
keep the order of names only as far as the program synced; unlinked files are gone at once.

With `synchronous=NORMAL` the same replay must lose acknowledged entries: otherwise this test would prove
nothing. `REMEDIATE_LONG=1` raises the number of states.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from remediate.audit.verify import verify

LONG = os.environ.get("REMEDIATE_LONG") == "1"
SECTOR = 512
APPENDS = 200 if LONG else 60
#: Ways to lose what was not synced, per prefix: nothing kept, and this many random choices.
CHOICES = 9 if LONG else 4
SHIM = Path(__file__).with_name("power_cut_recorder.c")

PROGRAM = """
import os, struct, sys
from pathlib import Path
from remediate.audit.store import AuditStore
from remediate.model.entry import Draft, Kind

root, synchronous, appends = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store = AuditStore.open(root / "audit.db", keys=root.parent / "keys", checkpoint_every=8,
                        synchronous=synchronous, node="n")
log = os.open(os.environ["RECORD_LOG"], os.O_WRONLY | os.O_APPEND)
# Small enough that the WAL is brought into the database file during the run.
store.write(lambda t: None)
store._writer._connection.execute("PRAGMA wal_autocheckpoint = 40")
for number in range(appends):
    (entry,) = store.append(Draft(kind=Kind.HEARTBEAT, data={"text": "x" * (number * 37 % 900)}))
    os.write(log, b"A" + struct.pack("=IQQ", 0, entry.seq + 1, 0))
store.close()
"""


@dataclass(frozen=True, slots=True)
class Event:
    """One recorded act."""

    kind: str
    name: str
    offset: int
    data: bytes


@dataclass
class Disk:
    """What is safely stored, and what was written since the last sync of each file."""

    safe: dict[str, bytes] = field(default_factory=dict)
    pending: dict[str, list[Event]] = field(default_factory=dict)
    acknowledged: int = 0

    def apply(self, event: Event) -> None:
        if event.kind == "A":
            self.acknowledged = event.offset
        elif event.kind == "S":
            content = self.safe.get(event.name, b"")
            for write in self.pending.pop(event.name, []):
                content = written(content, write)
            self.safe[event.name] = content
        elif event.kind == "U":
            self.safe.pop(event.name, None)
            self.pending.pop(event.name, None)
        else:
            self.pending.setdefault(event.name, []).append(event)

    def after_cut(self, rng: random.Random | None) -> dict[str, bytes]:
        """The files as they may be found: without `rng` nothing unsynced survived."""
        files = dict(self.safe)
        for name, events in self.pending.items() if rng is not None else ():
            assert rng is not None
            content = files.get(name, b"")
            for event in events:
                fate = rng.random()
                if fate < 0.4:
                    content = written(content, event)
                elif fate < 0.7 and event.kind == "W":
                    content = torn(content, event, rng)
            files[name] = content
        return files


def written(content: bytes, event: Event) -> bytes:
    if event.kind == "T":
        return content[: event.offset].ljust(event.offset, b"\x00")
    content = content.ljust(event.offset, b"\x00")
    return content[: event.offset] + event.data + content[event.offset + len(event.data) :]


def torn(content: bytes, event: Event, rng: random.Random) -> bytes:
    """Only some sectors of a write arrived."""
    at, end = event.offset, event.offset + len(event.data)
    while at < end:
        stop = min(end, (at // SECTOR + 1) * SECTOR)
        if rng.random() < 0.5:
            piece = event.data[at - event.offset : stop - event.offset]
            content = written(content, Event("W", event.name, at, piece))
        at = stop
    return content


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, so system calls cannot be recorded")
    library = tmp_path_factory.mktemp("shim") / "recorder.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-w", "-o", library, SHIM, "-ldl"], check=True)
    return library


def recorded(shim: Path, home: Path, synchronous: str) -> list[Event]:
    """The acts of one run of the program."""
    root, log = home / "state", home / "record"
    root.mkdir(parents=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(shim),
        "RECORD_ROOT": str(root),
        "RECORD_LOG": str(log),
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    arguments = [sys.executable, "-c", PROGRAM, str(root), synchronous, str(APPENDS)]
    subprocess.run(arguments, env=environment, check=True)
    content, at, events = log.read_bytes(), 0, []
    while at < len(content):
        path_length, offset, length = struct.unpack_from("=IQQ", content, at + 1)
        path = content[at + 21 : at + 21 + path_length].decode()
        data = content[at + 21 + path_length : at + 21 + path_length + length]
        kind = chr(content[at])
        # The index of the WAL is rebuilt after a crash; its content never counts.
        if not path.endswith("-shm"):
            events.append(Event(kind, Path(path).name, offset, data))
        at += 21 + path_length + length
    return events


@dataclass
class Outcome:
    states: int = 0
    lost: int = 0
    damaged: list[str] = field(default_factory=list)


def replay(events: list[Event], scratch: Path, seed: int) -> Outcome:
    disk, rng, outcome = Disk(), random.Random(seed), Outcome()
    for event in events:
        disk.apply(event)
        if disk.acknowledged == 0:
            continue  # nothing was promised yet
        for choice in range(1 + CHOICES):
            examine(disk.after_cut(rng if choice else None), disk.acknowledged, scratch, outcome)
    return outcome


def examine(files: dict[str, bytes], acknowledged: int, scratch: Path, outcome: Outcome) -> None:
    """Start from what the cut left, as the next worker would, and count what is there."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for name, content in files.items():
        (scratch / name).write_bytes(content)
    outcome.states += 1
    try:
        with closing(sqlite3.connect(scratch / "audit.db")) as connection:
            (size,) = connection.execute("SELECT count(*) FROM entries").fetchone()
    except sqlite3.DatabaseError as error:
        outcome.damaged.append(str(error))
        return
    outcome.lost += size < acknowledged
    report = verify(scratch / "audit.db", keys=scratch.parent / "keys" / "vkeys")
    if not report.ok:
        outcome.damaged.append(str(report.findings))


def scratch_root() -> Path:
    """Memory where there is one: thousands of small files are written and thrown away."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else Path("/tmp")


def outcome_of(shim: Path, home: Path, synchronous: str) -> Outcome:
    events = recorded(shim, home, synchronous)
    work = scratch_root() / f"audit-power-cut-{os.getpid()}"
    try:
        shutil.copytree(home / "keys", work / "keys")
        return replay(events, work / "state", seed=7)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def test_no_acknowledged_entry_is_lost_at_any_power_cut(shim: Path, tmp_path: Path) -> None:
    outcome = outcome_of(shim, tmp_path, "FULL")
    print(
        f"COUNT power cuts FULL: {outcome.states} states, {outcome.lost} lost, {len(outcome.damaged)} damaged"
    )
    assert outcome.states > 100
    assert (outcome.lost, outcome.damaged) == (0, [])


def test_the_replay_has_teeth(shim: Path, tmp_path: Path) -> None:
    outcome = outcome_of(shim, tmp_path, "NORMAL")
    print(
        f"COUNT power cuts NORMAL (teeth): {outcome.states} states, {outcome.lost} lost acknowledged entries"
    )
    assert outcome.lost > 0

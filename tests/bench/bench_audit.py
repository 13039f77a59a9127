"""Speed of the trail, as ratios measured in one run: `python tests/bench/bench_audit.py [ENTRIES]`.

Prints `name value ratio bar ok|MISSED`. The number of entries to verify comes from the argument, from
`REMEDIATE_BENCH_ENTRIES`, or is 1,000,000. Appends are compared with `fdatasync` of a file in the same
directory, verification with one SHA-256 per entry over the same bytes; both sides of a ratio are
measured in alternating slices, so that a noisy neighbour hits both. Verification and hashing are
measured in processor time, because they wait for nothing.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

from remediate.audit.store import AuditStore
from remediate.audit.verify import verify
from remediate.model.entry import Draft, Json, Kind

DATA: dict[str, Json] = {
    "phase": "apply",
    "attempt": 1,
    "name": "set the storm control limit of the trunk",
    "host": "sw-access-01",
    "status": "ok",
    "changed": True,
    "duration_ms": 412,
}
APPENDS = 2000
SLICES = 10
WRITERS = 8


def main(arguments: list[str]) -> int:
    """Measure, print, and say with the exit status whether every bar was met."""
    entries = int(arguments[0] if arguments else os.environ.get("REMEDIATE_BENCH_ENTRIES", "1000000"))
    directory = os.environ.get("REMEDIATE_BENCH_DIR", ".")
    with tempfile.TemporaryDirectory(dir=directory, prefix=".bench-audit-") as scratch:
        results = [*appends(Path(scratch)), *verification(Path(scratch), entries)]
    return 0 if all(results) else 1


def appends(scratch: Path) -> list[bool]:
    """One by one against fdatasync, and the latency with eight writers."""
    with AuditStore.open(scratch / "append" / "audit.db", keys=scratch / "append" / "keys") as store:
        own, disk = append_and_sync(store, scratch / "sync")
        met = [
            line("fdatasync of 600 bytes", f"{disk:.0f}/s"),
            line("append one by one", f"{own:.0f}/s", own / disk, 0.5),
        ]
        latencies = sorted(contended(store))
        p99 = latencies[len(latencies) * 99 // 100] * 1000
        met.append(limit(f"append p99, {WRITERS} writers", p99, 50))
    return met


def append_and_sync(store: AuditStore, path: Path) -> tuple[float, float]:
    """Rates of appends and of plain writes with fdatasync, in alternating slices."""
    count = APPENDS // SLICES
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)

    def sync() -> None:
        for _ in range(count):
            os.write(descriptor, b"x" * 600)
            os.fdatasync(descriptor)

    def append() -> None:
        for number in range(count):
            store.append(draft(number))

    append()
    slices = [(timed(append), timed(sync)) for _ in range(SLICES)]
    os.close(descriptor)
    own, disk = (sum(column) for column in zip(*slices, strict=True))
    return APPENDS / own, APPENDS / disk


def contended(store: AuditStore) -> list[float]:
    """The duration of each append of eight threads at once."""
    latencies: list[float] = []

    def work() -> None:
        latencies.extend(timed(partial(store.append, draft(number))) for number in range(APPENDS // WRITERS))

    threads = [threading.Thread(target=work) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies


def verification(scratch: Path, entries: int) -> list[bool]:
    """Both depths of verification against one SHA-256 per entry."""
    path = scratch / "verify" / "audit.db"
    fill(path, entries)
    keys = scratch / "verify" / "keys" / "vkeys"
    hashing, size = hash_all(path)
    line(f"sha256 of {entries} entries", f"{size / hashing / 1e6:.0f} MB/s")

    def shallow() -> None:
        report = verify(path, keys=keys, semantics=False)
        assert report.ok, report.findings

    def full() -> None:
        report = verify(path, keys=keys)
        assert report.ok, report.findings

    plain, whole = timed(shallow, time.process_time), timed(full, time.process_time)
    hashing = (hashing + hash_all(path)[0]) / 2
    return [
        line("verify bytes, chain, tree", f"{plain:.1f} s", hashing / plain, 0.15),
        line("verify with full semantics", f"{whole:.1f} s", hashing / whole, 0.04),
    ]


def fill(path: Path, entries: int) -> None:
    """A log of runs, written in large transactions."""
    with AuditStore.open(path, keys=path.parent / "keys", synchronous="OFF") as store:
        for begin in range(0, entries, 20_000):
            store.append(*[draft(number) for number in range(begin, min(begin + 20_000, entries))])


def hash_all(path: Path) -> tuple[float, int]:
    """Seconds for one SHA-256 per stored entry (reading not counted), and the bytes hashed."""
    seconds, size = 0.0, 0
    connection = sqlite3.connect(path)
    cursor = connection.execute("SELECT body FROM entries ORDER BY seq")
    while rows := cursor.fetchmany(10_000):
        started = time.process_time()
        for (body,) in rows:
            sha256(body).digest()
        seconds += time.process_time() - started
        size += sum(len(body) for (body,) in rows)
    connection.close()
    return seconds, size


def draft(number: int) -> Draft:
    """One step of a run of ten, each with its intent."""
    run, place = divmod(number, 10)
    kind = Kind.PHASE_INTENT if place == 0 else Kind.STEP_END
    return Draft(
        kind=kind,
        run_id=f"0199c0de-0000-7000-8000-{run:012d}",
        case_id=f"case-{run:08d}",
        target="sw-access-01",
        fault_code="NET-VLAN-STORM",
        data=DATA,
    )


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds `work` takes."""
    started = clock()
    work()
    return clock() - started


def line(name: str, value: str, ratio: float | None = None, bar: float = 0.0) -> bool:
    """Print one figure; whether it reached its bar."""
    met = ratio is None or ratio >= bar
    shown = "-" if ratio is None else f"{ratio:.3f}"
    print(
        f"{name:<32} {value:>12} {shown:>7} {f'>={bar}' if bar else '-':>7} {'ok' if met else 'MISSED'}",
        flush=True,
    )
    return met


def limit(name: str, milliseconds: float, most: float) -> bool:
    """Print a latency; whether it stayed within its limit."""
    met = milliseconds <= most
    print(
        f"{name:<32} {milliseconds:>9.1f} ms {'-':>7} {f'<={most}':>7} {'ok' if met else 'MISSED'}",
        flush=True,
    )
    return met


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

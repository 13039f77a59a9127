"""A full disk and a read-only directory: refused, nothing half-written, and it goes on afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from remediate.audit.store import AuditStore
from remediate.audit.verify import verify
from remediate.errors import AuditUnavailable
from remediate.model.entry import Draft, Kind

DRAFT = Draft(kind=Kind.OPERATOR_COMMAND, data={"command": "x" * 700})


@contextmanager
def small_disk(path: Path, options: str = "size=1m") -> Iterator[Path]:
    """A file system of its own; skips where that needs rights this user does not have."""
    path.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path]).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def fill_until_refused(store: AuditStore) -> int:
    """Append until it is refused; the size of the log then."""
    size = store.size()
    with suppress(AuditUnavailable):
        while size < 5000:
            size = store.append(DRAFT)[0].seq + 1
    with pytest.raises(AuditUnavailable, match="nothing was done"):
        store.append(DRAFT)
    return size


def test_a_full_disk_refuses_and_resumes(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 400_000)
        (disk / "journal").write_bytes(b"\x00" * 65536)
        with AuditStore.open(
            disk / "audit.db", keys=tmp_path / "keys", journal=disk / "journal", checkpoint_every=16
        ) as store:
            size = fill_until_refused(store)
            assert store.size() == size
            # The emergency journal has its room already.
            assert store.journal is not None
            store.journal.append(Draft(kind=Kind.AUDIT_DEGRADED), datetime.now(UTC))
            with pytest.raises(AuditUnavailable):
                store.append(DRAFT)
            ballast.unlink()
            assert store.append(DRAFT)[0].seq == size
            assert store.journal.merge_into(store) == 1
        report = verify(disk / "audit.db", keys=tmp_path / "keys" / "vkeys")
        assert report.ok, report.findings
        print(f"COUNT disk full: refused at {size} entries, log verifies, resumed at {size}")


PROGRAM = """
import resource, signal, sys
from pathlib import Path
from remediate.audit.store import AuditStore
from remediate.errors import AuditUnavailable
from remediate.model.entry import Draft, Kind

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
home = Path(sys.argv[1])
store = AuditStore.open(home / "audit.db", keys=home / "keys", checkpoint_every=16)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
draft = Draft(kind=Kind.OPERATOR_COMMAND, data={"command": "x" * 700})
size = 0
try:
    while size < 2000:
        size = store.append(draft)[0].seq + 1
except AuditUnavailable:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert store.size() == size
    assert store.append(draft)[0].seq == size
    store.close()
    print(size)
"""


def test_a_file_size_limit_refuses_and_resumes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path], env=environment, capture_output=True, text=True, check=True
    )
    report = verify(tmp_path / "audit.db", strict=False)
    assert report.ok, report.findings
    print(f"COUNT file size limit: refused at {done.stdout.strip()} entries, resumed")
    assert 0 < int(done.stdout) < 2000


def test_a_read_only_directory_refuses_and_resumes(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=4m") as disk:
        with AuditStore.open(disk / "audit.db", keys=tmp_path / "keys") as store:
            store.append(DRAFT)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(AuditUnavailable, match="cannot be opened"):
            AuditStore.open(disk / "audit.db", keys=tmp_path / "keys")
        with AuditStore.open_readonly(disk / "audit.db") as reader:
            assert reader.size() == 2
        report = verify(disk / "audit.db", keys=tmp_path / "keys" / "vkeys")
        assert report.ok, report.findings
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        with AuditStore.open(disk / "audit.db", keys=tmp_path / "keys") as store:
            assert store.append(DRAFT)[0].seq == 2
    print("COUNT read-only directory: refused, readable, resumed")


def test_a_crashed_log_on_read_only_media_is_verified_from_a_copy(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=4m") as disk:
        program = (
            "import os, sys; from pathlib import Path\n"
            "from remediate.audit.store import AuditStore\n"
            "from remediate.model.entry import Draft, Kind\n"
            "store = AuditStore.open(Path(sys.argv[1]) / 'audit.db', keys=Path(sys.argv[2]))\n"
            "store.append(Draft(kind=Kind.HEARTBEAT)); os._exit(9)\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        done = subprocess.run([sys.executable, "-c", program, disk, tmp_path / "keys"], env=environment)
        assert done.returncode == 9
        (disk / "audit.db-shm").unlink()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        report = verify(disk / "audit.db", keys=tmp_path / "keys" / "vkeys")
        assert report.ok, report.findings
        assert report.size == 2
        assert any("temporary copy" in note for note in report.notes)
        strict = verify(disk / "audit.db", keys=tmp_path / "keys" / "vkeys", strict=True)
        assert strict.exit_code == 2  # what the crash left open is passed by verify and not by --strict

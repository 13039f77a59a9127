"""Exports, bundles and pruning: what left the log verifies, and so does what stayed."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remediate.audit.anchors import FileAnchor
from remediate.audit.export import evidence_bundle, export_jsonl
from remediate.audit.prune import prune
from remediate.audit.store import AuditStore
from remediate.audit.verify import verify
from remediate.errors import AuditError, UsageError
from remediate.model.entry import Draft, Kind


class ManualClock:
    """Says the time it was given."""

    time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic_ns(self) -> int:
        return 0

    def pass_days(self, days: int) -> None:
        self.time += timedelta(days=days)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[AuditStore]:
    anchors = [FileAnchor(tmp_path / "anchors")]
    keys = tmp_path / "keys"
    with AuditStore.open(
        tmp_path / "audit.db", keys=keys, anchors=anchors, clock=clock, checkpoint_every=16
    ) as opened:
        yield opened


def record_run(store: AuditStore, number: int, *kinds: Kind) -> None:
    for kind in kinds or (Kind.DECISION, Kind.RUN_START, Kind.PHASE_INTENT, Kind.PHASE_RESULT, Kind.RUN_END):
        store.append(Draft(kind=kind, run_id=f"run-{number}", case_id=f"case-{number}", data={"n": number}))
    store.checkpoint("run end")


def strictly(store: AuditStore, path: Path | None = None) -> None:
    anchors = store.path.parent / "anchors"
    report = verify(path or store.path, anchors=anchors, keys=store.keyring.vkeys_path, strict=True)
    assert report.ok, report.findings


def test_an_export_is_the_stored_bytes_and_verifies(store: AuditStore, tmp_path: Path) -> None:
    for number in range(9):
        record_run(store, number)
    export = export_jsonl(store, tmp_path / "log.jsonl")
    lines = export.path.read_bytes().splitlines()
    assert lines == [entry.body for entry in store.entries()]
    assert hashlib.sha256(export.path.read_bytes()).hexdigest() == export.sha256
    strictly(store, export.path)


def test_an_export_that_was_cut_is_found(store: AuditStore, tmp_path: Path) -> None:
    record_run(store, 1)
    export = export_jsonl(store, tmp_path / "log.jsonl")
    export.path.write_bytes(b"".join(export.path.read_bytes().splitlines(keepends=True)[:-1]))
    report = verify(export.path, keys=store.keyring.vkeys_path)
    assert {"export", "tree.size"} <= {finding.kind for finding in report.findings}


@pytest.mark.parametrize("name", ["evidence", "evidence.tar.gz"])
def test_a_bundle_proves_the_entries_of_one_run(store: AuditStore, tmp_path: Path, name: str) -> None:
    for number in range(9):
        record_run(store, number)
    store.append(Draft(kind=Kind.TRIGGER_RECEIVED, case_id="case-4"))
    store.rotate_key()
    record_run(store, 9)
    path = evidence_bundle(store, "run-4", tmp_path / name)
    strictly(store, path)
    if path.is_dir():
        lines = (path / "entries.jsonl").read_bytes().splitlines()
        assert [json.loads(line)["case_id"] for line in lines] == ["case-4"] * 6
        assert (path / "proofs" / f"{json.loads(lines[0])['seq']}.tlog-proof").exists()
    else:
        with tarfile.open(path) as archive:
            assert "evidence/verify.py" in archive.getnames()


def test_an_entry_of_another_log_does_not_pass_in_a_bundle(store: AuditStore, tmp_path: Path) -> None:
    record_run(store, 1)
    path = evidence_bundle(store, "run-1", tmp_path / "evidence")
    content = (path / "entries.jsonl").read_bytes()
    (path / "entries.jsonl").write_bytes(content.replace(b'"n":1', b'"n":2', 1))
    sums = "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(path).as_posix()}\n"
        for file in sorted(path.rglob("*"), key=lambda file: file.relative_to(path).as_posix())
        if file.is_file() and file.name != "SHA256SUMS"
    )
    (path / "SHA256SUMS").write_text(sums)
    report = verify(path, keys=store.keyring.vkeys_path)
    assert {"tree.inclusion", "bundle.entries"} <= {finding.kind for finding in report.findings}
    assert report.exit_code == 1


def test_a_bundle_of_nothing_is_refused(store: AuditStore, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="no run"):
        evidence_bundle(store, "run-77", tmp_path / "evidence")
    store.append(Draft(kind=Kind.RUN_START, run_id="r"))
    with pytest.raises(AuditError, match="not signed yet"):
        evidence_bundle(store, "r", tmp_path / "evidence")


def test_pruning_leaves_a_log_that_verifies_again_and_again(
    store: AuditStore, clock: ManualClock, tmp_path: Path
) -> None:
    for number in range(60):
        record_run(store, number)
        clock.pass_days(10)
        if number in (10, 50):
            store.rotate_key()
    exports = []
    for turn in range(3):
        pruned = prune(store, tmp_path / f"old-{turn}.jsonl")
        assert pruned is not None
        exports.append(pruned.export)
        strictly(store)
        clock.pass_days(100)
    assert [export.start for export in exports[1:]] == [export.size for export in exports[:-1]]
    for export in exports:
        assert verify(export.path, keys=store.keyring.vkeys_path).ok
    assert store.entries()[0].seq == exports[-1].size
    record_run(store, 60)
    strictly(store)
    strictly(store, evidence_bundle(store, "run-60", tmp_path / "evidence"))
    strictly(store, export_jsonl(store, tmp_path / "rest.jsonl").path)


def test_nothing_younger_than_the_law_asks_for_is_pruned(store: AuditStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="183"):
        prune(store, tmp_path / "old.jsonl", retention_days=182)
    assert prune(store, tmp_path / "old.jsonl", retention_days=183) is None


def test_a_run_that_is_not_over_is_not_split(store: AuditStore, clock: ManualClock, tmp_path: Path) -> None:
    record_run(store, 1)
    record_run(store, 2, Kind.DECISION, Kind.RUN_START)
    clock.pass_days(500)
    record_run(store, 2, Kind.RUN_END)
    pruned = prune(store, tmp_path / "old.jsonl")
    assert pruned is not None
    assert pruned.export.size == 6
    assert [entry.run_id for entry in store.entries()][:2] == ["run-2", "run-2"]


def test_pruning_by_hand_is_found(store: AuditStore, clock: ManualClock, tmp_path: Path) -> None:
    """A genuine checkpoint and a right compact range do not help: the signed prune entry is missing."""
    for number in range(5):
        record_run(store, number)
    clock.pass_days(500)
    record_run(store, 5)
    pruned = prune(store, tmp_path / "old.jsonl")
    assert pruned is not None
    seq = pruned.entry.seq
    store.write(
        lambda transaction: (
            transaction.connection.execute("DELETE FROM entries WHERE seq >= ?", (seq,)).rowcount
        )
    )
    store.write(
        lambda transaction: (
            transaction.connection.execute("DELETE FROM checkpoints WHERE size > ?", (seq,)).rowcount
        )
    )
    kinds = {finding.kind for finding in verify(store.path, keys=store.keyring.vkeys_path).findings}
    assert "prune" in kinds

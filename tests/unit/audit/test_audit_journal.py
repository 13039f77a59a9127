"""The emergency journal: what it keeps, what a torn record does, and how it is merged."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from remediate.audit.journal import EmergencyJournal
from remediate.audit.store import AuditStore
from remediate.audit.verify import verify
from remediate.errors import AuditUnavailable
from remediate.model.entry import Actor, Draft, Kind

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
DRAFT = Draft(
    kind=Kind.PHASE_RESULT,
    actor=Actor(type="system", id="remediate"),
    run_id="r1",
    target="sw-01",
    data={"phase": "rollback", "status": "ok"},
)


def test_drafts_come_back_marked_with_their_own_time(tmp_path: Path) -> None:
    EmergencyJournal(tmp_path / "journal").append(DRAFT, NOW)
    (draft,) = EmergencyJournal(tmp_path / "journal").drafts()
    assert draft.data == {**DRAFT.data, "journalled": True, "journalled_at": "2026-03-01T03:00:00.000000Z"}
    assert (draft.kind, draft.run_id, draft.actor) == (DRAFT.kind, DRAFT.run_id, DRAFT.actor)


def test_the_file_is_preallocated_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    journal = EmergencyJournal(tmp_path / "journal", size=700)
    assert (tmp_path / "journal").stat().st_size == 700
    journal.append(DRAFT, NOW)
    journal.append(DRAFT, NOW)
    with pytest.raises(AuditUnavailable, match="full"):
        journal.append(DRAFT, NOW)
    assert len(EmergencyJournal(tmp_path / "journal")) == 2


def test_every_cut_keeps_the_whole_records_and_reports_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = EmergencyJournal(path, size=2000)
    for _ in range(3):
        journal.append(DRAFT, NOW)
    content = path.read_bytes()
    end = len(content.rstrip(b"\x00"))
    for cut in range(end):
        path.write_bytes(content[:cut] + b"\x00" * (len(content) - cut))
        found = EmergencyJournal(path)
        assert len(found) == sum(cut >= (index + 1) * end // 3 for index in range(3))
        assert found.torn is (cut % (end // 3) != 0)
    print(f"COUNT journal cuts {end}")


def test_merging_puts_the_drafts_between_degraded_and_restored_once(tmp_path: Path) -> None:
    EmergencyJournal(tmp_path / "journal").append(DRAFT, NOW)
    kept = (tmp_path / "journal").read_bytes()
    for _ in range(2):  # the second time as after a crash between commit and emptying
        (tmp_path / "journal").write_bytes(kept)
        with AuditStore.open(
            tmp_path / "a.db", keys=tmp_path / "keys", journal=tmp_path / "journal"
        ) as store:
            kinds = [entry.kind for entry in store.entries(since=1)]
            assert store.journal is not None
            assert len(store.journal) == 0
        assert kinds == [Kind.AUDIT_DEGRADED, Kind.PHASE_RESULT, Kind.AUDIT_RESTORED]
    report = verify(tmp_path / "a.db")
    assert [finding.kind for finding in report.findings if finding.level == 1] == ["step-without-intent"]


def test_a_torn_record_is_reported_in_the_trail(tmp_path: Path) -> None:
    journal = EmergencyJournal(tmp_path / "journal")
    journal.append(DRAFT, NOW)
    content = bytearray((tmp_path / "journal").read_bytes())
    content[60] ^= 1
    (tmp_path / "journal").write_bytes(bytes(content))
    with AuditStore.open(tmp_path / "a.db", keys=tmp_path / "keys", journal=tmp_path / "journal") as store:
        (restored,) = store.entries(kinds=[Kind.AUDIT_RESTORED])
    assert restored.data["torn_record"] is True

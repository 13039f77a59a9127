"""The store: what it records, how works share a commit, and what it refuses."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remediate.audit.anchors import FileAnchor
from remediate.audit.store import AuditStore, Migration
from remediate.audit.transaction import Transaction
from remediate.audit.verify import FIELDS, verify
from remediate.errors import AuditError, AuditUnavailable
from remediate.model.entry import Actor, Draft, Entry, Kind


class ManualClock:
    """Says the time it was given."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, tzinfo=UTC)
        self.ticks = 0

    def now(self) -> datetime:
        return self.time

    def monotonic_ns(self) -> int:
        self.ticks += 1
        return 2**60 + self.ticks


def note(text: str, *, run_id: str = "", case_id: str = "") -> Draft:
    return Draft(kind=Kind.OPERATOR_COMMAND, run_id=run_id, case_id=case_id, data={"command": text})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[AuditStore]:
    with AuditStore.open(tmp_path / "audit.db", keys=tmp_path / "keys", clock=clock, node="node") as opened:
        yield opened


def test_a_new_log_begins_with_its_own_creation(store: AuditStore) -> None:
    (first,) = store.entries()
    assert (first.seq, first.kind, first.prev) == (0, Kind.LOG_CREATED, "0" * 64)
    assert first.data["origin"].startswith("node/remediate-")
    assert store.latest_checkpoint() is not None
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_an_entry_holds_what_the_format_asks_for(store: AuditStore) -> None:
    actor = Actor(type="operator", id="uid:1000(alice)", auth="uid", src="tty:/dev/pts/1")
    (entry,) = store.append(
        Draft(
            kind=Kind.DECISION,
            actor=actor,
            run_id="r",
            case_id="c",
            target="sw",
            fault_code="F",
            data={"a": 1},
        )
    )
    record = json.loads(entry.body)
    assert set(record) == FIELDS
    assert record["actor"] == actor.as_json()
    assert store.entry(entry.seq) == entry
    assert isinstance(record["mono_ns"], str)  # more than 104 days of uptime do not fit 2**53


def test_entries_are_found_by_run_case_kind_and_place(store: AuditStore) -> None:
    store.append(note("a", run_id="r1", case_id="c1"), note("b", run_id="r2"), note("c", case_id="c1"))
    commands = [e.data["command"] for e in store.entries(kinds=[Kind.OPERATOR_COMMAND])]
    assert commands == ["a", "b", "c"]
    assert [e.data["command"] for e in store.entries(run_id="r1")] == ["a"]
    assert [e.data["command"] for e in store.entries(case_id="c1")] == ["a", "c"]
    assert [e.seq for e in store.entries(since=2, limit=1)] == [2]
    assert [e.data["command"] for e in store.entries(newest_first=True, limit=2)] == ["c", "b"]
    with pytest.raises(AuditError, match="no entry 99"):
        store.entry(99)


def test_a_work_that_raises_takes_only_its_own_entries_back(store: AuditStore) -> None:
    started = threading.Barrier(9)

    def work(number: int) -> Entry | None:
        def append(transaction: Transaction) -> Entry:
            entry = transaction.append(note(str(number)))
            if number % 3 == 0:
                raise ValueError(f"no {number}")
            return entry

        started.wait()
        if number % 3:
            return store.write(append)
        with pytest.raises(ValueError, match=f"no {number}"):
            store.write(append)
        return None

    with ThreadPoolExecutor(9) as pool:
        entries = [entry for entry in pool.map(work, range(9)) if entry is not None]
    assert sorted(entry.data["command"] for entry in entries) == ["1", "2", "4", "5", "7", "8"]
    assert sorted(entry.seq for entry in entries) == list(range(1, 7))
    assert verify(store.path, keys=store.keyring.vkeys_path).ok is True


def test_a_lone_work_that_raises_leaves_nothing(store: AuditStore) -> None:
    def append(transaction: Transaction) -> None:
        transaction.append(note("a"))
        raise KeyError("x")

    with pytest.raises(KeyError):
        store.write(append)
    assert store.size() == 1


def test_operational_tables_change_with_the_log_or_not_at_all(tmp_path: Path) -> None:
    migration = Migration(100, "intake", "CREATE TABLE intake (id TEXT PRIMARY KEY);\n-- end\n")
    with AuditStore.open(tmp_path / "a.db", keys=tmp_path / "keys", migrations=[migration]) as store:

        def take(transaction: Transaction) -> Entry:
            transaction.connection.execute("INSERT INTO intake VALUES ('x')")
            return transaction.append(Draft(kind=Kind.TRIGGER_RECEIVED))

        store.write(take)
        with pytest.raises(sqlite3.IntegrityError):
            store.write(take)
        assert store.read(lambda c: c.execute("SELECT count(*) FROM intake").fetchone()) == (1,)
        assert len(store.entries(kinds=[Kind.TRIGGER_RECEIVED])) == 1
        (change,) = store.entries(kinds=[Kind.SCHEMA_CHANGE])
        assert (change.data["number"], change.data["name"]) == (100, "intake")
    with AuditStore.open(tmp_path / "a.db", keys=tmp_path / "keys", migrations=[migration]) as store:
        assert len(store.entries(kinds=[Kind.SCHEMA_CHANGE])) == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ([Migration(1, "a", "CREATE TABLE b (x);")], "differs from the one applied"),
        (
            [Migration(2, "a", "CREATE TABLE b (x);"), Migration(2, "c", "CREATE TABLE c (x);")],
            "share a number",
        ),
        ([Migration(3, "a", "CREATE TABLE b (x)")], "without ';'"),
    ],
)
def test_a_schema_change_that_is_not_what_it_was_is_refused(
    tmp_path: Path, changed: list[Migration], words: str
) -> None:
    first = [Migration(1, "a", "CREATE TABLE a (x);")]
    AuditStore.open(tmp_path / "a.db", keys=tmp_path / "keys", migrations=first).close()
    with pytest.raises(AuditError, match=words):
        AuditStore.open(tmp_path / "a.db", keys=tmp_path / "keys", migrations=changed)


def test_a_bad_entry_is_refused_and_names_the_path(store: AuditStore) -> None:
    with pytest.raises(AuditError, match=r"\$\.data\.x"):
        store.append(Draft(kind=Kind.PLAN, data={"x": 0.5}))  # type: ignore[dict-item]
    assert store.size() == 1


def test_a_work_may_not_write_by_another_door(store: AuditStore) -> None:
    with pytest.raises(AuditError, match="may not start another write"):
        store.write(lambda _transaction: store.append(note("a")))


def test_a_closed_store_refuses(store: AuditStore) -> None:
    store.close()
    with pytest.raises(AuditUnavailable, match="closed"):
        store.append(note("a"))


def test_no_more_than_the_promised_entries_lie_between_checkpoints(tmp_path: Path) -> None:
    with AuditStore.open(tmp_path / "a.db", keys=tmp_path / "keys", checkpoint_every=16) as store:
        store.append(*[note(str(number)) for number in range(100)])
        sizes = [
            size for (size,) in store.read(lambda c: c.execute("SELECT size FROM checkpoints").fetchall())
        ]
    assert sizes == [1, 17, 33, 49, 65, 81, 97]


def test_a_wall_clock_that_steps_back_is_recorded(store: AuditStore, clock: ManualClock) -> None:
    store.append(note("a"))
    clock.time -= timedelta(seconds=1)
    store.append(note("b"))
    clock.time -= timedelta(hours=1)
    store.append(note("c"))
    (step,) = store.entries(kinds=[Kind.CLOCK_STEP])
    assert step.data["step_ms"] == -3_600_000
    report = verify(store.path, keys=store.keyring.vkeys_path)
    assert report.ok
    assert len(report.clock_steps) == 1


def test_a_run_end_is_sealed_and_anchored(tmp_path: Path) -> None:
    anchors = tmp_path / "anchors"
    with AuditStore.open(tmp_path / "a.db", keys=tmp_path / "keys", anchors=[FileAnchor(anchors)]) as store:
        store.append(note("a"))
        checkpoint = store.checkpoint("run end")
        assert checkpoint.size == store.size() == 2
        assert store.checkpoint("again") == checkpoint
        assert [state.size for state in store.anchor_states()] == [2]
        store.heartbeat()
        report = verify(store.path, anchors=anchors, keys=store.keyring.vkeys_path, strict=True)
        assert report.ok, report.findings
        assert report.unanchored_tail == 0


class BrokenAnchor:
    """An anchor that can be switched on and off."""

    name = "broken"
    works = False

    def publish(self, note_text: str) -> None:
        if not self.works:
            raise ConnectionRefusedError("nobody listens")


def test_an_anchor_that_fails_is_reported_and_costs_no_run(tmp_path: Path) -> None:
    anchor = BrokenAnchor()
    with AuditStore.open(tmp_path / "a.db", keys=tmp_path / "keys", anchors=[anchor]) as store:
        store.append(note("a"))
        store.checkpoint("run end")
        assert store.anchor_states()[0].error == "nobody listens"
        anchor.works = True
        store.append(note("b"))
        store.checkpoint("run end")
    with AuditStore.open_readonly(tmp_path / "a.db") as reader:
        reports = reader.entries(kinds=[Kind.CHECKPOINT_ANCHORED])
    assert [entry.data["ok"] for entry in reports] == [False, True]


def append_many(path: Path, keys: Path, count: int) -> None:
    with AuditStore.open(path, keys=keys) as store:
        for number in range(count):
            store.append(note(str(number)))


def test_several_processes_append_to_one_log(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (tmp_path / "a.db", tmp_path / "keys", 60)
    AuditStore.open(arguments[0], keys=arguments[1]).close()
    workers = [context.Process(target=append_many, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with AuditStore.open_readonly(arguments[0]) as reader:
        assert len(reader.entries(kinds=[Kind.OPERATOR_COMMAND])) == 180
        assert [entry.seq for entry in reader.entries()] == list(range(reader.size()))
    assert verify(arguments[0]).ok


def test_a_second_process_may_rotate_the_key(tmp_path: Path) -> None:
    path, keys = tmp_path / "a.db", tmp_path / "keys"
    with AuditStore.open(path, keys=keys) as one, AuditStore.open(path, keys=keys) as other:
        before = one.keyring.signer().key
        other.rotate_key()
        one.append(note("a"))
        one.checkpoint("run end")
        assert one.keyring.signer().key != before
    report = verify(path, keys=keys / "vkeys")
    assert report.ok, report.findings
    assert report.keys == 2


def test_a_revoked_key_proves_nothing_any_more(tmp_path: Path) -> None:
    with AuditStore.open(tmp_path / "a.db", keys=tmp_path / "keys", checkpoint_every=8) as store:
        for _ in range(40):
            store.append(note("a"))
        store.revoke_key(20, reason="laptop stolen")
        report = verify(store.path, keys=store.keyring.vkeys_path)
    assert report.ok, report.findings
    assert any("a key was revoked" in text for text in report.notes)


def test_without_its_key_the_log_is_not_written(tmp_path: Path) -> None:
    AuditStore.open(tmp_path / "a.db", keys=tmp_path / "keys").close()
    (tmp_path / "keys" / "signing.key").unlink()
    with pytest.raises(AuditUnavailable, match="signing key"):
        AuditStore.open(tmp_path / "a.db", keys=tmp_path / "keys")


def test_a_file_that_was_replaced_meanwhile_is_not_written(store: AuditStore) -> None:
    store.path.rename(store.path.with_suffix(".gone"))
    with pytest.raises(AuditUnavailable):
        store.append(note("a"))
    store.path.with_suffix(".gone").rename(store.path)
    assert store.append(note("a"))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"x" * 8192)
    with pytest.raises(AuditUnavailable, match="cannot be opened"):
        AuditStore.open(tmp_path / "a.db", keys=tmp_path / "keys")
    with pytest.raises(AuditError, match="cannot be read"):
        AuditStore.open_readonly(tmp_path / "a.db")
    with pytest.raises(AuditError, match="no audit trail"):
        AuditStore.open_readonly(tmp_path / "none.db")


def test_a_damaged_entry_is_an_audit_error(store: AuditStore) -> None:
    store.append(note("a"))
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        connection.execute("UPDATE entries SET body = x'00' WHERE seq = 1")
    with pytest.raises(AuditError, match="damaged"):
        store.entries()


def test_a_stale_head_is_an_error_and_never_a_fork(store: AuditStore) -> None:
    store.append(note("a"))
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        row = connection.execute("SELECT size, peaks, prev FROM log_head").fetchone()
    store.append(note("b"))
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        connection.execute("UPDATE log_head SET size = ?, peaks = ?, prev = ?", row)
    with pytest.raises(AuditUnavailable, match="exists already"):
        store.append(note("c"))
    assert len(store.entries()) == 3

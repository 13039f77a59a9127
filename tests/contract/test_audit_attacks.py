"""Attackers against the verifier: every mutation and every flipped bit is found, and nothing makes it raise.

The attacker of the mutation matrix can write to the machine and recomputes everything that can be
recomputed without the key: sequence, chain, leaves, tree, stored head; and drops the checkpoints that do
not fit any more. `REMEDIATE_LONG=1` raises the counts.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from remediate.audit import verify as verifier
from remediate.audit.anchors import FileAnchor
from remediate.audit.checkpoint import sign_checkpoint
from remediate.audit.export import evidence_bundle, export_jsonl
from remediate.audit.keys import KeyRing
from remediate.audit.merkle import CompactRange, leaf_hash
from remediate.audit.note import Signer
from remediate.audit.store import AuditStore
from remediate.audit.verify import Report, verify
from remediate.model.entry import Actor, Draft, Json, Kind

LONG = os.environ.get("REMEDIATE_LONG") == "1"
TRIALS = 100 if LONG else 20
FLIPS = 10_000 if LONG else 1_000
HOSTILE = 3_000 if LONG else 300
EVERY = 16
ENTRIES = 200


@dataclass
class Log:
    """A log with its anchors and published keys, and a backup of it from half-way."""

    home: Path

    @property
    def db(self) -> Path:
        return self.home / "audit.db"

    @property
    def anchors(self) -> Path:
        return self.home / "anchors"

    @property
    def vkeys(self) -> Path:
        return self.home / "published"

    @property
    def backup(self) -> Path:
        return self.home / "backup.db"

    def verify(self, path: Path | None = None) -> Report:
        return verify(path or self.db, anchors=self.anchors, keys=self.vkeys, strict=True)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    log = Log(tmp_path_factory.mktemp("log"))
    anchors = [FileAnchor(log.anchors)]
    with AuditStore.open(
        log.db, keys=log.home / "keys", anchors=anchors, node="n", checkpoint_every=EVERY
    ) as store:
        number = 0
        while store.size() < ENTRIES:
            record_run(store, number)
            number += 1
            if number == 12:
                store.rotate_key()
            if number == 14:
                with (
                    closing(sqlite3.connect(log.db)) as source,
                    closing(sqlite3.connect(log.backup)) as target,
                ):
                    source.backup(target)
    shutil.copy(log.home / "keys" / "vkeys", log.vkeys)
    assert log.verify().ok, log.verify().findings
    return log


def record_run(store: AuditStore, number: int) -> None:
    run, case = f"run-{number}", f"case-{number}"
    steps: list[tuple[Kind, dict[str, Json]]] = [
        (Kind.TRIGGER_RECEIVED, {"source": "drill"}),
        (Kind.DECISION, {"verdict": "run"}),
        (Kind.APPROVAL_GRANTED, {"plan_hash": f"plan-{number}", "approver": "bob"}),
        (Kind.RUN_START, {"plan_hash": f"plan-{number}"}),
        (Kind.PHASE_INTENT, {"phase": "apply", "attempt": 1}),
        (Kind.STEP_END, {"phase": "apply", "name": "limit", "changed": True}),
        (Kind.PHASE_RESULT, {"phase": "apply", "status": "ok"}),
        (Kind.VERIFY, {"probe": "ping", "ok": True}),
        (Kind.RUN_END, {"outcome": "recovered"}),
    ]
    for kind, data in steps:
        actor = Actor(type="operator", id="bob" if kind == Kind.APPROVAL_GRANTED else "alice")
        store.append(Draft(kind=kind, actor=actor, run_id=run, case_id=case, target="sw", data=data))
    if number % 2:
        store.checkpoint("run end")


# --- the attacker who recomputes ---------------------------------------------------------------------


class Attacker:
    """Holds a copy of the log; changes entries and makes everything fit that can be made to fit."""

    def __init__(self, db: Path, rng: random.Random) -> None:
        self.connection = sqlite3.connect(db, isolation_level=None)
        self.rng = rng
        rows = self.connection.execute("SELECT body FROM entries ORDER BY seq").fetchall()
        self.bodies = [json.loads(body) for (body,) in rows]
        self.notes: dict[int, str] = dict(
            self.connection.execute("SELECT size, note FROM checkpoints").fetchall()
        )
        self.roots: dict[int, bytes] = {}

    def place(self, first: int = 1) -> int:
        return self.rng.randrange(first, len(self.bodies) - 1)

    def store(self, signer: Signer | None = None) -> None:
        """Write everything back, recomputed; checkpoints that do not fit are dropped, or signed anew."""
        tree, prev, encoded = CompactRange(), "0" * 64, []
        fitting = {}
        for seq, record in enumerate(self.bodies):
            record.update(seq=seq, prev=prev)
            body = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
            encoded.append((seq, record["kind"], record["run_id"], record["case_id"], body))
            leaf = leaf_hash(body)
            tree.append(leaf)
            prev = leaf.hex()
            note = self.notes.get(tree.size)
            if note is not None and signer is not None:
                note = sign_checkpoint(signer.key.name, tree.size, tree.root(), [signer]).note_text
            if note is not None and verifier._parse_head(note).root == tree.root():
                fitting[tree.size] = note
        self._write(encoded, fitting, tree, prev)

    def _write(self, encoded: list[Any], notes: dict[int, str], tree: CompactRange, prev: str) -> None:
        self.connection.execute("BEGIN")
        self.connection.execute("DELETE FROM entries")
        self.connection.execute("DELETE FROM checkpoints")
        self.connection.executemany(
            "INSERT INTO entries (seq, kind, run_id, case_id, body) VALUES (?,?,?,?,?)", encoded
        )
        self.connection.executemany("INSERT INTO checkpoints VALUES (?, ?)", sorted(notes.items()))
        last = self.bodies[-1]["ts"] if self.bodies else ""
        self.connection.execute(
            "UPDATE log_head SET size = ?, peaks = ?, prev = ?, ts = ?, checkpointed = ?",
            (tree.size, b"".join(tree.hashes), prev, last, max(notes, default=0)),
        )
        self.connection.execute("COMMIT")


def naive_edit(attacker: Attacker, _log: Log) -> None:
    attacker.connection.execute(
        "UPDATE entries SET body = CAST(replace(CAST(body AS TEXT), 'sw', 'xx') AS BLOB) WHERE seq = ?",
        (attacker.rng.randrange(1, 100) // 9 * 9 + 2,),
    )


def naive_delete(attacker: Attacker, _log: Log) -> None:
    attacker.connection.execute("DELETE FROM entries WHERE seq = ?", (attacker.place(),))


def edit(attacker: Attacker, _log: Log) -> None:
    attacker.bodies[attacker.place()]["target"] = "other"
    attacker.store()


def delete(attacker: Attacker, _log: Log) -> None:
    del attacker.bodies[attacker.place()]
    attacker.store()


def swap(attacker: Attacker, _log: Log) -> None:
    at = attacker.place()
    attacker.bodies[at], attacker.bodies[at + 1] = attacker.bodies[at + 1], attacker.bodies[at]
    attacker.store()


def insert(attacker: Attacker, _log: Log) -> None:
    at = attacker.place()
    attacker.bodies.insert(at, {**attacker.bodies[at], "data": {"forged": True}})
    attacker.store()


def truncate_tail(attacker: Attacker, _log: Log) -> None:
    sizes = sorted(attacker.notes)
    del attacker.bodies[attacker.rng.randrange(sizes[-2] + 1, len(attacker.bodies)) :]
    attacker.store()


def truncate_at_checkpoint(attacker: Attacker, _log: Log) -> None:
    del attacker.bodies[attacker.rng.choice(sorted(attacker.notes)[3:-1]) :]
    attacker.store()


def restore_backup(attacker: Attacker, log: Log) -> None:
    with closing(sqlite3.connect(log.backup)) as backup:
        backup.backup(attacker.connection)


def rewrite_all(attacker: Attacker, _log: Log) -> None:
    for record in attacker.bodies[attacker.rng.randrange(1, 9) :]:
        record["actor"]["id"] = "mallory"
    attacker.store()


def wipe(attacker: Attacker, _log: Log) -> None:
    del attacker.bodies[attacker.rng.randrange(0, 2) :]
    attacker.store()


def own_key(attacker: Attacker, log: Log) -> None:
    """Rewrite and sign with a key made for the purpose, also where the log names its keys."""
    forged = Signer.generate(KeyRing(log.home / "keys").signer().key.name)
    for record in attacker.bodies:
        if record["kind"] == "log.created":
            record["data"]["vkey"] = str(forged.key)
    attacker.bodies[:] = [record for record in attacker.bodies if record["kind"] != "key.rotate"]
    attacker.bodies[attacker.place()]["target"] = "other"
    attacker.connection.execute("UPDATE log_head SET key = ?", (str(forged.key),))
    attacker.store(forged)


MUTATIONS: list[Callable[[Attacker, Log], None]] = [
    naive_edit,
    naive_delete,
    edit,
    delete,
    swap,
    insert,
    truncate_tail,
    truncate_at_checkpoint,
    restore_backup,
    rewrite_all,
    wipe,
    own_key,
]


def attacked(log: Log, copy: Path, mutation: Callable[[Attacker, Log], None], seed: int) -> Report:
    for leftover in copy.parent.glob(copy.name + "*"):
        leftover.unlink()
    shutil.copy(log.db, copy)
    attacker = Attacker(copy, random.Random(seed))
    mutation(attacker, log)
    attacker.connection.close()
    return log.verify(copy)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_an_attacker_without_key_and_anchors_is_found(
    log: Log, tmp_path: Path, mutation: Callable[[Attacker, Log], None]
) -> None:
    missed = []
    for seed in range(TRIALS):
        report = attacked(log, tmp_path / "copy.db", mutation, seed)
        assert_no_defect(report)
        if report.ok:
            missed.append(seed)
    print(f"COUNT audit mutation {mutation.__name__} found {TRIALS - len(missed)}/{TRIALS}")
    assert missed == []


def test_an_attacker_with_the_key_is_found_by_the_anchor_off_the_host(log: Log, tmp_path: Path) -> None:
    stolen = KeyRing(log.home / "keys").signer()
    found = found_without = 0

    def rewrite_new_epoch(attacker: Attacker, _log: Log) -> None:
        rotation = next(record["seq"] for record in attacker.bodies if record["kind"] == "key.rotate")
        old = {size: note for size, note in attacker.notes.items() if size <= rotation + 1}
        attacker.bodies[attacker.place(rotation + 2)]["target"] = "other"
        attacker.store(stolen)
        attacker.connection.executemany("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", old.items())

    for seed in range(TRIALS):
        report = attacked(log, tmp_path / "copy.db", rewrite_new_epoch, seed)
        assert_no_defect(report)
        found += any(finding.kind.startswith("anchor.") for finding in report.findings)
        found_without += not verify(tmp_path / "copy.db", keys=log.vkeys).ok
    print(f"COUNT audit rewrite with stolen key found by anchor {found}/{TRIALS}")
    assert found == TRIALS
    assert found_without == 0  # the attack is a good one: nothing but an anchor tells


def test_the_stolen_key_of_today_cannot_rewrite_what_the_old_one_signed(log: Log, tmp_path: Path) -> None:
    stolen = KeyRing(log.home / "keys").signer()

    def rewrite_old_epoch(attacker: Attacker, _log: Log) -> None:
        attacker.bodies[attacker.rng.randrange(1, 80)]["target"] = "other"
        attacker.store(stolen)

    for seed in range(TRIALS):
        attacked(log, tmp_path / "copy.db", rewrite_old_epoch, seed)
        assert not verify(tmp_path / "copy.db", keys=log.vkeys).ok
    print(f"COUNT audit rewrite of an older epoch found without anchors {TRIALS}/{TRIALS}")


def test_the_report_names_the_first_bad_entry_and_what_remains_proven(log: Log, tmp_path: Path) -> None:
    def change_entry_100(attacker: Attacker, _log: Log) -> None:
        attacker.bodies[100]["target"] = "other"
        attacker.store()

    report = attacked(log, tmp_path / "copy.db", change_entry_100, 0)
    first = report.first_bad
    assert first is not None
    assert first.seq is not None
    assert first.seq == report.proven_size
    assert first.seq <= 100 < first.seq + EVERY
    text = "\n".join(report.summary_lines())
    assert f"entries 0..{first.seq - 1} by the signing key" in text
    assert text.endswith("RESULT TAMPERED")


# --- flipped bits ------------------------------------------------------------------------------------------


def test_every_flipped_bit_in_the_rows_is_found(log: Log, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    shutil.copy(log.db, copy)
    connection = sqlite3.connect(copy, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    cells = [
        (table, column, rowid)
        for table, columns in {
            "entries": ("kind", "run_id", "case_id", "body", "body", "body"),
            "log_head": ("log_id", "origin", "every", "size", "prev", "peaks", "ts", "checkpointed", "key"),
            "checkpoints": ("size", "note", "note", "note"),
        }.items()
        for column in columns
        for (rowid,) in connection.execute(f"SELECT rowid FROM {table}")
    ]
    rng, missed, tried = random.Random(1), [], 0
    while tried < FLIPS:
        table, column, rowid = rng.choice(cells)
        where = (table, column, rowid)
        (value,) = connection.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
        if value == "":
            continue
        changed = flipped_value(value, rng)
        try:
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (changed, rowid))
        except sqlite3.IntegrityError:
            continue  # the flip gave a size that is taken
        tried += 1
        report = log.verify(copy)
        assert_no_defect(report)
        if report.ok:
            missed.append((*where, value, changed))
        now = changed if column == "size" and table == "checkpoints" else rowid
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, now))
    connection.close()
    assert log.verify(copy).ok
    print(f"COUNT bit flips in rows found {tried - len(missed)}/{tried}")
    assert missed == []


def flipped_value(value: object, rng: random.Random) -> object:
    if isinstance(value, int):
        return value ^ 1 << rng.randrange(40)
    raw = bytearray(value.encode() if isinstance(value, str) else bytes(value))  # type: ignore[call-overload]
    bit = rng.randrange(len(raw) * 8)
    raw[bit // 8] ^= 1 << bit % 8
    # Text with broken UTF-8 cannot be bound as text; as a blob it is the same bytes of another type.
    try:
        return raw.decode() if isinstance(value, str) else bytes(raw)
    except UnicodeDecodeError:
        return bytes(raw)


def test_every_flipped_bit_in_an_export_is_found(log: Log, tmp_path: Path) -> None:
    with AuditStore.open_readonly(log.db) as reader:
        export = export_jsonl(reader, tmp_path / "export.jsonl")
        bundle = evidence_bundle(reader, "run-3", tmp_path / "bundle")
    assert log.verify(export.path).ok, log.verify(export.path).findings
    anchored = verify(bundle, keys=log.vkeys)
    assert anchored.ok, anchored.findings
    files = [export.path, export.path, export.sidecar, *(f for f in bundle.rglob("*") if f.is_file())]
    rng, missed = random.Random(2), []
    for _ in range(FLIPS):
        file = rng.choice(files)
        content = file.read_bytes()
        bit = rng.randrange(len(content) * 8)
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bytes(changed))
        report = verify(bundle, keys=log.vkeys) if bundle in file.parents else log.verify(export.path)
        assert_no_defect(report)
        if report.ok:
            missed.append((file.name, bit))
        file.write_bytes(content)
    print(f"COUNT bit flips in exported files found {FLIPS - len(missed)}/{FLIPS}")
    assert missed == []


# --- hostile input -----------------------------------------------------------------------------------------


def assert_no_defect(report: Report) -> None:
    defects = [str(finding) for finding in report.findings if finding.kind == "verifier-defect"]
    assert defects == []


HOSTILE_VALUES: list[object] = [
    None,
    "",
    "text",
    b"",
    b"\xff\xfe",
    0,
    -1,
    2**62,
    1.5,
    b"[" * 100_000,
    b'{"a":' * 5_000,
    b"1" * 10_000,
    b"NaN",
    b'{"seq":1e999}',
    "\u2014 x AAAA\n",
    "a\n\n\u2014 b AAAA\n",
    "x" * 100_000,
    b"null",
    b"{}",
]


def test_hostile_values_never_make_the_verifier_raise(log: Log, tmp_path: Path) -> None:
    rng, copy = random.Random(3), tmp_path / "copy.db"
    for _ in range(HOSTILE):
        shutil.copy(log.db, copy)
        connection = sqlite3.connect(copy, isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(replace(sql, 'NOT NULL', ''), 'CHECK (id = 1)', '')"
        )
        connection.close()
        connection = sqlite3.connect(copy, isolation_level=None)
        table, columns = rng.choice(
            [
                ("entries", ("body", "kind", "run_id")),
                ("log_head", ("size", "peaks", "prev", "every", "key", "ts")),
                ("checkpoints", ("note",)),
                ("log_start", ("size", "prev", "peaks")),
            ]
        )
        if table == "log_start":
            row = [rng.choice(HOSTILE_VALUES) for _ in range(3)]
            connection.execute("INSERT INTO log_start (id, size, prev, peaks) VALUES (1, ?, ?, ?)", row)
        else:
            column = rng.choice(columns)
            connection.execute(
                f"UPDATE {table} SET {column} = ?"
                f" WHERE rowid IN (SELECT rowid FROM {table} ORDER BY random() LIMIT 3)",
                (rng.choice(HOSTILE_VALUES),),
            )
        connection.close()
        report = log.verify(copy)
        assert_no_defect(report)
        assert not report.ok
        assert report.summary_lines()
        json.dumps(report.as_json())
    print(f"COUNT hostile databases reported without an exception {HOSTILE}/{HOSTILE}")


def test_a_database_file_with_flipped_bytes_never_makes_the_verifier_raise(log: Log, tmp_path: Path) -> None:
    rng, copy, content = random.Random(4), tmp_path / "copy.db", log.db.read_bytes()
    unnoticed = 0
    for _ in range(HOSTILE):
        changed = bytearray(content)
        for _ in range(rng.choice([1, 1, 5, 500])):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        copy.write_bytes(bytes(changed))
        report = log.verify(copy)
        assert_no_defect(report)
        unnoticed += report.ok
    print(
        f"COUNT database files with random bytes {HOSTILE}, of which {unnoticed} changed nothing that counts"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"SQLite format 3\x00",
        b"SQLite format 3\x00" + b"\x00" * 4096,
        b"\x1f\x8b\x08",
        b"{}\n" * 3,
    ],
)
@pytest.mark.parametrize("name", ["a.db", "a.jsonl", "a.tar.gz"])
def test_files_of_other_kinds_are_unreadable(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for sidecar in (b"", b"[]", b'{"format":"remediate-audit-export/v1"}', b'{"format":1}'):
        (tmp_path / (name + ".proof.json")).write_bytes(sidecar)
        report = verify(path)
        assert_no_defect(report)
        assert report.exit_code == 4


def test_a_view_in_place_of_the_entries_is_refused(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS seq, x'' AS body"
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute(f"CREATE VIEW entries AS {endless} FROM n")
    report = verify(tmp_path / "a.db")
    assert_no_defect(report)
    assert report.exit_code == 4


# --- the verifier as one file ------------------------------------------------------------------------------


def standalone(directory: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "verify.py", *map(str, arguments)],
        cwd=directory,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A directory that holds the verifier and nothing of the toolkit."""
    directory = tmp_path / "alone"
    directory.mkdir()
    shutil.copy(verifier.__file__, directory / "verify.py")
    return directory


def test_the_verifier_needs_nothing_but_its_file(log: Log, alone: Path, tmp_path: Path) -> None:
    with AuditStore.open_readonly(log.db) as reader:
        export = export_jsonl(reader, tmp_path / "export.jsonl").path
        bundle = evidence_bundle(reader, "run-3", tmp_path / "bundle.tar.gz")
    trust = ["--anchors", log.anchors, "--keys", log.vkeys]
    for path in (log.db, export):
        done = standalone(alone, path, *trust, "--strict")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.endswith("RESULT OK\n")
    assert standalone(alone, bundle, "--keys", log.vkeys).returncode == 0
    report = json.loads(standalone(alone, log.db, *trust, "-o", "json").stdout)
    assert report["ok"] is True
    assert report["proven_size"] == report["size"]


def test_exit_codes(log: Log, alone: Path, tmp_path: Path) -> None:
    assert standalone(alone, log.db, "--keys", log.vkeys).returncode == 0
    assert standalone(alone, log.db, "--keys", log.vkeys, "--strict").returncode == 2  # nothing is anchored
    assert standalone(alone, tmp_path / "none.db").returncode == 3
    assert standalone(alone, "--nonsense").returncode == 3
    (tmp_path / "text").write_text("hello")
    assert standalone(alone, tmp_path / "text").returncode == 4
    attacked(log, tmp_path / "copy.db", edit, 1)
    done = standalone(alone, tmp_path / "copy.db", "--keys", log.vkeys)
    assert done.returncode == 1
    assert "first bad" in done.stdout


def test_the_verifier_shares_nothing_with_the_writer() -> None:
    source = Path(verifier.__file__).read_text()
    assert "remediate.audit" not in source
    assert "import remediate" not in source

"""Takes the trail, or the evidence of one run, to another machine; `verify.py` checks both there.

An export is two files: `NAME.jsonl` with the stored lines, byte for byte, and `NAME.jsonl.proof.json`
with the checkpoints, the public keys and where the export begins. A bundle is a directory (or
`.tar.gz`) with the entries of one run, a C2SP tlog-proof for each, the checkpoint they lead to, the
public keys, the verifier and a README.
"""

from __future__ import annotations

import base64
import io
import os
import sqlite3
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from remediate.audit import verify
from remediate.audit.canonical import canonical
from remediate.audit.checkpoint import Checkpoint
from remediate.audit.files import replace_file, sync_directory
from remediate.audit.history import KeyHistory, key_history
from remediate.audit.merkle import CompactRange, ProofTree, leaf_hash
from remediate.audit.store import AuditReader
from remediate.audit.transaction import NO_PREVIOUS, Head, decode_entries, load_head
from remediate.errors import AuditError
from remediate.model.entry import Entry

_BATCH = 4096

README = """Evidence of one run
===================

  python3 verify.py . --keys FILE

checks it on any machine with Python 3.11 or later and the `cryptography` package. FILE holds the public
keys of the log as they were published; without it the keys in this bundle are used, which come from the
same place as the evidence.

  entries.jsonl   the entries of the run, byte for byte as they were recorded
  proofs/         for each entry, a proof (C2SP tlog-proof) that it is in the log the checkpoint signs
  checkpoint      the signed head of the log
  vkeys           the public keys of the log, oldest first
  manifest.json   what is in here, and the statements by which one key followed another
  verify.py       the verifier

What it proves: these entries are in the log, unchanged, at these places. What it does not prove: that
the log holds no other entry of this run. For that, verify the whole log or its export.
"""


@dataclass(frozen=True, slots=True)
class Export:
    """What was written."""

    path: Path
    sidecar: Path
    start: int
    size: int
    #: SHA-256 (hex) of the entries file.
    sha256: str


def export_jsonl(reader: AuditReader, path: Path, *, until: int | None = None) -> Export:
    """Write all entries, or those below `until` (the size of a checkpoint), with their proof beside."""
    return reader.read(lambda connection: _export(connection, path, until))


def evidence_bundle(reader: AuditReader, run_id: str, path: Path) -> Path:
    """Write the evidence of one run: a directory, or an archive when `path` ends in `.tar.gz`."""
    members = reader.read(lambda connection: _bundle(connection, run_id))
    if path.name.endswith((".tar.gz", ".tgz")):
        replace_file(path, _archive(members, path.name.partition(".")[0]))
    else:
        _write_directory(path, members)
    return path


def log_start(connection: sqlite3.Connection) -> tuple[CompactRange, str]:
    """The tree of what was pruned, and the hash the first remaining entry refers to."""
    # -- log_start --
    row = connection.execute("SELECT size, prev, peaks FROM log_start").fetchone()
    if row is None:
        return CompactRange(), NO_PREVIOUS
    size, prev, peaks = row
    return CompactRange(size, [peaks[at : at + 32] for at in range(0, len(peaks), 32)]), prev


def _export(connection: sqlite3.Connection, path: Path, until: int | None) -> Export:
    connection.execute("BEGIN")  # one consistent state for all that follows
    try:
        head, (before, prev) = load_head(connection), log_start(connection)
        size = head.size if until is None else until
        # -- checkpoints_until --
        notes = connection.execute(
            "SELECT note FROM checkpoints WHERE size <= ? ORDER BY size", (size,)
        ).fetchall()
        digest = _write_lines(path, _bodies(connection, size))
        keys = key_history(connection, until=head.size)
        proof: dict[str, Any] = {
            "format": "remediate-audit-export/v1",
            "origin": head.origin,
            "start": before.size,
            "prev": prev,
            "peaks": [peak.hex() for peak in before.hashes],
            "size": size,
            "checkpoint_every": head.every,
            "vkey": keys.first,
            "rotations": list(keys.rotations),
            "revocations": list(keys.revocations),
            "checkpoints": [note for (note,) in notes],
            "vkeys": keys.vkeys,
        }
    finally:
        connection.execute("COMMIT")
    sidecar = path.with_name(path.name + ".proof.json")
    replace_file(sidecar, canonical(proof) + b"\n")
    return Export(path, sidecar, before.size, size, digest)


def _bodies(connection: sqlite3.Connection, size: int) -> Iterator[bytes]:
    # -- bodies_until --
    cursor = connection.execute("SELECT body FROM entries WHERE seq < ? ORDER BY seq", (size,))
    while rows := cursor.fetchmany(_BATCH):
        for (body,) in rows:
            yield body


def _write_lines(path: Path, bodies: Iterator[bytes]) -> str:
    digest = sha256()
    descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for body in bodies:
            line = body + b"\n"
            file.write(line)
            digest.update(line)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)
    return digest.hexdigest()


def _bundle(connection: sqlite3.Connection, run_id: str) -> dict[str, bytes]:
    connection.execute("BEGIN")
    try:
        entries = _entries_of(connection, run_id)
        checkpoint = _latest_checkpoint(connection)
        if entries[-1].seq >= checkpoint.size:
            raise AuditError(
                f"the newest entries of run {run_id} are not signed yet; make a checkpoint first"
            )
        before, _ = log_start(connection)
        leaves = [leaf_hash(body) for body in _bodies(connection, checkpoint.size)]
        history, head = key_history(connection, until=checkpoint.size), load_head(connection)
    finally:
        connection.execute("COMMIT")
    tree = ProofTree(leaves, before)
    members = {f"proofs/{e.seq}.tlog-proof": _proof(e.seq, tree, checkpoint) for e in entries}
    members |= {
        "README": README.encode(),
        "checkpoint": checkpoint.note_text.encode(),
        "entries.jsonl": b"".join(entry.body + b"\n" for entry in entries),
        "manifest.json": canonical(_manifest(run_id, entries, head, history)) + b"\n",
        "verify.py": Path(verify.__file__).read_bytes(),
        "vkeys": "".join(f"{vkey}\n" for vkey in history.vkeys).encode(),
    }
    sums = "".join(f"{sha256(content).hexdigest()}  {name}\n" for name, content in sorted(members.items()))
    return {**members, "SHA256SUMS": sums.encode()}


def _entries_of(connection: sqlite3.Connection, run_id: str) -> list[Entry]:
    """The entries of the run and of the case it belongs to."""
    # -- entries_of_run --
    rows = connection.execute(
        "SELECT body FROM entries WHERE run_id = :run OR seq IN (SELECT seq FROM entries WHERE run_id = ''"
        " AND case_id IN (SELECT case_id FROM entries WHERE run_id = :run AND case_id <> ''))"
        " ORDER BY seq",
        {"run": run_id},
    ).fetchall()
    if not run_id or not rows:
        raise AuditError(f"the trail holds no run {run_id!r}")
    return decode_entries(rows)


def _latest_checkpoint(connection: sqlite3.Connection) -> Checkpoint:
    # -- latest_checkpoint --
    row = connection.execute("SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1").fetchone()
    if row is None:
        raise AuditError("the trail has no checkpoint; run `remediate audit verify`")
    return Checkpoint.parse(row[0])


def _proof(seq: int, tree: ProofTree, checkpoint: Checkpoint) -> bytes:
    """https://c2sp.org/tlog-proof: header, index, hashes, an empty line, the checkpoint."""
    hashes = [base64.b64encode(node).decode() for node in tree.inclusion(seq)]
    lines = ["c2sp.org/tlog-proof@v1", f"index {seq}", *hashes]
    return ("\n".join(lines) + "\n\n" + checkpoint.note_text).encode()


def _manifest(run_id: str, entries: list[Entry], head: Head, history: KeyHistory) -> dict[str, Any]:
    return {
        "format": "remediate-evidence/v1",
        "origin": head.origin,
        "run_id": run_id,
        "entries": [entry.seq for entry in entries],
        "vkey": history.first,
        "rotations": list(history.rotations),
        "revocations": list(history.revocations),
    }


def _write_directory(path: Path, members: Mapping[str, bytes]) -> None:
    try:
        (path / "proofs").mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise AuditError(f"{path} exists already; name a directory that does not") from None
    for name, content in members.items():
        replace_file(path / name, content)


def _archive(members: Mapping[str, bytes], top: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in sorted(members.items()):
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()

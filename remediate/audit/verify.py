"""Checks an audit trail, an export of one, or an evidence bundle; needs nothing but this file.

    python3 verify.py audit.db|export.jsonl|BUNDLE [--anchors DIR] [--keys FILE] [--strict] [-o json]

Python 3.11 or later with the `cryptography` package. Nothing here is shared with the writer, so that a
mistake on one side does not hide on the other. Input may come from an attacker: whatever it holds
ends in a finding, never in an exception.

How a log is checked:

 1. bytes       each entry is stored in its one canonical form, with the fields it must have
 2. chain       `seq` counts up by one, `prev` is the leaf hash of the entry before
 3. tree        the RFC 6962 root at every signed size is computed from the stored bytes
 4. checkpoints each signed head carries that root; each key signs only within its epoch
 5. coverage    no more than `checkpoint_every` entries lie between two valid checkpoints: without
                this, someone who recomputes chain and tree would only have to drop the signatures
 6. anchors     the copies kept elsewhere agree with the log and are not longer than it
 7. meaning     no step without intent, no run without decision, no plan but the approved one, ...

Exit status: 0 OK, 1 tampered, 2 incomplete or unanchored (with --strict), 3 usage, 4 unreadable.
"""

from __future__ import annotations

import base64
import binascii
import gc
import hashlib
import json
import re
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

OK, TAMPERED, INCOMPLETE, USAGE, UNREADABLE = range(5)

#: Findings kept in the report; the rest is only counted.
MAX_FINDINGS = 100
#: Leaves per tree batch; a power of two. Small enough to stay in the processor's cache (measured).
BATCH = 256
#: No entry, note or bundle member is larger than this.
MAX_BLOB = 16 * 1024 * 1024
MAX_BUNDLE = 256 * 1024 * 1024
#: What a log promises when nothing it says about that can be read.
DEFAULT_EVERY = 256
NO_PREVIOUS = "0" * 64

TEXT_FIELDS = (
    "log_id",
    "ts",
    "mono_ns",
    "boot_id",
    "node",
    "run_id",
    "case_id",
    "kind",
    "target",
    "fault_code",
)
FIELDS = frozenset({*TEXT_FIELDS, "v", "seq", "prev", "actor", "data"})
_INT_LIMIT = 2**53
_DASH = "\N{EM DASH} "
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: where, what was expected and what was found."""

    #: First entry concerned; None when it is not about an entry.
    seq: int | None
    #: What is wrong, e.g. `chain`, `coverage`, `anchor.truncated`.
    kind: str
    expected: str
    found: str
    #: The exit status it leads to.
    level: int = TAMPERED
    #: Last entry concerned, where only a span can be named; None: `seq` is the very one.
    last: int | None = None

    def __str__(self) -> str:
        where = "" if self.seq is None else f" entry {self.seq}"
        return f"{self.kind}{where}: expected {self.expected}, found {self.found}"


@dataclass(slots=True)
class Report:
    """What was checked and what came out."""

    path: str
    strict: bool = False
    findings: list[Finding] = field(default_factory=list)
    #: How many findings there were beyond those kept.
    more: int = 0
    origin: str = ""
    #: Where the log begins after pruning, and its size.
    start: int = 0
    size: int = 0
    root: str = ""
    #: Entries below this are proven by a valid signature over a matching root.
    proven_size: int = 0
    #: Entries after the last anchor that agrees: an attacker with the key could have changed these.
    unanchored_tail: int = 0
    keys: int = 0
    keys_trusted: bool = False
    checkpoints: int = 0
    checkpoints_valid: int = 0
    largest_gap: int = 0
    anchors: dict[str, tuple[int, int]] = field(default_factory=dict)
    anchors_given: bool = False
    runs: int = 0
    open_runs: list[str] = field(default_factory=list)
    clock_steps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    semantics: bool = True
    bundle: bool = False

    @property
    def exit_code(self) -> int:
        """The exit status of the command."""
        levels = {finding.level for finding in self.findings if self.strict or finding.level != INCOMPLETE}
        return next((level for level in (TAMPERED, UNREADABLE, INCOMPLETE) if level in levels), OK)

    @property
    def ok(self) -> bool:
        """Whether nothing was found; an open or unanchored tail counts only with `strict`."""
        return self.exit_code == OK

    @property
    def first_bad(self) -> Finding | None:
        """The finding that names the earliest entry."""
        bad = [finding for finding in self.findings if finding.level != INCOMPLETE]
        return min(bad, key=lambda f: self.size if f.seq is None else f.seq, default=None)

    def add(
        self,
        kind: str,
        expected: object,
        found: object,
        *,
        seq: int | None = None,
        last: int | None = None,
        level: int = TAMPERED,
    ) -> None:
        """Keep a finding."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(seq, kind, _clip(expected), _clip(found), level, last))
        else:
            self.more += 1

    def _place(self, first: Finding) -> str:
        """Where the first bad entry is: a signed root names a span, a broken chain often the very place."""
        if first.seq is None:
            return f"the log ({first.kind})"
        if first.last is None or first.last == first.seq:
            return f"entry {first.seq} ({first.kind})"
        place = f"one of entries {first.seq}..{first.last} ({first.kind})"
        breaks = [f.seq for f in self.findings if f.kind == "chain" and f.seq is not None]
        within = [seq for seq in breaks if first.seq < seq <= first.last + 1]
        return f"{place}; the chain breaks after entry {within[0] - 1}" if within else place

    def counted(self, prefix: str) -> int:
        """How many findings are of this kind."""
        return sum(finding.kind.startswith(prefix) for finding in self.findings)

    def summary_lines(self) -> list[str]:
        """The report for people."""
        lines = [f"log          {self.origin or '?'}   keys {self.keys} epoch{'s' * (self.keys != 1)}"]
        if self.bundle:
            lines.append(f"bundle       {self.notes[0] if self.notes else ''}")
        else:
            span = f"seq {self.start}..{self.size - 1}   pruned before {self.start}"
            lines.append(f"entries      {self.size - self.start}  {span}")
        state = "FAILED" if self.counted("bytes") + self.counted("chain") + self.counted("tree") else "OK"
        lines.append(f"bytes/chain/tree  {state}   root {self.root or '?'}")
        valid = f"{self.checkpoints_valid}/{self.checkpoints} valid"
        lines.append(f"checkpoints  {valid}   largest gap {self.largest_gap} entries")
        lines.extend(self._anchor_lines())
        if self.semantics:
            lines.extend(self._semantic_lines())
        lines.extend(f"note         {note}" for note in self.notes[int(self.bundle) :])
        lines.extend(self._result_lines())
        return lines

    def _anchor_lines(self) -> list[str]:
        if not self.anchors_given:
            return ["anchors      none given: who holds the signing key could have rewritten all of it"]
        names = "  ".join(f"{name} {good}/{total}" for name, (good, total) in sorted(self.anchors.items()))
        return [
            f"anchors      {names or 'none for this log'}   unanchored tail {self.unanchored_tail} entries",
        ]

    def _semantic_lines(self) -> list[str]:
        return [
            f"semantics    {self.runs} runs: {self.counted('step-without-intent')} steps without intent, "
            f"{self.counted('run-without-decision')} runs without decision,",
            f"             {self.counted('plan-not-approved')} executed plan != approved plan, "
            f"{self.counted('self-approval')} self-approvals, {len(self.open_runs)} open runs",
            f"clock        {len(self.clock_steps)} backwards steps"
            + (f" ({'; '.join(self.clock_steps[:3])})" if self.clock_steps else ""),
        ]

    def _result_lines(self) -> list[str]:
        lines = [f"  {finding}" for finding in self.findings[:20]]
        if len(self.findings) + self.more > 20:
            lines.append(f"  ... and {len(self.findings) + self.more - 20} more")
        if first := self.first_bad:
            lines.append(f"first bad    {self._place(first)}")
        span = "all of this bundle" if self.bundle else f"entries {self.start}..{self.proven_size - 1}"
        lines.append(f"proven       {span + ' by the signing key' if self.proven_size else 'nothing'}")
        if self.anchors_given:
            anchored = self.size - self.unanchored_tail
            lines.append(f"             below {anchored} even against someone who holds the signing key")
        words = {OK: "OK", TAMPERED: "TAMPERED", INCOMPLETE: "INCOMPLETE", UNREADABLE: "UNREADABLE"}
        lines.append(f"RESULT {words[self.exit_code]}")
        return lines

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        return {
            "path": self.path,
            "ok": self.ok,
            "exit_code": self.exit_code,
            "strict": self.strict,
            "origin": self.origin,
            "start": self.start,
            "size": self.size,
            "root": self.root,
            "proven_size": self.proven_size,
            "unanchored_tail": self.unanchored_tail,
            "keys": {"epochs": self.keys, "trust_root_given": self.keys_trusted},
            "checkpoints": {
                "total": self.checkpoints,
                "valid": self.checkpoints_valid,
                "largest_gap": self.largest_gap,
            },
            "anchors": {
                name: {"valid": good, "total": total} for name, (good, total) in self.anchors.items()
            },
            "runs": self.runs,
            "open_runs": self.open_runs,
            "clock_steps": self.clock_steps,
            "notes": self.notes,
            "findings": [
                {"seq": f.seq, "kind": f.kind, "expected": f.expected, "found": f.found, "level": f.level}
                for f in self.findings
            ],
            "more_findings": self.more,
        }


class Damage(Exception):
    """A part of the input cannot be understood; the message says which and why."""


def verify(
    path: Path,
    *,
    anchors: Path | None = None,
    keys: Path | None = None,
    strict: bool = False,
    semantics: bool = True,
) -> Report:
    """Check `path`; whatever it holds, the answer is a report.

    `semantics=False` leaves out steps 1 and 7 and checks bytes by their hashes only.
    """
    report = Report(path=str(path), strict=strict, semantics=semantics, anchors_given=anchors is not None)
    try:
        with _without_collector():
            _verify(Path(path), anchors, keys, report)
    except (Damage, OSError, sqlite3.Error, UnicodeError) as error:
        # UnicodeError: SQLite quotes damaged names in its messages, and Python cannot decode them.
        report.add("unreadable", "a readable audit trail", error, level=UNREADABLE)
    except Exception as error:  # noqa: BLE001 - hostile input must end in a report; a test asserts that none gets here
        report.add("verifier-defect", "no exception", f"{type(error).__name__}: {error}", level=UNREADABLE)
    return report


@contextmanager
def _without_collector() -> Iterator[None]:
    """Millions of short-lived rows make the cycle collector run in vain for a tenth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _verify(path: Path, anchors: Path | None, keys: Path | None, report: Report) -> None:
    trusted = _read_vkeys(keys) if keys else None
    report.keys_trusted = trusted is not None
    copies = _read_anchors(anchors, report) if anchors else []
    if path.is_dir() or path.name.endswith((".tar.gz", ".tgz")):
        report.bundle = True
        _verify_bundle(_read_bundle(path), trusted, copies, report)
    elif not path.is_file():
        raise Damage(f"{path} is not there")
    elif _is_database(path):
        with _database(path, report) as source:
            _verify_log(source, trusted, copies, report)
    else:
        _verify_log(_export(path), trusted, copies, report)


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\x00"


# --- signed notes (https://c2sp.org/signed-note), strictly parsed ---------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """An Ed25519 public key in vkey form."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The four bytes a signature names it by."""
        return hashlib.sha256(self.name.encode() + b"\n\x01" + self.public).digest()[:4]

    def __str__(self) -> str:
        encoded = base64.b64encode(b"\x01" + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


@dataclass(frozen=True, slots=True)
class Note:
    """A signed text."""

    text: str
    #: Name, key id and signature of each line.
    signatures: tuple[tuple[str, bytes, bytes], ...]

    def lines(self, count: int, first: str | None = None) -> list[str]:
        """The lines of the text, which must be `count` and may have to begin with `first`."""
        lines = self.text[:-1].split("\n")
        if len(lines) != count or (first is not None and lines[0] != first):
            raise Damage(f"a note of {len(lines)} lines that begins {lines[0][:40]!r}")
        return lines


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint: what a note says about size and root."""

    origin: str
    size: int
    root: bytes
    note: Note


def _unbase64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Damage(f"not base64: {text[:60]!r}") from None
    if base64.b64encode(raw).decode() != text:  # spare bits must be zero
        raise Damage(f"not strict base64: {text[:60]!r}")
    return raw


def _number(text: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,15}", text, re.ASCII):
        raise Damage(f"not a tree size: {text[:40]!r}")
    return int(text)


def _parse_key(text: str) -> Key:
    name, _, rest = text.partition("+")
    raw = _unbase64(rest.partition("+")[2])
    key = Key(name, raw[1:])
    if len(raw) != 33 or raw[0] != 1 or not name or str(key) != text:
        raise Damage(f"not an Ed25519 verifier key: {text[:80]!r}")
    return key


def _parse_note(text: object) -> Note:
    if not isinstance(text, str):
        raise Damage(f"a note that is {type(text).__name__}")
    body, separator, block = text.rpartition("\n\n")
    if not separator or not body or not block.endswith("\n"):
        raise Damage("a note without signatures")
    signatures = []
    for line in block[:-1].split("\n"):
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        raw = _unbase64(encoded)
        if not line.startswith(_DASH) or not name or "+" in name or len(raw) != 68:
            raise Damage(f"a signature line that reads {line[:60]!r}")
        signatures.append((name, raw[:4], raw[4:]))
    return Note(body + "\n", tuple(signatures))


def _parse_head(text: object) -> Head:
    note = _parse_note(text)
    origin, size, root = note.lines(3)
    digest = _unbase64(root)
    if len(digest) != 32 or not origin:
        raise Damage("a checkpoint without origin or root")
    return Head(origin, _number(size), digest, note)


def _signed(note: Note, key: Key) -> bool:
    for name, key_id, signature in note.signatures:
        if name == key.name and key_id == key.key_id and _made_by(key.public, signature, note.text.encode()):
            return True
    return False


def _made_by(public: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        _public_key(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@cache
def _public_key(public: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(public)


# --- keys and their epochs --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Epoch:
    """Between which tree sizes (both included) a key may sign."""

    key: Key
    first: int
    last: int | None

    def covers(self, size: int) -> bool:
        """Whether the key may sign a checkpoint of this size."""
        return self.first <= size and (self.last is None or size <= self.last)


@dataclass(frozen=True, slots=True)
class Keys:
    """Who may sign what."""

    epochs: tuple[Epoch, ...] = ()
    #: Key and the size from which on it proves nothing.
    revoked: tuple[tuple[Key, int], ...] = ()

    def signers(self, head: Head) -> list[Key]:
        """The keys that validly signed `head` within their epochs."""
        return [e.key for e in self.epochs if e.covers(head.size) and _signed(head.note, e.key)]

    def believed(self, key: Key, size: int) -> bool:
        """Whether a signature of `key` at `size` was not revoked."""
        return not any(key == revoked and size >= first for revoked, first in self.revoked)

    def in_doubt(self, low: int, high: int) -> bool:
        """Whether a gap between checkpoints is there because a revocation made it."""
        return any(
            low < epoch.last and high > first
            for key, first in self.revoked
            for epoch in self.epochs
            if epoch.key == key and epoch.last is not None
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """A rotation or revocation as the log holds it."""

    seq: int | None
    note: Note


def _key_history(
    first: Key | None, rotations: Sequence[Statement], revocations: Sequence[Statement], report: Report
) -> Keys:
    """Epochs from the rotation statements, each signed by the key that goes and the key that comes."""
    epochs: list[Epoch] = []
    begin = 0
    for statement in rotations:
        _, origin, size, old_text, new_text = statement.note.lines(5, "remediate.key-rotate/v1")
        old, new, end = _parse_key(old_text), _parse_key(new_text), _number(size)
        if not (_signed(statement.note, old) and _signed(statement.note, new)) or origin != report.origin:
            report.add("keys.rotation", "a rotation signed by both keys", "an invalid one", seq=statement.seq)
            break
        if (
            (epochs and epochs[-1].key != old)
            or end <= begin
            or (statement.seq is not None and end != statement.seq + 1)
        ):
            report.add(
                "keys.rotation", "epochs that follow each other", f"one at size {end}", seq=statement.seq
            )
            break
        epochs[-1:] = [Epoch(old, epochs[-1].first if epochs else 0, end)]
        epochs.append(Epoch(new, end, None))
        begin = end
    if not epochs and first is not None:
        epochs.append(Epoch(first, 0, None))
    known = {epoch.key for epoch in epochs}
    revoked = []
    for statement in revocations:
        _, origin, size, text = statement.note.lines(4, "remediate.key-revoke/v1")
        if origin != report.origin or not any(_signed(statement.note, key) for key in known):
            report.add(
                "keys.revocation", "a revocation signed by a key of this log", "another", seq=statement.seq
            )
            continue
        revoked.append((_parse_key(text), _number(size)))
    return Keys(tuple(epochs), tuple(revoked))


def _trust(keys: Keys, trusted: Sequence[Key], report: Report) -> Keys:
    """Only the epochs that a trusted key vouches for: rotations carry trust in both directions."""
    used = [epoch.key for epoch in keys.epochs]
    report.keys = len(used)
    for key in trusted:
        if key not in used:
            report.add(
                "keys.unused", f"a log that was signed by the trusted key {key.key_id.hex()}", _ids(used)
            )
    if any(key in trusted for key in used):
        return keys
    if not trusted:
        report.add("keys.missing", "a public key to check signatures with (--keys)", "none", level=UNREADABLE)
    return Keys()


def _ids(keys: Iterable[Key]) -> str:
    return "keys " + (", ".join(key.key_id.hex() for key in keys) or "none")


def _read_vkeys(path: Path) -> list[Key]:
    file = path / "vkeys" if path.is_dir() else path
    return _parse_vkeys(_text(file.read_bytes()))


def _parse_vkeys(text: str) -> list[Key]:
    return [_parse_key(line) for line in text.splitlines() if line and not line.startswith("#")]


def _text(raw: object) -> str:
    if not isinstance(raw, bytes):
        raise Damage(f"{type(raw).__name__} instead of text")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Damage("text that is not UTF-8") from None


# --- the tree ---------------------------------------------------------------------------------------


def _leaf(body: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + body).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _fold(peaks: Sequence[bytes]) -> bytes:
    if not peaks:
        return hashlib.sha256(b"").digest()
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = _node(peak, root)
    return root


class Tree:
    """Roots at wanted sizes while leaves stream by, level by level in aligned batches."""

    def __init__(self, size: int, peaks: Sequence[bytes]) -> None:
        self.size = size
        self.peaks = list(peaks)

    def until_aligned(self) -> int:
        """How many leaves the next batch may have."""
        return BATCH - self.size % BATCH

    def extend(self, leaves: list[bytes], wanted: Iterable[int]) -> dict[int, bytes]:
        """Add at most `until_aligned()` leaves; the roots at those `wanted` sizes that lie within."""
        if self.size % BATCH:
            return self._extend_singly(leaves, set(wanted))
        sha256 = hashlib.sha256
        levels = [leaves]
        while len(levels[-1]) > 1:
            below = levels[-1]
            pairs = zip(below[::2], below[1::2], strict=False)
            levels.append([sha256(b"\x01" + left + right).digest() for left, right in pairs])
        roots = {size: _fold(self.peaks + _peaks(levels, size - self.size)) for size in wanted}
        self.peaks += _peaks(levels, len(leaves))
        self.size += len(leaves)
        if len(leaves) == BATCH:
            self._merge(self.size // BATCH)
        return roots

    def _extend_singly(self, leaves: list[bytes], wanted: set[int]) -> dict[int, bytes]:
        roots = {}
        for leaf in leaves:
            self.size += 1
            self.peaks.append(leaf)
            self._merge(self.size)
            if self.size in wanted:
                roots[self.size] = _fold(self.peaks)
        return roots

    def _merge(self, count: int) -> None:
        """Join equal neighbours after the `count`-th subtree of one kind was added."""
        while count % 2 == 0:
            right = self.peaks.pop()
            self.peaks.append(_node(self.peaks.pop(), right))
            count //= 2


def _peaks(levels: list[list[bytes]], count: int) -> list[bytes]:
    """The roots of the perfect subtrees over the first `count` leaves of a batch."""
    peaks, at = [], 0
    for bit in reversed(range(count.bit_length())):
        if count >> bit & 1:
            peaks.append(levels[bit][at >> bit])
            at += 1 << bit
    return peaks


def _included(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162, 2.1.3.2."""
    if not 0 <= index < size or len(leaf) != 32 or len(root) != 32:
        return False
    position, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position % 2 or position == last:
            result = _node(sibling, result)
            while position % 2 == 0 and position:
                position, last = position // 2, last // 2
        else:
            result = _node(result, sibling)
        position, last = position // 2, last // 2
    return last == 0 and result == root


# --- sources ------------------------------------------------------------------------------------------

#: seq, body, and what the lookup columns (kind, run, case) repeat; None where there are none. Without
#: step 7 only the first two.
Row = tuple[Any, ...]


@dataclass(slots=True)
class Source:
    """A log as it lies on the disk."""

    #: Gives the next n rows; fewer at the end.
    rows: Callable[[int], list[Row]]
    notes: list[tuple[object, object]]
    vkeys: list[Key]
    start: int = 0
    peaks: list[bytes] = field(default_factory=list)
    prev: str = NO_PREVIOUS
    #: The stored head by column; None for exports.
    head: dict[str, object] | None = None
    #: Size and origin an export claims.
    claimed: tuple[int, str] | None = None
    #: What an export says about keys before its beginning (the data of a prune entry).
    carried: dict[str, Any] | None = None


@contextmanager
def _database(path: Path, report: Report) -> Iterator[Source]:
    with _readable(path, report) as connection, closing(connection):
        # Hostile files: no oversized value, no trigger or view that runs code, bytes instead of text
        # so that broken UTF-8 is a finding and not an error.
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BLOB)
        connection.text_factory = bytes
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("BEGIN")
        _require_tables(connection)
        yield _database_source(path, connection, report)


def _require_tables(connection: sqlite3.Connection) -> None:
    """Real tables, not views that compute what they show."""
    # -- tables --
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    tables = {name: sql for name, sql in rows if isinstance(sql, bytes)}
    for name in (b"entries", b"log_head", b"checkpoints", b"log_start"):
        sql = tables.get(name)
        if sql is None or not sql.upper().startswith(b"CREATE TABLE") or b" AS " in sql.upper():
            raise Damage(f"not an audit trail: no table {name.decode()}")


def _database_source(path: Path, connection: sqlite3.Connection, report: Report) -> Source:
    # -- stored_head --
    columns = ("log_id", "origin", "every", "size", "prev", "peaks", "ts", "checkpointed", "key")
    heads = connection.execute(f"SELECT {', '.join(columns)} FROM log_head").fetchall()  # noqa: S608
    if len(heads) != 1:
        report.add("head", "one stored head", f"{len(heads)}")
    head = dict(zip(columns, heads[0], strict=True)) if heads else {}
    # -- signed_heads --
    notes = connection.execute("SELECT size, note FROM checkpoints ORDER BY size").fetchall()
    # -- log_start --
    starts = connection.execute("SELECT size, prev, peaks FROM log_start").fetchall()
    start, prev, peaks = _start_of(starts, report)
    # -- all_entries --
    cursor = connection.execute(
        "SELECT seq, body, kind, run_id, case_id FROM entries NOT INDEXED ORDER BY seq"
    )
    own = path.parent / "keys" / "vkeys"
    vkeys = _read_vkeys(own) if own.is_file() else []
    notes = [(size, _text_or_none(note)) for size, note in notes]
    return Source(cursor.fetchmany, notes, vkeys, start, peaks, prev, head)


def _text_or_none(raw: object) -> str | None:
    try:
        return _text(raw)
    except Damage:
        return None


def _start_of(rows: list[tuple[Any, Any, Any]], report: Report) -> tuple[int, str, list[bytes]]:
    if not rows:
        return 0, NO_PREVIOUS, []
    size, prev, peaks = rows[0]
    good = (
        len(rows) == 1
        and isinstance(size, int)
        and 0 < size < _INT_LIMIT
        and isinstance(peaks, bytes)
        and len(peaks) == 32 * size.bit_count()
        and isinstance(prev, bytes)
        and re.fullmatch(rb"[0-9a-f]{64}", prev) is not None
    )
    if not good:
        report.add("prune", "one readable record of where the log begins", "another")
        return 0, NO_PREVIOUS, []
    return size, prev.decode(), [peaks[at : at + 32] for at in range(0, len(peaks), 32)]


@contextmanager
def _readable(path: Path, report: Report) -> Iterator[sqlite3.Connection]:
    """A connection that also works on read-only media, where SQLite cannot open a WAL database."""
    import shutil
    import tempfile

    try:
        connection = _connect(path, "mode=ro")
    except sqlite3.OperationalError:
        wal = path.with_name(path.name + "-wal")
        if not (wal.is_file() and wal.stat().st_size):
            yield _connect(path, "immutable=1")
            return
        with tempfile.TemporaryDirectory(prefix="audit-verify-") as scratch:
            for file in (path, wal):
                shutil.copy(file, Path(scratch) / file.name)
            report.notes.append("read from a temporary copy, because the directory cannot be written")
            yield _connect(Path(scratch) / path.name, "mode=rw")
        return
    yield connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?{mode}", uri=True, isolation_level=None)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _export(path: Path) -> Source:
    """`export.jsonl` with its sidecar `export.jsonl.proof.json`."""
    sidecar = path.with_name(path.name + ".proof.json")
    if not sidecar.is_file():
        raise Damage(f"{sidecar.name} is not beside {path.name}, or this is not an audit trail at all")
    proof = _canonical_object(sidecar.read_bytes().removesuffix(b"\n"), "the sidecar")
    if proof.get("format") != "remediate-audit-export/v1":
        raise Damage(f"the sidecar's format is {proof.get('format')!r}")
    try:
        start, prev, size, origin = proof["start"], proof["prev"], proof["size"], proof["origin"]
        peaks = [bytes.fromhex(peak) for peak in proof["peaks"]]
        vkeys = [_parse_key(line) for line in proof["vkeys"]]
        notes: list[tuple[object, object]] = [(None, note) for note in proof["checkpoints"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damage(f"the sidecar lacks something: {error!r}") from None
    good = type(start) is int and type(size) is int and 0 <= start <= size and len(peaks) == start.bit_count()
    if (
        not good
        or not isinstance(prev, str)
        or not isinstance(origin, str)
        or any(len(p) != 32 for p in peaks)
    ):
        raise Damage("the sidecar does not say where the export begins")
    rows = _lines(path, start)
    return Source(
        lambda count: list(islice(rows, count)),
        notes,
        vkeys,
        start,
        peaks,
        prev,
        claimed=(size, origin),
        carried=proof,
    )


def _lines(path: Path, start: int) -> Iterator[Row]:
    with path.open("rb") as file:
        for seq, line in enumerate(iter(lambda: file.readline(MAX_BLOB), b""), start):
            # A line without its newline keeps its last byte, and so is not canonical.
            yield seq, line[:-1] if line.endswith(b"\n") else line + b"\x00", None, None, None


# --- entries ------------------------------------------------------------------------------------------


def _integer(text: str) -> int:
    value = int(text)
    if not -_INT_LIMIT < value < _INT_LIMIT:
        raise ValueError("an integer of 2**53 or more")
    return value


def _refused(text: str) -> Any:
    raise ValueError(f"the number {text[:40]}")


_DECODE = json.JSONDecoder(parse_int=_integer, parse_float=_refused, parse_constant=_refused).raw_decode
_ENCODE = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False
).encode


def _canonical_object(body: object, what: str) -> dict[str, Any]:
    """The object of canonical bytes; anything else is `Damage`."""
    if not isinstance(body, bytes):
        raise Damage(f"{what} that is {type(body).__name__}")
    try:
        text = body.decode()
        value, end = _DECODE(text)
        if end != len(text) or _ENCODE(value) != text:
            raise Damage(f"{what} that is not in canonical form")
    except (ValueError, RecursionError) as error:
        raise Damage(f"{what} that is not canonical JSON: {error}") from None
    if not isinstance(value, dict):
        raise Damage(f"{what} that is not an object")
    if not body.isascii():
        _require_ascii_keys(value, what)
    return value


def _require_ascii_keys(value: object, what: str) -> None:
    if isinstance(value, dict):
        if not all(key.isascii() for key in value):
            raise Damage(f"{what} with a key that is not ASCII")
        for member in value.values():
            _require_ascii_keys(member, what)
    elif isinstance(value, list):
        for member in value:
            _require_ascii_keys(member, what)


#: An entry whose fixed fields need no escapes, which is nearly every one. What matches is canonical
#: around `data`, whatever `data` is; so only that has to be decoded and encoded again.
_PLAIN = r'"([^"\\\x00-\x1f]*)"'
_ENTRY = re.compile(
    r'\{"actor":\{"auth":P,"id":P,"src":P,"type":P\},"boot_id":P,"case_id":P,"data":(\{.*\}),"fault_code":P,'
    r'"kind":P,"log_id":P,"mono_ns":P,"node":P,"prev":P,"run_id":P,"seq":(0|[1-9][0-9]{0,14}),"target":P,'
    r'"ts":"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)","v":1\}'.replace("P", _PLAIN)
)


def _entry(body: object) -> dict[str, Any]:
    """The fields of an entry that later steps look at; `Damage` when it is not one."""
    if not isinstance(body, bytes):
        raise Damage(f"an entry that is {type(body).__name__}")
    try:
        match = _ENTRY.fullmatch(body.decode())
    except UnicodeDecodeError:
        match = None
    if match is None:
        return _unusual_entry(body)
    _, actor, _, _, _, case, data, fault, kind, log, _, _, prev, run, seq, target, ts = match.groups()
    return {
        "actor": {"id": actor},
        "case_id": case,
        "data": _canonical_object(data.encode(), "data"),
        "fault_code": fault,
        "kind": kind,
        "log_id": log,
        "prev": prev,
        "run_id": run,
        "seq": int(seq),
        "target": target,
        "ts": ts,
    }


def _unusual_entry(body: bytes) -> dict[str, Any]:
    """The same by decoding and encoding all of it."""
    record = _canonical_object(body, "an entry")
    if record.keys() != FIELDS:
        raise Damage(f"an entry with other fields: {sorted(record.keys() ^ FIELDS)}")
    for name in TEXT_FIELDS:
        if type(record[name]) is not str:
            raise Damage(f"an entry whose {name} is not text")
    actor, data = record["actor"], record["data"]
    if type(data) is not dict or type(actor) is not dict or type(actor.get("id")) is not str:
        raise Damage("an entry whose actor or data is not an object")
    if record["v"] != 1 or type(record["seq"]) is not int or type(record["prev"]) is not str:
        raise Damage("an entry whose v, seq or prev is of another type")
    if not _TIME.fullmatch(record["ts"]):
        raise Damage(f"an entry whose ts is {record['ts'][:40]!r}")
    return record


class Meaning:
    """Step 7: what the entries say happened, and in which order."""

    def __init__(self, report: Report) -> None:
        self._report = report
        #: By run id and by case id, which are told apart by their first character.
        self._decided: set[str] = set()
        self._approved: dict[str, set[object]] = {}
        self._requesters: dict[str, set[object]] = {}
        self._phases: dict[str, set[object]] = {}
        self._verified: set[str] = set()
        self._open: dict[str, int] = {}
        self._last_ts = ""
        self._log_id = ""
        self._handlers: dict[str, Callable[[int, dict[str, Any], dict[str, Any]], None]] = {
            "decision": self._decision,
            "trigger.received": self._trigger,
            "approval.requested": self._requested,
            "approval.granted": self._granted,
            "run.start": self._start,
            "phase.intent": self._intent,
            "phase.result": self._step,
            "step.intent": self._step,
            "step.end": self._step,
            "verify": self._verify,
            "run.end": self._end,
            "clock.step": self._clock_step,
        }

    def see(self, seq: int, record: dict[str, Any]) -> None:
        """Take in the next entry."""
        if record["log_id"] != self._log_id:
            if self._log_id:
                self._report.add("log-id", self._log_id, record["log_id"], seq=seq)
            self._log_id = record["log_id"]
        handler = self._handlers.get(record["kind"])
        if handler is not None:
            handler(seq, record, record["data"])
        self._last_ts = record["ts"]

    @property
    def last_ts(self) -> str:
        """Time of the newest entry."""
        return self._last_ts

    @property
    def log_id(self) -> str:
        """The id all entries share."""
        return self._log_id

    def finish(self) -> None:
        """Report what never ended."""
        self._report.open_runs = sorted(self._open, key=self._open.__getitem__)[:MAX_FINDINGS]

    def _decision(self, _seq: int, record: dict[str, Any], _data: dict[str, Any]) -> None:
        self._decided.update(_names(record))

    def _trigger(self, _seq: int, record: dict[str, Any], _data: dict[str, Any]) -> None:
        for name in _names(record):
            self._requesters.setdefault(name, set()).add(record["actor"]["id"])

    def _requested(self, _seq: int, record: dict[str, Any], data: dict[str, Any]) -> None:
        if isinstance(requester := data.get("requester"), str):
            for name in _names(record):
                self._requesters.setdefault(name, set()).add(requester)

    def _granted(self, seq: int, record: dict[str, Any], data: dict[str, Any]) -> None:
        for name in _names(record):
            self._approved.setdefault(name, set()).add(_word(data.get("plan_hash")))
            approvers = {record["actor"]["id"], _word(data.get("approver"))}
            if both := approvers & self._requesters.get(name, set()):
                self._report.add(
                    "self-approval", "another approver than the requester", min(map(str, both)), seq=seq
                )
                break

    def _start(self, seq: int, record: dict[str, Any], data: dict[str, Any]) -> None:
        names, run = _names(record), record["run_id"]
        self._report.runs += 1
        self._open[run] = seq
        if self._decided.isdisjoint(names):
            self._report.add(
                "run-without-decision", "a decision before run.start", f"none for {run}", seq=seq
            )
        approved = set().union(*(self._approved.get(name, ()) for name in names))
        if approved and _word(data.get("plan_hash")) not in approved:
            expected = f"the approved plan {min(map(str, approved))}"
            self._report.add("plan-not-approved", expected, data.get("plan_hash"), seq=seq)

    def _intent(self, _seq: int, record: dict[str, Any], data: dict[str, Any]) -> None:
        self._phases.setdefault(record["run_id"], set()).add(_word(data.get("phase")))
        if data.get("phase") == "apply":
            self._verified.discard(record["run_id"])  # what was seen before the act proves nothing about it

    def _step(self, seq: int, record: dict[str, Any], data: dict[str, Any]) -> None:
        phases = self._phases.get(record["run_id"])
        if not phases or ("phase" in data and _word(data["phase"]) not in phases):
            found = f"{record['kind']} of {record['run_id'] or 'no run'}, phase {data.get('phase')}"
            self._report.add("step-without-intent", "phase.intent before it", found, seq=seq)

    def _verify(self, _seq: int, record: dict[str, Any], data: dict[str, Any]) -> None:
        if data.get("ok") is True:
            self._verified.add(record["run_id"])

    def _end(self, seq: int, record: dict[str, Any], data: dict[str, Any]) -> None:
        run = record["run_id"]
        self._open.pop(run, None)
        self._phases.pop(run, None)
        if data.get("outcome") == "recovered" and run not in self._verified:
            self._report.add(
                "recovered-unverified", "a verify entry that is ok after the act", f"none for {run}", seq=seq
            )
        self._verified.discard(run)

    def _clock_step(self, seq: int, _record: dict[str, Any], data: dict[str, Any]) -> None:
        if len(self._report.clock_steps) < MAX_FINDINGS:
            self._report.clock_steps.append(f"seq {seq}, {_clip(data.get('step_ms'))} ms")


def _names(record: Mapping[str, Any]) -> list[str]:
    """The run and the case an entry belongs to; a run id may stand for a case before there is one."""
    return [name for name in (record["run_id"], record["case_id"]) if name]


def _word(value: object) -> object:
    """`value` in a form that can be put into a set."""
    return value if isinstance(value, str) or value is None else repr(value)


# --- the log ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Scan:
    """What one pass over all entries leaves behind."""

    tree: Tree
    prev: str
    roots: dict[int, bytes]
    meaning: Meaning
    every: int = DEFAULT_EVERY
    first_key: Key | None = None
    carried_key: Key | None = None
    carried_rotations: list[Statement] = field(default_factory=list)
    carried_revocations: list[Statement] = field(default_factory=list)
    rotations: list[Statement] = field(default_factory=list)
    revocations: list[Statement] = field(default_factory=list)
    #: Sizes that prune entries name.
    pruned_to: set[int] = field(default_factory=set)


def _verify_log(
    source: Source, trusted: list[Key] | None, copies: list[tuple[str, Head]], report: Report
) -> None:
    heads = _heads(source, report)
    wanted = {head.size for head in heads} | {head.size for _, head in copies}
    scan = _scan(source, wanted, report)
    report.start, report.size = source.start, scan.tree.size
    report.root = base64.b64encode(_fold(scan.tree.peaks)).decode()
    report.origin = heads[-1].origin if heads else ""
    scan.meaning.finish()
    keys = _log_keys(source, scan, trusted, report)
    valid = _check_heads(heads, keys, scan, report)
    _check_coverage(valid, keys, scan, source, report)
    _check_stored_head(source, heads, scan, report)
    _check_prune(source, valid, scan, report)
    _check_anchors(copies, keys, scan, source, report)
    _settle(valid, report)


def _heads(source: Source, report: Report) -> list[Head]:
    heads: list[Head] = []
    for size, text in source.notes:
        try:
            head = _parse_head(text)
        except Damage as error:
            report.add("checkpoint", "a signed checkpoint", f"{error} (size {_clip(size)})")
            continue
        if size is not None and size != head.size:
            report.add("checkpoint", f"size {head.size} as signed", f"filed under {_clip(size)}")
        heads.append(head)
    if any(before.size >= after.size for before, after in pairwise(heads)):
        report.add("checkpoint", "sizes that grow", "another order")
    return sorted(heads, key=lambda head: head.size)


def _scan(source: Source, wanted: set[int], report: Report) -> Scan:
    """Steps 1, 2, 3 and 7 in one pass."""
    scan = Scan(Tree(source.start, source.peaks), source.prev, {}, Meaning(report))
    if source.start in wanted:
        scan.roots[source.start] = _fold(source.peaks)
    sizes = sorted(wanted, reverse=True)
    while True:
        try:
            rows = source.rows(scan.tree.until_aligned())
        except (sqlite3.Error, OSError, UnicodeError) as error:
            report.add("database", "readable entries", error, seq=scan.tree.size)
            break
        if not rows:
            break
        _scan_batch(rows, sizes, scan, report)
    return scan


def _scan_batch(rows: list[Row], sizes: list[int], scan: Scan, report: Report) -> None:
    low = scan.tree.size
    high = low + len(rows)
    seqs, bodies, *columns = zip(*rows, strict=True)
    if set(map(type, bodies)) != {bytes}:
        bodies = _only_bytes(bodies, low, report)
    if seqs != tuple(range(low, high)):
        at = next(i for i, seq in enumerate(seqs) if seq != low + i)
        report.add("chain.sequence", f"seq {low + at}", f"seq {_clip(seqs[at])}", seq=low + at)
    sha256 = hashlib.sha256
    leaves = [sha256(b"\x00" + body).digest() for body in bodies]
    _check_chain(bodies, leaves, low, scan, report)
    if report.semantics:
        _read_batch(bodies, columns, low, scan, report)
    within = []
    while sizes and sizes[-1] <= high:
        size = sizes.pop()
        if size > low:
            within.append(size)
    scan.roots.update(scan.tree.extend(leaves, within))


def _only_bytes(bodies: Sequence[Any], low: int, report: Report) -> tuple[bytes, ...]:
    for seq, body in enumerate(bodies, low):
        if type(body) is not bytes:
            report.add("bytes", "an entry stored as bytes", type(body).__name__, seq=seq)
    return tuple(body if type(body) is bytes else b"" for body in bodies)


def _check_chain(
    bodies: Sequence[bytes], leaves: Sequence[bytes], low: int, scan: Scan, report: Report
) -> None:
    """Compare `prev` of all entries of a batch at once.

    In canonical form a quote inside of text is escaped, so the last `,"prev":"` is the field itself:
    what follows it in sorted order (run_id, seq, target, ts, v) holds no object.
    """
    mark = b',"prev":"'
    found = [body[(at := body.rfind(mark) + 9) : at + 64] for body in bodies]
    expected = scan.prev + b"".join(leaves[:-1]).hex()
    scan.prev = leaves[-1].hex()
    if b"".join(found) != expected.encode() or set(map(len, found)) != {64}:
        for at, have in enumerate(found):
            want = expected[64 * at : 64 * at + 64]
            if have != want.encode():
                report.add("chain", f"prev {want}", f"prev {have.decode('latin-1')}", seq=low + at)
                break


def _read_batch(
    bodies: Sequence[bytes], columns: Sequence[Sequence[Any]], low: int, scan: Scan, report: Report
) -> None:
    see = scan.meaning.see
    for seq, body, kind, run_id, case_id in zip(range(low, low + len(bodies)), bodies, *columns, strict=True):
        try:
            record = _entry(body)
        except Damage as error:
            report.add("bytes", "a canonical entry", error, seq=seq)
            continue
        if record["seq"] != seq:
            report.add(
                "chain.sequence", f"seq {seq}", f"seq {record['seq']} ({record['kind'][:40]})", seq=seq
            )
        if kind is not None or run_id is not None or case_id is not None:
            stored = (record["kind"].encode(), record["run_id"].encode(), record["case_id"].encode())
            if (kind, run_id, case_id) != stored:
                report.add(
                    "columns", f"lookup columns as in the entry ({record['kind'][:40]})", "others", seq=seq
                )
        see(seq, record)
        if record["kind"] in _SELF_DESCRIPTION:
            _describe(seq, record["kind"], record["data"], scan, report)


_SELF_DESCRIPTION = frozenset({"log.created", "key.rotate", "key.revoke", "prune"})


def _describe(seq: int, kind: str, data: dict[str, Any], scan: Scan, report: Report) -> None:
    """Entries in which the log says something about itself."""
    try:
        if (
            kind in {"log.created", "prune"}
            and type(every := data.get("checkpoint_every")) is int
            and every > 0
        ):
            scan.every = every
        if kind == "log.created":
            scan.first_key = _parse_key(data["vkey"])
        elif kind == "key.rotate":
            scan.rotations.append(Statement(seq, _parse_note(data["note"])))
        elif kind == "key.revoke":
            scan.revocations.append(Statement(seq, _parse_note(data["note"])))
        else:
            scan.pruned_to.add(data["pruned_to"])
            _carry(data, scan)
    except (Damage, KeyError, TypeError, AttributeError) as error:
        report.add("keys", f"a {kind} entry with its statement", repr(error), seq=seq)


def _carry(data: Mapping[str, Any], scan: Scan) -> None:
    """Keys of the entries before the log begins; the newest prune entry knows them all."""
    scan.carried_key = _parse_key(data["vkey"])
    scan.carried_rotations = [Statement(None, _parse_note(note)) for note in data["rotations"]]
    scan.carried_revocations = [Statement(None, _parse_note(note)) for note in data["revocations"]]


def _log_keys(source: Source, scan: Scan, trusted: list[Key] | None, report: Report) -> Keys:
    if trusted is None:
        report.notes.append(
            "the keys come from the same place as the log: who could change one could change both"
        )
        trusted = source.vkeys
    if not report.semantics:
        # Without reading entries there is no rotation to follow: each given key may sign everything.
        report.keys = len(trusted)
        return Keys(tuple(Epoch(key, 0, None) for key in trusted))
    if source.start or source.carried is not None:
        _use_carried(source, scan, report)
    keys = _key_history(scan.first_key, scan.rotations, scan.revocations, report)
    if source.claimed is not None and [epoch.key for epoch in keys.epochs] != source.vkeys:
        report.add("keys.unused", "exactly the keys of this log in the sidecar", _ids(source.vkeys))
    used = [epoch.key for epoch in keys.epochs]
    for key in source.vkeys:
        if key not in used and key not in trusted:
            report.add("keys.unused", "public keys of this log beside it", f"key {key.key_id.hex()}")
    return _trust(keys, trusted, report)


def _use_carried(source: Source, scan: Scan, report: Report) -> None:
    """Add the statements about keys that lie outside of what was read."""
    try:
        if source.carried is not None:
            _carry(source.carried, scan)
            every = source.carried["checkpoint_every"]
            if type(every) is not int or every < 1 or (source.start == 0 and every != scan.every):
                report.add("coverage", f"checkpoint_every {scan.every}", _clip(every))
            else:
                scan.every = every
    except (Damage, KeyError, TypeError) as error:
        report.add("keys", "the keys from before the beginning", repr(error))
    if scan.first_key not in (None, scan.carried_key):
        report.add("keys", f"first key {scan.first_key}", str(scan.carried_key), seq=0)
    scan.first_key = scan.carried_key
    scan.rotations = _joined(scan.carried_rotations, scan.rotations)
    scan.revocations = _joined(scan.carried_revocations, scan.revocations)


def _joined(carried: list[Statement], read: list[Statement]) -> list[Statement]:
    known = [statement.note for statement in carried]
    return carried + [statement for statement in read if statement.note not in known]


def _check_heads(heads: list[Head], keys: Keys, scan: Scan, report: Report) -> list[Head]:
    """The checkpoints that are signed in their epoch and carry the computed root."""
    valid = []
    proven = 0
    report.checkpoints = len(heads)
    for head in heads:
        root = scan.roots.get(head.size)
        signers = keys.signers(head)
        if head.origin != report.origin:
            report.add("checkpoint.origin", report.origin, head.origin, seq=proven)
        elif len(signers) != len(head.note.signatures):
            report.add(
                "checkpoint.signature", f"only valid signatures at size {head.size}", "another", seq=proven
            )
        elif root is None:
            report.add("tree.size", f"{head.size} entries as signed", f"{scan.tree.size}", seq=scan.tree.size)
        elif root != head.root:
            signed = base64.b64encode(head.root).decode()
            found = f"{base64.b64encode(root).decode()} (an entry in {proven}..{head.size - 1} was changed)"
            expected = f"root {signed} at size {head.size}"
            report.add("tree.root", expected, found, seq=proven, last=head.size - 1)
        elif any(keys.believed(key, head.size) for key in signers):
            valid.append(head)
            proven = head.size
    report.checkpoints_valid = len(valid)
    return valid


def _check_coverage(valid: list[Head], keys: Keys, scan: Scan, source: Source, report: Report) -> None:
    """Step 5; an open tail that is not longer than allowed is only incomplete."""
    sizes = [source.start, *(head.size for head in valid if head.size > source.start)]
    end = scan.tree.size
    for low, high in pairwise(sizes):
        report.largest_gap = max(report.largest_gap, high - low)
        if high - low <= scan.every:
            continue
        if keys.in_doubt(low, high):
            report.notes.append(
                f"entries {low}..{high - 1} are covered by a later key only: a key was revoked"
            )
        else:
            report.add(
                "coverage", f"a checkpoint within {scan.every} entries", f"none until size {high}", seq=low
            )
    tail = end - sizes[-1]
    if tail > scan.every or (end and not valid):
        report.add(
            "coverage",
            f"a valid checkpoint within {scan.every} entries of the end",
            f"{tail} after the last",
            seq=sizes[-1],
        )
    elif tail:
        report.add(
            "open-tail",
            "a checkpoint at the end",
            f"{tail} entries after the last",
            seq=sizes[-1],
            level=INCOMPLETE,
        )
    if end == 0:
        report.add("empty", "a log with at least its first entry", "nothing", seq=0)


def _check_stored_head(source: Source, heads: list[Head], scan: Scan, report: Report) -> None:
    """The head the writer would continue from, or what an export claims."""
    if source.claimed is not None:
        size, origin = source.claimed
        if (size, origin) != (scan.tree.size, report.origin):
            report.add(
                "export",
                f"{size} entries of {origin}",
                f"{scan.tree.size} of {report.origin}",
                seq=min(size, scan.tree.size),
            )
    if not source.head:
        return
    expected: dict[str, object] = {
        "origin": report.origin.encode(),
        "size": scan.tree.size,
        "prev": scan.prev.encode(),
        "peaks": b"".join(scan.tree.peaks),
        "checkpointed": heads[-1].size if heads else 0,
    }
    if report.semantics:
        last = _last_key(scan)
        expected |= {
            "log_id": scan.meaning.log_id.encode(),
            "ts": scan.meaning.last_ts.encode(),
            "every": scan.every,
            "key": last.encode(),
        }
    for name, value in expected.items():
        if source.head.get(name) != value:
            report.add("head", f"{name} {_clip(value)}", _clip(source.head.get(name)), seq=scan.tree.size)


def _last_key(scan: Scan) -> str:
    if scan.rotations:
        try:
            return scan.rotations[-1].note.lines(5)[4]
        except Damage:
            return ""
    return str(scan.first_key) if scan.first_key else ""


def _check_prune(source: Source, valid: list[Head], scan: Scan, report: Report) -> None:
    """A log may begin later only where a signed prune entry says so and a checkpoint holds its root."""
    if source.start == 0:
        return
    if report.semantics and source.claimed is None and source.start not in scan.pruned_to:
        report.add(
            "prune", f"a prune entry for the {source.start} entries that are gone", "none", seq=source.start
        )
    if not any(head.size == source.start for head in valid):
        report.add("prune", f"a valid checkpoint at size {source.start}", "none", seq=source.start)


def _check_anchors(
    copies: list[tuple[str, Head]], keys: Keys, scan: Scan, source: Source, report: Report
) -> None:
    """Step 6: the log must continue every head that was kept elsewhere."""
    last, before = 0, 0
    seen: dict[int, bytes] = {}
    for name, head in copies:
        if head.origin != report.origin:
            continue
        good, total = report.anchors.get(name, (0, 0))
        fits, skipped = _check_anchor(name, head, keys, scan, source, seen, report)
        before += skipped
        last = max(last, head.size if fits else 0)
        report.anchors[name] = (good + fits, total + 1)
    if before:
        report.notes.append(f"{before} anchored checkpoints lie before the pruning and were not compared")
    report.unanchored_tail = scan.tree.size - last
    if report.unanchored_tail:
        what = (
            "no anchors were given"
            if not report.anchors_given
            else f"{report.unanchored_tail} entries are not"
        )
        report.add("unanchored", "every entry anchored elsewhere", what, seq=last, level=INCOMPLETE)


def _check_anchor(
    name: str, head: Head, keys: Keys, scan: Scan, source: Source, seen: dict[int, bytes], report: Report
) -> tuple[bool, bool]:
    """Whether the anchored head fits the log, and whether it lies before its beginning."""
    if seen.setdefault(head.size, head.root) != head.root:
        report.add(
            "anchor.fork", f"one root at size {head.size}", f"two were signed ({name})", seq=head.size - 1
        )
        return False, False
    if not keys.signers(head):
        report.add(
            "anchor.key", "an anchor signed by a key of this log", f"another at size {head.size} ({name})"
        )
        return False, False
    if head.size < source.start:
        return False, True
    root = scan.roots.get(head.size)
    if root is None:
        found = f"{scan.tree.size}: it was truncated or an older copy was put back"
        report.add("anchor.truncated", f"at least {head.size} entries ({name})", found, seq=scan.tree.size)
    elif root != head.root:
        report.add(
            "anchor.fork",
            f"the root anchored at size {head.size} ({name})",
            "another",
            seq=_agreed(head, seen, scan),
        )
    return root == head.root, False


def _agreed(head: Head, seen: Mapping[int, bytes], scan: Scan) -> int:
    """The largest anchored size below that still agrees: the change lies after it."""
    return max(
        (size for size, root in seen.items() if size < head.size and scan.roots.get(size) == root), default=0
    )


def _settle(valid: list[Head], report: Report) -> None:
    """What remains proven in spite of what was found."""
    contradicted = [f.seq for f in report.findings if f.kind.startswith("anchor.") and f.seq is not None]
    limit = min(contradicted, default=report.size)
    report.proven_size = max((head.size for head in valid if head.size <= limit), default=0)


# --- anchors ------------------------------------------------------------------------------------------

_RECORD = re.compile(rb"^note (\d{1,6})\n", re.MULTILINE)
_SYSLOG = re.compile(rb"remediate-checkpoint:([A-Za-z0-9+/=]+)")


def _read_anchors(path: Path, report: Report) -> list[tuple[str, Head]]:
    """All checkpoints in a file or directory: `*.checkpoints` of file anchors, and collected syslogs."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    copies = []
    for file in files:
        content = file.read_bytes()
        texts = _anchor_records(content) if file.name.endswith(".checkpoints") else _syslog_records(content)
        for raw in texts:
            try:
                copies.append((file.name, _parse_head(_text(raw))))
            except Damage as error:
                report.add("anchor.damaged", f"checkpoints in {file.name}", error, level=INCOMPLETE)
    return copies


def _anchor_records(content: bytes) -> Iterator[bytes]:
    at = 0
    while match := _RECORD.search(content, at):
        end = match.end() + int(match[1])
        note = content[match.end() : end]
        if content[end : end + 1] == b"\n" and not _RECORD.search(content, match.end(), end + 1):
            yield note
            at = end + 1
        else:  # torn by a power cut; what was appended later begins somewhere behind its header
            yield b""
            at = match.end()


def _syslog_records(content: bytes) -> Iterator[bytes]:
    for match in _SYSLOG.finditer(content):
        try:
            yield base64.b64decode(match[1], validate=True)
        except (binascii.Error, ValueError):
            yield b""


# --- evidence bundles -----------------------------------------------------------------------------------


def _read_bundle(path: Path) -> dict[str, bytes]:
    """The members of a bundle; an archive is read in memory and never unpacked."""
    if path.is_dir():
        members = {}
        for file in sorted(path.rglob("*")):
            if file.is_file() and file.stat().st_size <= MAX_BUNDLE:
                members[file.relative_to(path).as_posix()] = file.read_bytes()
        return members
    import tarfile
    import zlib

    members, total = {}, 0
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                total += member.size
                content = archive.extractfile(member) if member.isreg() and total <= MAX_BUNDLE else None
                if content is not None:
                    members[member.name.partition("/")[2]] = content.read()
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise Damage(f"not a readable archive: {error}") from None
    return members


def _verify_bundle(
    members: dict[str, bytes], trusted: list[Key] | None, copies: list[tuple[str, Head]], report: Report
) -> None:
    if "manifest.json" not in members or "entries.jsonl" not in members:
        raise Damage("not an evidence bundle: manifest.json and entries.jsonl expected")
    _check_sums(members, report)
    manifest = _canonical_object(members["manifest.json"].removesuffix(b"\n"), "the manifest")
    head = _parse_head(_text(members.get("checkpoint")))
    report.origin, report.checkpoints = head.origin, 1
    report.root = base64.b64encode(head.root).decode()
    keys = _bundle_keys(members, manifest, trusted, report)
    if len(keys.signers(head)) == len(head.note.signatures):
        report.checkpoints_valid = 1
    else:
        report.add("checkpoint.signature", "only valid signatures on the checkpoint", "another")
    count = _check_bundle_entries(members, manifest, head, report)
    report.notes.insert(
        0, f"{count} entries of run {_clip(manifest.get('run_id'))}, included in a log of {head.size}"
    )
    report.size = head.size
    report.proven_size = head.size if report.checkpoints_valid and not report.findings else 0
    _check_bundle_anchors(copies, head, report)


def _check_sums(members: dict[str, bytes], report: Report) -> None:
    expected = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in sorted(members.items())
        if name != "SHA256SUMS"
    )
    if members.get("SHA256SUMS") != expected.encode():
        report.add("bundle.sums", "files as SHA256SUMS lists them", "others")


def _bundle_keys(
    members: dict[str, bytes], manifest: dict[str, Any], trusted: list[Key] | None, report: Report
) -> Keys:
    own = _parse_vkeys(_text(members.get("vkeys")))
    if trusted is None:
        report.notes.append("the keys come from the bundle itself: compare them with the published ones")
        trusted = own
    try:
        rotations = [Statement(None, _parse_note(note)) for note in manifest["rotations"]]
        revocations = [Statement(None, _parse_note(note)) for note in manifest["revocations"]]
        first = _parse_key(manifest["vkey"])
    except (KeyError, TypeError, AttributeError) as error:
        raise Damage(f"the manifest lacks something: {error!r}") from None
    keys = _key_history(first, rotations, revocations, report)
    if {epoch.key for epoch in keys.epochs} != set(own):
        report.add("keys.unused", "exactly the keys of this log in vkeys", _ids(own))
    return _trust(keys, trusted, report)


def _check_bundle_entries(
    members: dict[str, bytes], manifest: dict[str, Any], head: Head, report: Report
) -> int:
    """Each line must be an entry of the log, by its proof; the number of lines."""
    lines = members["entries.jsonl"].split(b"\n")
    if lines.pop() != b"":
        report.add("bytes", "a newline after the last entry", "none")
    meaning, listed = Meaning(report), manifest.get("entries")
    seqs = []
    for line in lines:
        try:
            record = _entry(line)
            _check_proof(members.get(f"proofs/{record['seq']}.tlog-proof"), record["seq"], line, head)
        except Damage as error:
            report.add("tree.inclusion", "an entry with a valid proof", error)
            continue
        seqs.append(record["seq"])
        meaning.see(record["seq"], record)
    meaning.finish()
    if seqs != listed or seqs != sorted(set(seqs)):
        report.add("bundle.entries", f"the entries {_clip(listed)}", _clip(seqs))
    return len(lines)


def _check_proof(proof: object, seq: int, body: bytes, head: Head) -> None:
    """A C2SP tlog-proof: header, index, hashes, an empty line and the checkpoint."""
    header, separator, note = _text(proof).partition("\n\n")
    lines = header.split("\n")
    if not separator or lines[:2] != ["c2sp.org/tlog-proof@v1", f"index {seq}"]:
        raise Damage(f"the proof of entry {seq} is not a tlog-proof for it")
    if _parse_head(note) != head:
        raise Damage(f"the proof of entry {seq} is for another checkpoint")
    hashes = [_unbase64(line) for line in lines[2:]]
    if any(len(node) != 32 for node in hashes) or not _included(
        seq, head.size, _leaf(body), hashes, head.root
    ):
        raise Damage(f"entry {seq} is not in the signed log")


def _check_bundle_anchors(copies: list[tuple[str, Head]], head: Head, report: Report) -> None:
    """A bundle can be compared with anchors of its own size only."""
    same = [(name, copy) for name, copy in copies if copy.origin == head.origin and copy.size == head.size]
    for name, copy in same:
        good, total = report.anchors.get(name, (0, 0))
        report.anchors[name] = (good + (copy.root == head.root), total + 1)
        if copy.root != head.root:
            report.add("anchor.fork", f"the root anchored at size {head.size} ({name})", "another")
    if not any(copy.root == head.root for _, copy in same):
        report.unanchored_tail = head.size
        report.add(
            "unanchored", "the bundle's checkpoint among the anchors", "none of its size", level=INCOMPLETE
        )


def _clip(value: object) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return text if len(text) <= 200 else text[:200] + "..."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="verify.py", description="Check an audit trail, export or evidence bundle."
    )
    parser.add_argument("path", type=Path, help="audit.db, export.jsonl, or a bundle (directory or .tar.gz)")
    parser.add_argument("--anchors", type=Path, help="directory or file with checkpoints kept elsewhere")
    parser.add_argument("--keys", type=Path, help="public keys (vkeys) from a trusted place")
    parser.add_argument("--strict", action="store_true", help="an open or unanchored tail is a failure, too")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:
        return OK if stop.code == 0 else USAGE
    for given in (options.path, options.anchors, options.keys):
        if given is not None and not given.exists():
            sys.stderr.write(f"verify.py: {given} is not there\n")
            return USAGE
    report = verify(options.path, anchors=options.anchors, keys=options.keys, strict=options.strict)
    text = (
        json.dumps(report.as_json(), indent=2)
        if options.output == "json"
        else "\n".join(report.summary_lines())
    )
    sys.stdout.write(text + "\n")
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())

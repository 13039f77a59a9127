"""The directory with the signing key: one private key at a time, and the public keys of all epochs.

    keys/                0700
      signing.key        0600   the key in use
      signing.next       0600   only while a rotation is under way
      vkeys              0600   public keys, oldest first, one a line: publish these

A rotation is three steps, and a crash between any two of them is mended by the next one that looks:
the next key is staged; the log records the rotation; the staged key takes the place of the old one,
whose bytes are overwritten first. The last step gives forward security: who steals the key of today
cannot sign what yesterday's key signed. (On copy-on-write storage overwriting is not a promise.)
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path

from remediate.audit.files import make_private_dir, replace_file, sync_directory
from remediate.audit.note import ED25519, Note, Signer, VerifierKey, parse_note, sign
from remediate.errors import AuditError, AuditUnavailable

_PREFIX = "PRIVATE+KEY+"


class KeyRing:
    """The keys of one log, kept in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def create(cls, directory: Path, name: str) -> KeyRing:
        """A new key that signs under `name`, in a directory only its owner can enter."""
        ring = cls(directory)
        make_private_dir(directory)
        if ring._active.exists():
            raise AuditError(f"{directory} already holds a signing key")
        signer = Signer.generate(name)
        replace_file(ring._active, _encode(signer))
        replace_file(ring.vkeys_path, f"{signer.key}\n")
        return ring

    @property
    def exists(self) -> bool:
        """Whether there is a signing key."""
        return self._active.exists()

    @property
    def vkeys_path(self) -> Path:
        """The file with the public keys."""
        return self.directory / "vkeys"

    @property
    def _active(self) -> Path:
        return self.directory / "signing.key"

    @property
    def _next(self) -> Path:
        return self.directory / "signing.next"

    def signer(self) -> Signer:
        """The key in use."""
        return _read_signer(self._active)

    def signer_for(self, key_id: bytes) -> Signer:
        """The key the log names as its signer, finishing or undoing an interrupted rotation."""
        # The staged key first: a crash in `promote` may have left the old one overwritten.
        if self._next.exists() and _read_signer(self._next).key.key_id == key_id:
            return self.promote()
        active = self.signer()
        if active.key.key_id == key_id:
            return active
        raise AuditUnavailable(
            f"the log is signed by key {key_id.hex()}, but {self.directory} holds {active.key.key_id.hex()}; "
            "restore the right key directory"
        )

    def public_keys(self) -> tuple[VerifierKey, ...]:
        """The public keys of all epochs, oldest first."""
        try:
            lines = self.vkeys_path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise AuditUnavailable(f"{self.vkeys_path} cannot be read: {error}") from error
        return tuple(VerifierKey.parse(line) for line in lines if line)

    def stage(self) -> Signer:
        """A fresh key for the next epoch, durable but not yet in use."""
        staged = Signer.generate(self.signer().key.name)
        replace_file(self._next, _encode(staged))
        return staged

    def promote(self) -> Signer:
        """Put the staged key to use and destroy the private part of the old one."""
        staged = _read_signer(self._next)
        known = self.public_keys()
        if staged.key not in known:
            replace_file(self.vkeys_path, "".join(f"{key}\n" for key in (*known, staged.key)))
        _overwrite(self._active)
        self._next.rename(self._active)
        sync_directory(self.directory)
        return staged


@dataclass(frozen=True, slots=True)
class Rotation:
    """The statement that from tree size `size` on `new` signs instead of `old`; both sign it."""

    origin: str
    size: int
    old: VerifierKey
    new: VerifierKey

    def signed(self, old: Signer, new: Signer) -> Note:
        """The statement as a note under both keys."""
        text = f"remediate.key-rotate/v1\n{self.origin}\n{self.size}\n{self.old}\n{self.new}\n"
        return sign(text, [old, new])

    @classmethod
    def parse(cls, note_text: str) -> Rotation:
        """The statement of a note; signatures are the verifier's business."""
        lines = parse_note(note_text).text.split("\n")
        if len(lines) != 6 or lines[0] != "remediate.key-rotate/v1" or not lines[2].isdecimal():
            raise AuditError("not a key rotation statement")
        return cls(lines[1], int(lines[2]), VerifierKey.parse(lines[3]), VerifierKey.parse(lines[4]))


@dataclass(frozen=True, slots=True)
class Revocation:
    """The statement that `revoked` is not believed for tree sizes of `from_size` and above."""

    origin: str
    from_size: int
    revoked: VerifierKey

    def signed(self, by: Signer) -> Note:
        """The statement as a note under the key that took over."""
        return sign(f"remediate.key-revoke/v1\n{self.origin}\n{self.from_size}\n{self.revoked}\n", [by])


def _encode(signer: Signer) -> str:
    secret = base64.b64encode(bytes([ED25519]) + signer.seed).decode()
    return f"{_PREFIX}{signer.key.name}+{signer.key.key_id.hex()}+{secret}\n"


def _read_signer(path: Path) -> Signer:
    try:
        name, key_id, secret = path.read_text(encoding="utf-8").strip().removeprefix(_PREFIX).split("+", 2)
        raw = base64.b64decode(secret, validate=True)
        signer = Signer.from_seed(name, raw[1:])
    except OSError as error:
        raise AuditUnavailable(f"the signing key cannot be read: {error}") from error
    except ValueError as error:
        raise AuditUnavailable(f"{path} is not a signing key; restore it from where it came") from error
    if raw[0] != ED25519 or signer.key.key_id.hex() != key_id:
        raise AuditUnavailable(f"{path} is not an Ed25519 signing key; restore it from where it came")
    return signer


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\x00" * path.stat().st_size)
        file.flush()
        os.fsync(file.fileno())

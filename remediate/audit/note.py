"""C2SP signed notes (https://c2sp.org/signed-note) with Ed25519: signing, keys and a strict parser.

Strict means: the parsed note is encoded again and must give the same bytes, so no two byte strings
pass for the same note. Lax base64 was seen to let flipped bits through.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from remediate.errors import AuditError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: The algorithm byte of Ed25519; others can be added beside it.
ED25519 = 1
_DASH = "\N{EM DASH} "


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key and the name it signs under."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The four bytes by which a signature names its key."""
        return sha256(self.name.encode() + b"\n" + bytes([ED25519]) + self.public).digest()[:4]

    def __str__(self) -> str:
        encoded = base64.b64encode(bytes([ED25519]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """The key of a `name+id+base64` line."""
        parts = text.split("+", 2)
        try:
            raw = base64.b64decode(parts[2], validate=True)
        except (IndexError, binascii.Error, ValueError):
            raise AuditError(f"not a verifier key (name+id+base64): {text[:80]!r}") from None
        key = cls(name=parts[0], public=raw[1:])
        if raw[:1] != bytes([ED25519]) or len(raw) != 33 or str(key) != text or not _is_name(parts[0]):
            raise AuditError(f"not an Ed25519 verifier key: {text[:80]!r}")
        return key

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether this key made `signature` over `message`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key with its public half."""

    key: VerifierKey
    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, name: str) -> Signer:
        """A fresh key that signs under `name`."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls.of(name, Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Signer:
        """The key with this 32-byte seed."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls.of(name, Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def of(cls, name: str, private: Ed25519PrivateKey) -> Signer:
        """A signer around an existing private key."""
        if not _is_name(name):
            raise AuditError(f"a key name has no spaces and no '+': {name!r}")
        return cls(
            key=VerifierKey(name=name, public=private.public_key().public_bytes_raw()), private=private
        )

    @property
    def seed(self) -> bytes:
        """The secret; for the key file only."""
        return self.private.private_bytes_raw()


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line of a note."""

    name: str
    key_id: bytes
    value: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.value).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text and the signatures under it."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return self.text + "\n" + "".join(map(str, self.signatures))

    def signed_by(self, key: VerifierKey) -> bool:
        """Whether one of the signatures is a valid one of `key`."""
        return any(
            line.name == key.name
            and line.key_id == key.key_id
            and key.verifies(self.text.encode(), line.value)
            for line in self.signatures
        )


def sign(text: str, signers: Sequence[Signer]) -> Note:
    """The note over `text` with one signature line per signer."""
    if not text.endswith("\n"):
        raise AuditError("the text of a signed note ends with a newline")
    lines = [
        Signature(signer.key.name, signer.key.key_id, signer.private.sign(text.encode()))
        for signer in signers
    ]
    return Note(text=text, signatures=tuple(lines))


def parse_note(text: str) -> Note:
    """The note that encodes to exactly `text`; signatures are not checked here."""
    body, separator, block = text.rpartition("\n\n")
    if not separator or not block.endswith("\n"):
        raise AuditError("not a signed note: no signature block")
    note = Note(text=body + "\n", signatures=tuple(map(_parse_signature, block[:-1].split("\n"))))
    if str(note) != text:
        raise AuditError("not a signed note: it does not encode to the same bytes")
    return note


def _parse_signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not line.startswith(_DASH) or not _is_name(name) or len(raw) != 68:
        raise AuditError(f"not an Ed25519 signature line: {line[:80]!r}")
    return Signature(name=name, key_id=raw[:4], value=raw[4:])


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(char.isspace() for char in name) and name.isprintable()

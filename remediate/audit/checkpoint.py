"""A checkpoint: the signed head of the log (https://c2sp.org/tlog-checkpoint)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from remediate.audit.note import Signer, parse_note, sign
from remediate.errors import AuditError


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Log, size and root, with the note that signs them."""

    origin: str
    size: int
    root: bytes
    #: The whole signed note; what goes to anchors and into exports.
    note_text: str

    @classmethod
    def parse(cls, note_text: str) -> Checkpoint:
        """The checkpoint of a signed note; signatures are the verifier's business."""
        lines = parse_note(note_text).text.split("\n")
        try:
            origin, size, root = lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True)
        except (IndexError, ValueError, binascii.Error):
            raise AuditError("not a checkpoint: origin, size and root expected") from None
        if checkpoint_text(origin, size, root) != "\n".join(lines):
            raise AuditError("not a checkpoint: it does not encode to the same bytes")
        return cls(origin=origin, size=size, root=root, note_text=note_text)


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """The three lines that are signed."""
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"


def sign_checkpoint(origin: str, size: int, root: bytes, signers: Sequence[Signer]) -> Checkpoint:
    """The checkpoint at `size`, signed by each of `signers`."""
    note = sign(checkpoint_text(origin, size, root), signers)
    return Checkpoint(origin=origin, size=size, root=root, note_text=str(note))

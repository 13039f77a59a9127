"""Signed notes, keys and checkpoints: strict in what they take."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from remediate.audit.checkpoint import Checkpoint, sign_checkpoint
from remediate.audit.keys import KeyRing
from remediate.audit.note import Signer, VerifierKey, parse_note, sign
from remediate.errors import AuditError, AuditUnavailable

SIGNER = Signer.from_seed("node/remediate-1", bytes(range(32)))


def test_a_note_survives_its_text_form() -> None:
    other = Signer.generate("witness")
    note = parse_note(str(sign("a\nb\n", [SIGNER, other])))
    assert note.text == "a\nb\n"
    assert note.signed_by(SIGNER.key)
    assert note.signed_by(other.key)
    assert not note.signed_by(Signer.generate("witness").key)


def test_every_flipped_bit_of_a_checkpoint_is_refused() -> None:
    raw = sign_checkpoint("node/remediate-1", 42, bytes(32), [SIGNER]).note_text.encode()
    survivors = [bit for bit in range(len(raw) * 8) if accepted(flipped(raw, bit))]
    print(f"COUNT bit flips of a checkpoint refused {len(raw) * 8 - len(survivors)}/{len(raw) * 8}")
    assert survivors == []


def flipped(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def accepted(raw: bytes) -> bool:
    try:
        text = raw.decode()
        Checkpoint.parse(text)
        return parse_note(text).signed_by(SIGNER.key)
    except (UnicodeDecodeError, AuditError):
        return False


@pytest.mark.parametrize(
    "text", ["", "\n", "a\n", "a\n\n", "a\n\n- x AAAA\n", "a\n\n\N{EM DASH} x AAAA\n", "a\n\n\N{EM DASH} x\n"]
)
def test_what_is_not_a_note_is_refused(text: str) -> None:
    with pytest.raises(AuditError):
        parse_note(text)


def test_a_public_key_survives_its_text_form() -> None:
    assert VerifierKey.parse(str(SIGNER.key)) == SIGNER.key


@pytest.mark.parametrize(
    "text", ["", "a+b", "a+00000000+AAAA", f"{SIGNER.key}=", str(SIGNER.key).replace("n", "m", 1)]
)
def test_what_is_not_a_public_key_is_refused(text: str) -> None:
    with pytest.raises(AuditError):
        VerifierKey.parse(text)


def test_a_key_name_that_would_break_the_note_is_refused() -> None:
    with pytest.raises(AuditError):
        Signer.generate("two words")


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    ring = KeyRing.create(tmp_path / "keys", "node/remediate-1")
    assert stat.S_IMODE(ring.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in ring.directory.iterdir()} == {0o600}
    with pytest.raises(AuditError):
        KeyRing.create(tmp_path / "keys", "again")


def test_rotation_destroys_the_old_private_key(tmp_path: Path) -> None:
    ring = KeyRing.create(tmp_path / "keys", "node/remediate-1")
    old = ring.signer()
    new = ring.stage()
    assert ring.signer_for(old.key.key_id).key == old.key
    assert ring.signer_for(new.key.key_id).key == new.key
    assert ring.signer().key == new.key
    assert [key.key_id for key in ring.public_keys()] == [old.key.key_id, new.key.key_id]
    assert not any(old.seed in file.read_bytes() for file in ring.directory.iterdir())
    with pytest.raises(AuditUnavailable, match="restore the right key directory"):
        ring.signer_for(old.key.key_id)


def test_a_rotation_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    ring = KeyRing.create(tmp_path / "keys", "node/remediate-1")
    new = ring.stage()
    (ring.directory / "signing.key").write_bytes(b"\x00" * 80)  # overwritten, not yet replaced
    assert ring.signer_for(new.key.key_id).key == new.key


def test_a_damaged_key_file_says_so(tmp_path: Path) -> None:
    ring = KeyRing.create(tmp_path / "keys", "node/remediate-1")
    (ring.directory / "signing.key").write_text("nonsense")
    with pytest.raises(AuditUnavailable, match="not a signing key"):
        ring.signer()

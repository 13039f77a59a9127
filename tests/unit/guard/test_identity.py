"""Named tokens and what they may do."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from remediate.errors import ConfigError, PermissionRefused, UsageError
from remediate.guard.identity import (
    ROLE_ACTIONS,
    Action,
    Identity,
    Role,
    Tokens,
    current_identity,
    may,
    read_token,
    require,
)

ME = os.getuid()


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "state" / "tokens")


def whoami(tokens: Tokens, text: str | None = None, *, uid: int = ME, **changes) -> Identity:
    return current_identity(tokens, text, **({"uid": uid, "loginuid": None, "tty": None} | changes))


def test_a_token_names_its_person_and_role(tokens: Tokens) -> None:
    text = tokens.add("alice", Role.OPERATOR)

    found = tokens.find(text)

    assert text.startswith("rmt_alice_")
    assert (found.id, found.roles, found.auth) == ("alice", {Role.OPERATOR}, "token")


def test_a_token_has_at_least_128_random_bits(tokens: Tokens) -> None:
    secret = tokens.add("alice", Role.OPERATOR).removeprefix("rmt_alice_")

    assert len(bytes.fromhex(secret)) * 8 >= 128
    assert secret not in tokens.add("bob", Role.OPERATOR)


@pytest.mark.parametrize("text", ["", "rmt_alice_", "rmt_alice_00", "rmt_bob_", "\ud800", "x" * 100_000])
def test_an_unknown_text_is_nobody(tokens: Tokens, text: str) -> None:
    tokens.add("alice", Role.OPERATOR)

    assert tokens.find(text) is None


def test_the_file_holds_no_token_and_is_private(tokens: Tokens) -> None:
    text = tokens.add("alice", Role.OPERATOR)

    stored = tokens.path.read_text()

    assert text not in stored
    assert text.rsplit("_", 1)[1] not in stored
    assert tokens.path.stat().st_mode & 0o777 == 0o600


def test_after_a_rotation_two_tokens_are_valid_and_after_the_next_the_first_is_not(tokens: Tokens) -> None:
    first = tokens.add("alice", Role.OPERATOR)
    second = tokens.rotate("alice")
    assert tokens.find(first)
    assert tokens.find(second)

    third = tokens.rotate("alice")

    assert tokens.find(first) is None
    assert tokens.find(second)
    assert tokens.find(third)


def test_revoking_ends_all_of_a_name_at_once(tokens: Tokens) -> None:
    texts = [tokens.add("alice", Role.OPERATOR), tokens.rotate("alice")]
    tokens.add("bob", Role.APPROVER)

    tokens.revoke("alice")

    assert [tokens.find(text) for text in texts] == [None, None]
    assert [token.name for token in tokens.list()] == ["bob"]


def test_a_name_is_given_once(tokens: Tokens) -> None:
    tokens.add("alice", Role.OPERATOR)

    with pytest.raises(UsageError, match="rotate alice"):
        tokens.add("alice", Role.APPROVER)


@pytest.mark.parametrize("name", ["", "Alice", "uid:0(root)", "a b", "-x", "a" * 33, "älice", "a\n"])
def test_a_name_that_could_be_mistaken_is_refused(tokens: Tokens, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a token"):
        tokens.add(name, Role.OPERATOR)


@pytest.mark.parametrize("change", ["rotate", "revoke"])
def test_what_is_not_there_cannot_be_changed(tokens: Tokens, change: str) -> None:
    with pytest.raises(UsageError, match="there is no token 'alice'"):
        getattr(tokens, change)("alice")


def test_two_writers_lose_nothing(tokens: Tokens) -> None:
    writers = [threading.Thread(target=tokens.add, args=(f"p{n}", Role.OPERATOR)) for n in range(20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert len(tokens.list()) == 20


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": 2, "tokens": []}',
        '{"format": 1, "tokens": [{"name": "a"}]}',
        '{"format": 1, "tokens": [{"name": "a", "role": "king", "sha256": []}]}',
        '{"format": 1, "tokens": [{"name": "a", "role": "admin", "sha256": ["no"]}]}',
        '{"format": 1, "tokens": [{"name": "a", "role": "admin", "sha256": [7]}]}',
        '{"format": 1, "tokens": null}',
    ],
)
def test_a_damaged_file_is_our_error_and_lets_nobody_in(tokens: Tokens, content: str) -> None:
    tokens.path.parent.mkdir()
    tokens.path.write_text(content)
    tokens.path.chmod(0o600)

    with pytest.raises(ConfigError, match="does not hold tokens"):
        tokens.find("x")
    with pytest.raises(ConfigError):
        whoami(tokens)


def test_a_file_that_others_could_write_is_not_believed(tokens: Tokens) -> None:
    text = tokens.add("alice", Role.ADMIN)
    tokens.path.chmod(0o620)

    with pytest.raises(ConfigError, match="chmod 600"):
        tokens.find(text)


def test_a_link_in_place_of_the_file_is_not_followed(tokens: Tokens, tmp_path: Path) -> None:
    text = tokens.add("alice", Role.ADMIN)
    tokens.path.rename(tmp_path / "elsewhere")
    tokens.path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigError, match="cannot be read"):
        tokens.find(text)


def test_nobody_who_runs_or_configures_may_approve() -> None:
    approving = {role for role, actions in ROLE_ACTIONS.items() if Action.APPROVE in actions}

    assert approving == {Role.APPROVER}
    assert Action.RUN not in ROLE_ACTIONS[Role.APPROVER]
    assert {role for role in Role if Action.RUN in ROLE_ACTIONS[role]} == {Role.OPERATOR}


def test_every_role_and_every_action_is_in_the_table() -> None:
    assert set(ROLE_ACTIONS) == set(Role)
    assert set().union(*ROLE_ACTIONS.values()) == set(Action)


def test_a_refusal_says_who_could(tokens: Tokens) -> None:
    alice = tokens.find(tokens.add("alice", Role.OPERATOR))

    require(alice, Action.RUN)
    with pytest.raises(PermissionRefused, match=r"alice \(operator\) may not approve.*role approver"):
        require(alice, Action.APPROVE)


def test_a_fresh_install_can_be_set_up_and_run_but_not_approved_without_a_token(tokens: Tokens) -> None:
    someone = whoami(tokens, loginuid=1000, tty="/dev/pts/1")

    assert someone.roles == {Role.OPERATOR, Role.ADMIN, Role.AUDITOR}
    assert not may(someone, Action.APPROVE)
    assert someone.actor().as_json() | {"id": ""} == {
        "type": "operator",
        "id": "",
        "auth": "uid",
        "src": "tty:/dev/pts/1 loginuid:1000",
    }
    assert someone.id.startswith(f"uid:{ME}(")


def test_an_unset_login_uid_is_not_reported(tokens: Tokens) -> None:
    assert whoami(tokens, loginuid=0xFFFFFFFF).src == ""


def test_administration_passes_to_its_tokens_and_running_stays_with_the_owner(tokens: Tokens) -> None:
    tokens.add("bob", Role.APPROVER)
    assert whoami(tokens).roles == {Role.OPERATOR, Role.ADMIN, Role.AUDITOR}

    tokens.add("carol", Role.ADMIN)
    tokens.add("dave", Role.AUDITOR)

    assert whoami(tokens).roles == {Role.OPERATOR}


def test_another_local_user_may_do_nothing(tokens: Tokens) -> None:
    tokens.add("alice", Role.OPERATOR)

    stranger = whoami(tokens, uid=ME + 4242)

    assert not any(may(stranger, action) for action in Action)
    assert stranger.id == f"uid:{ME + 4242}(?)"


def test_root_may_operate_and_never_approve(tokens: Tokens) -> None:
    tokens.add("alice", Role.OPERATOR)

    assert may(whoami(tokens, uid=0), Action.RUN)
    assert not may(whoami(tokens, uid=0), Action.APPROVE)


def test_a_given_token_that_is_unknown_never_falls_back_to_the_local_user(tokens: Tokens) -> None:
    with pytest.raises(PermissionRefused, match="not known") as refused:
        whoami(tokens, "rmt_alice_5ec4e7")
    assert "5ec4e7" not in str(refused.value)
    with pytest.raises(PermissionRefused):
        whoami(tokens, "")


def test_the_token_may_come_from_a_private_file(tokens: Tokens, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(tokens.add("alice", Role.APPROVER) + "\n")
    file.chmod(0o600)

    assert whoami(tokens, read_token(file)).id == "alice"

    file.chmod(0o644)
    with pytest.raises(ConfigError, match="open to other users"):
        whoami(tokens, read_token(file))


def test_a_token_file_without_a_token_is_an_error(tokens: Tokens, tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(ConfigError, match="cannot be read"):
        whoami(tokens, read_token(file))
    file.touch(mode=0o600)
    with pytest.raises(ConfigError, match="is empty"):
        whoami(tokens, read_token(file))


def test_the_file_stays_readable_by_hand(tokens: Tokens) -> None:
    tokens.add("alice", Role.OPERATOR)

    row = json.loads(tokens.path.read_text())["tokens"][0]

    assert (row["name"], row["role"], len(row["sha256"])) == ("alice", "operator", 1)

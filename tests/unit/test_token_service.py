"""The stand-in session service: what a reset relies on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from remediate.errors import ConfigError
from remediate.lab.token_service import (
    CachingVerifier,
    EmbeddedStore,
    Server,
    TokenService,
    Traffic,
    add_user,
    main,
    open_store,
    read_users,
)


@pytest.fixture
def store(tmp_path: Path) -> EmbeddedStore:
    return EmbeddedStore(tmp_path / "sessions.db")


@pytest.fixture
def service(store: EmbeddedStore, tmp_path: Path) -> TokenService:
    users = tmp_path / "users"
    add_user(users, "ann", "right", ("browser", "device"))
    return TokenService(store, read_users(users))


@pytest.fixture
def url(service: TokenService) -> Iterator[str]:
    server = Server(0, service, "admin")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.url
    server.shutdown()
    thread.join()
    server.server_close()


def move_epoch(store: EmbeddedStore, name: str, value: int) -> None:
    store._run("UPDATE auth_state SET value = ? WHERE name = ?", value, name)


def test_a_token_is_good_until_the_epoch_moves(service: TokenService, store: EmbeddedStore) -> None:
    token = service.login("ann", "right", None)
    assert token is not None
    assert service.whoami(token) == "ann"

    move_epoch(store, "auth:epoch", 2)

    assert service.whoami(token) is None
    assert service.whoami(service.login("ann", "right", None) or "") == "ann"


def test_device_credentials_have_their_own_epoch(service: TokenService, store: EmbeddedStore) -> None:
    token = service.login("ann", "right", "device") or ""

    move_epoch(store, "auth:epoch", 2)
    assert service.whoami(token) == "ann"
    move_epoch(store, "auth:epoch:device", 2)
    assert service.whoami(token) is None


@pytest.mark.parametrize(
    ("user", "password", "kind"),
    [("ann", "wrong", None), ("bob", "right", None), ("ann", "right", "api"), ("ann", "right", "nonsense")],
)
def test_a_wrong_account_password_or_kind_gets_no_token(
    service: TokenService, user: str, password: str, kind: str | None
) -> None:
    assert service.login(user, password, kind) is None


def test_a_token_that_was_tampered_with_is_refused(service: TokenService) -> None:
    token = service.login("ann", "right", None) or ""
    epoch, user, sid, mac = token.split(".")

    for bad in (
        f"{epoch}.bob.{sid}.{mac}",
        f"{epoch}.{user}.d{sid[1:]}.{mac}",
        f"{epoch}.{user}.{sid}.{mac[:-1]}{'0' if mac[-1] != '0' else '1'}",
        f"{epoch}.{user}.{sid}",
        f"{epoch}.{user}.{sid}.ä",
        "9" * 40 + f".{user}.{sid}.{mac}",
        "",
    ):
        assert service.whoami(bad) is None


def test_a_logged_out_session_is_gone(service: TokenService) -> None:
    token = service.login("ann", "right", None) or ""
    service.logout(token)
    assert service.whoami(token) is None


def test_a_leaked_key_shows_in_the_figures_but_still_passes(service: TokenService) -> None:
    token = service.login("ann", "right", None) or ""
    service.login("ann", "right", "device")

    assert service.revoke_key("session") == 1

    stats = service.stats()
    assert stats["current_key_revoked"] is True
    assert stats["revoked_share_per_mille"] == 500
    assert stats["sessions"] == {"browser": 1, "device": 1}
    assert service.whoami(token) == "ann"


def test_no_token_and_no_key_is_in_the_figures(service: TokenService) -> None:
    token = service.login("ann", "right", None) or ""
    assert token.split(".")[3] not in str(service.stats())
    assert token.split(".")[2] not in str(service.stats())


def test_a_second_verifier_trusts_its_memory_until_it_is_flushed(
    service: TokenService, store: EmbeddedStore, url: str
) -> None:
    verifier = CachingVerifier(url, ttl=600)
    token = service.login("ann", "right", None) or ""
    assert verifier.whoami(token) == "ann"

    move_epoch(store, "auth:epoch", 2)

    assert verifier.whoami(token) == "ann"
    assert verifier.flush() == 1
    assert verifier.whoami(token) is None


def test_only_the_last_minute_counts_as_recent() -> None:
    now = [0.0]
    traffic = Traffic(clock=lambda: now[0])
    traffic.count(served=False)
    now[0] = 61.0
    traffic.count(served=True)
    traffic.count(served=False)

    told = traffic.snapshot()

    assert told == {"served": 1, "refused": 2, "recent_requests": 2, "refused_share_per_mille": 500}


def test_the_users_file_is_private_and_holds_no_password(tmp_path: Path) -> None:
    users = tmp_path / "users"
    add_user(users, "ann", "right")
    assert users.stat().st_mode & 0o777 == 0o600
    assert "right" not in users.read_text()
    with pytest.raises(ConfigError, match="no password"):
        add_user(users, "bob", "")
    with pytest.raises(ConfigError, match="user name"):
        add_user(users, "b.b", "x")


def test_a_wrong_start_says_what_to_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--store", "embedded:x"]) == 64
    assert "--users" in capsys.readouterr().err
    assert main(["--store", "x", "--users", str(tmp_path / "none")]) == 64
    with pytest.raises(ConfigError, match="embedded:PATH"):
        open_store("mysql://x")

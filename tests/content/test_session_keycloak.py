"""The session-token reset with Keycloak, against a stub of the parts of its interface that are used.

The stub follows the documented behaviour of Keycloak's token, introspection and administration
endpoints; it is no Keycloak, and the adapter has not been tried on a real one.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.content.test_session_token_reset import PASSWORD, STORE_PASSWORD, Player, World

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")

OIDC = "/realms/city/protocol/openid-connect"


class Keycloak(ThreadingHTTPServer):
    """One realm."""

    daemon_threads = True

    def __init__(self) -> None:
        self.not_before = 0
        self.sessions: dict[str, int] = {}
        self.admin_token = secrets.token_hex(16)
        #: Administrative calls that changed something, in order.
        self.calls: list[str] = []
        #: CVE-2026-8922: introspection does not look at the realm's not-before time.
        self.introspection_is_blind = False
        super().__init__(("127.0.0.1", 0), Handler)

    def good(self, token: str) -> bool:
        return token in self.sessions and self.sessions[token] >= self.not_before


class Handler(BaseHTTPRequestHandler):
    server: Keycloak
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _reply(self, status: int, body: object = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> str:
        return self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()

    def _form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self._body()).items()}

    def _bearer(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _is_admin(self) -> bool:
        if self._bearer() == self.server.admin_token:
            return True
        self._body()
        self._reply(401)
        return False

    def do_GET(self) -> None:
        if self.path == OIDC + "/userinfo":
            self._reply(200, {"sub": "canary"}) if self.server.good(self._bearer()) else self._reply(401)
        elif not self._is_admin():
            return
        elif self.path == "/admin/realms/city":
            self._reply(200, {"realm": "city", "notBefore": self.server.not_before})
        elif self.path == "/admin/realms/city/client-session-stats":
            self._reply(200, [{"clientId": "portal", "active": str(len(self.server.sessions))}])
        else:
            self._reply(404)

    def do_PUT(self) -> None:
        if self._is_admin():
            self.server.not_before = int(json.loads(self._body())["notBefore"])
            self.server.calls.append("not-before")
            self._reply(204)

    def do_POST(self) -> None:
        if self.path.endswith("/openid-connect/token"):
            self._token(self._form())
        elif self.path == OIDC + "/token/introspect":
            token = self._form()["token"]
            good = self.server.good(token) or self.server.introspection_is_blind
            self._reply(200, {"active": good})
        elif self.path == OIDC + "/logout":
            self.server.sessions.pop(self._form()["refresh_token"].removeprefix("r"), None)
            self._reply(204)
        elif not self._is_admin():
            return
        elif self.path == "/admin/realms/city/logout-all":
            self._body()
            self.server.calls.append("logout-all")
            self.server.sessions.clear()
            self._reply(204)
        elif self.path == "/admin/realms/city/push-revocation":
            self._body()
            self.server.calls.append("push-revocation")
            self._reply(200, {"successRequests": []})
        else:
            self._reply(404)

    def _token(self, form: dict[str, str]) -> None:
        if self.path.startswith("/realms/master/"):
            right = form["username"] == "admin" and form["password"] == STORE_PASSWORD
            self._reply(200, {"access_token": self.server.admin_token}) if right else self._reply(401)
        elif (form["username"], form["password"], form["client_id"]) == ("canary", PASSWORD, "probe"):
            token = f"e.e.{secrets.token_hex(12)}.{secrets.token_hex(32)}"
            self.server.sessions[token] = int(time.time())
            self._reply(200, {"access_token": token, "refresh_token": "r" + token})
        else:
            self._reply(401, {"error": "invalid_grant"})


@contextmanager
def keycloak() -> Iterator[Keycloak]:
    server = Keycloak()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def realm() -> Iterator[Keycloak]:
    with keycloak() as server:
        yield server


def a_player(realm: Keycloak, folder: Path) -> Player:
    world = World(
        kind="keycloak",
        folder=folder,
        url=f"http://127.0.0.1:{realm.server_port}",
        verifier="http://127.0.0.1:1",
        variables={},
        put=lambda items: None,
        keys=set,
        epoch=lambda name: realm.not_before,
    )
    return Player(
        world,
        session_token_reset_reason="suspect",
        session_token_reset_verifiers=[],
        session_token_reset_flush=[],
        session_token_reset_kept_kind="",
        session_token_reset_realm="city",
        session_token_reset_user="admin",
        session_token_reset_canary_client_id="probe",
    )


def test_a_realm_is_reset_verified_and_taken_back(realm: Keycloak, tmp_path: Path) -> None:
    player = a_player(realm, tmp_path)
    precheck, snapshot = player.play_on("precheck", "snapshot")
    assert precheck.ok
    assert snapshot.ok
    assert player.play("apply", check=True).changed == 1
    assert realm.calls == []

    first, second, verified = player.play_on("apply", "apply", "verify")

    assert first.changed == 1
    # Sessions first, then not-before: a crash between the two leads to a full repeat.
    assert realm.calls == ["logout-all", "not-before", "push-revocation", "push-revocation"]
    assert second.changed == 0
    assert verified.ok, verified.messages
    assert any(o["name"] == "not-before time of the realm" for o in verified.result["observations"])
    back, proved = player.play_on("rollback", "verify of rollback")
    assert back.changed == 1
    assert realm.not_before == 0
    assert proved.ok
    assert player.leaks(realm.admin_token) == []


def test_introspection_that_is_blind_to_not_before_fails_the_verification(
    realm: Keycloak, tmp_path: Path
) -> None:
    realm.introspection_is_blind = True
    player = a_player(realm, tmp_path)

    _, applied, verified = player.play_on("snapshot", "apply", "verify")

    assert applied.ok
    assert not verified.ok
    assert verified.wrong == {"old canary token at introspection"}


def test_keycloak_cannot_tell_what_is_stale_and_says_so(realm: Keycloak, tmp_path: Path) -> None:
    refused = a_player(realm, tmp_path).play("precheck", session_token_reset_reason="stale")

    assert not refused.ok
    assert any("reason=suspect" in message for message in refused.messages)

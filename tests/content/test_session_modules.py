"""What the session modules refuse before they touch anything; no playbook is played here."""

from __future__ import annotations

import base64
import importlib.util
import sqlite3
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"


def load(folder: str, name: str, known_as: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(known_as, PLUGINS / folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[known_as] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def plugins() -> Iterator[dict[str, ModuleType]]:
    names = ("session_backends", "session_http", "session_keycloak")
    utils = {name: load("module_utils", name, f"ansible.module_utils.{name}") for name in names}
    modules = {
        name: load("modules", name, f"remediate_test_{name}") for name in ("session_store", "session_canary")
    }
    yield {**utils, **modules}
    for name in names:
        del sys.modules[f"ansible.module_utils.{name}"]


def families(prefix: str, epoch_name: str = "auth:epoch", **more: Any) -> dict[str, Any]:
    family = {"name": "session", "prefix": prefix, "epoch_name": epoch_name, "epoch": 1, "new_epoch": 2}
    return {"families": [family | more], "state": "reset"}


@pytest.mark.parametrize("prefix", ["", ":", "s", "sess", "*:", "s?ss:", "[a-z]:", "a b:", "s\\:"])
def test_a_prefix_that_is_no_name_with_a_colon_is_refused(
    plugins: dict[str, ModuleType], prefix: str
) -> None:
    with pytest.raises(plugins["session_backends"].StoreError, match="no sessions"):
        plugins["session_store"].families_of(families(prefix))


@pytest.mark.parametrize(("prefix", "epoch_name"), [("auth:", "auth:epoch"), ("sess:", "sess:epoch")])
def test_a_prefix_that_covers_the_epoch_is_refused(
    plugins: dict[str, ModuleType], prefix: str, epoch_name: str
) -> None:
    with pytest.raises(plugins["session_backends"].StoreError, match="would remove the epoch"):
        plugins["session_store"].families_of(families(prefix, epoch_name))


@pytest.mark.parametrize(("old", "new"), [(2, 2), (3, 2), (0, 0), (-1, 0)])
def test_a_move_that_does_not_go_forward_is_refused(
    plugins: dict[str, ModuleType], old: int, new: int
) -> None:
    with pytest.raises(plugins["session_backends"].StoreError, match="expected a later one"):
        plugins["session_store"].families_of(families("sess:", epoch=old, new_epoch=new))


def test_a_missing_package_is_named_with_the_command_that_brings_it(
    plugins: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = plugins["session_backends"]
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(store.StoreError, match="pip install 'redis'"):
        store.RedisBackend("127.0.0.1", 1, "0", "", "", 1)
    with pytest.raises(store.StoreError, match=r"pip install 'psycopg\[binary\]'"):
        store.PostgresBackend("127.0.0.1", 1, "", "", "", 1)


def test_a_mistyped_file_makes_no_empty_store(plugins: dict[str, ModuleType], tmp_path: Path) -> None:
    store = plugins["session_backends"]
    with pytest.raises(store.StoreError, match="cannot be opened"):
        store.EmbeddedBackend(str(tmp_path / "none.db"), 1)
    assert not (tmp_path / "none.db").exists()


def test_an_error_in_the_removal_leaves_the_epoch_as_it_was(
    plugins: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.db"
    db = sqlite3.connect(path)
    with db:
        db.execute("CREATE TABLE auth_state (name TEXT PRIMARY KEY, value BIGINT)")
        db.execute("INSERT INTO auth_state VALUES ('auth:epoch', 1)")
        db.execute("CREATE TABLE session (key TEXT PRIMARY KEY, epoch BIGINT)")
        db.execute("INSERT INTO session VALUES ('sess:1:u:b1', 1)")
    store = plugins["session_backends"]
    backend = store.EmbeddedBackend(str(path), 1)
    backend.check()

    def broken(keys: list[str]) -> int:
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(backend, "delete", broken)
    with pytest.raises(store.StoreError, match="disk full"), backend.guarded():
        backend.reset(store.Family("session", "sess:", "auth:epoch", 1, 2), 10)

    assert db.execute("SELECT value FROM auth_state").fetchone() == (1,)
    db.close()
    backend._db.close()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://user:pass@host/", "nonsense", "http:///x"])
def test_a_url_that_is_no_plain_web_address_is_refused(plugins: dict[str, ModuleType], url: str) -> None:
    canary = plugins["session_canary"]
    given = {"timeout": 1, "url": url, "paths": {}, "dialect": "service", "verifiers": [], "flush": []}
    with pytest.raises(canary.CannotLook, match="session_token_reset_url") as refused:
        canary.Service(given)
    assert "pass@" not in str(refused.value)


def test_sealed_tokens_open_with_the_pad_only(plugins: dict[str, ModuleType]) -> None:
    canary = plugins["session_canary"]
    pad = bytes(range(256)) * 2
    sealed = canary.seal({"old": "token-value"}, base64.b64encode(pad).decode())
    assert "token" not in sealed
    opened = bytes(ord(letter) - 0x2800 ^ key for letter, key in zip(sealed, pad, strict=True))
    assert opened.rstrip() == b'{"old": "token-value"}'
    with pytest.raises(canary.CannotLook, match="expected at most 4"):
        canary.seal({"old": "token-value"}, base64.b64encode(b"four").decode())


class Redirecting(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self.send_response(302 if self.path == "/away" else 200)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_a_redirect_carries_no_token_elsewhere_and_counts_as_nothing(plugins: dict[str, ModuleType]) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        base = f"http://127.0.0.1:{server.server_port}"
        given = {"timeout": 3, "url": base, "paths": {}, "dialect": "service", "verifiers": [], "flush": []}
        service = plugins["session_canary"].Service(given)
        assert service.verify(base + "/away", "t") == "HTTP 302"
        assert service.verify(base + "/here", "t") == "accepted"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert service.verify(base + "/here", "t").startswith("no answer")

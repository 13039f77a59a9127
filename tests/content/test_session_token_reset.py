"""The session-token reset, whole: real playbook runs against a real service and real stores."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner
import psycopg
import pytest
import redis

from remediate.lab import token_service

# ansible-runner forks a terminal; that a server of the test runs in a thread beside it is no danger.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "canary-pass-Zq81xv"
ADMIN = "admin-secret-Kw52yt"
STORE_PASSWORD = "store-pass-Hj37rm"
TARGET = "iam1"


# ---- servers ------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(ready: Callable[[], object], what: str, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"{what} was not ready within {seconds} s"
        time.sleep(0.05)


@contextmanager
def process(*argv: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        yield child
    finally:
        child.terminate()
        child.wait(10)


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    port = free_port()
    config = folder / "redis.conf"
    config.write_text(
        f"bind 127.0.0.1\nport {port}\nrequirepass {STORE_PASSWORD}\nsave ''\nappendonly no\ndir {folder}\n"
    )
    with process(server, str(config)):

        def answers() -> bool:
            try:
                with redis.Redis(port=port, password=STORE_PASSWORD) as db:
                    return bool(db.ping())
            except redis.RedisError:
                return False

        wait_until(answers, "redis-server")
        yield port


def postgres_folder() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), Path()).parent


@contextmanager
def postgres_server() -> Iterator[int]:
    binaries = postgres_folder()
    if binaries is None or not (binaries / "initdb").exists():
        pytest.skip("PostgreSQL's server is not installed: apt-get install postgresql")
    # PostgreSQL refuses to run as root, and another user cannot enter pytest's own folders.
    folder = Path(tempfile.mkdtemp(prefix="remediate-pg-"))
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
        as_user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
    try:
        secret = folder / "password"
        secret.write_text(STORE_PASSWORD)
        secret.chmod(0o644)
        data, port = folder / "data", free_port()
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "reset", "--auth=scram-sha-256", f"--pwfile={secret}"],
            check=True,
            capture_output=True,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            **as_user,
        )
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c fsync=off"
        options += f" -c unix_socket_directories={folder}"
        with process(str(binaries / "postgres"), "-D", str(data), *options.split(), **as_user):

            def answers() -> bool:
                try:
                    psycopg.connect(postgres_url(port), connect_timeout=1).close()
                except psycopg.Error:
                    return False
                return True

            wait_until(answers, "PostgreSQL")
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def postgres_url(port: int) -> str:
    return f"postgresql://reset:{STORE_PASSWORD}@127.0.0.1:{port}/postgres"


# ---- the world a test acts in -------------------------------------------------------------------


@dataclass
class World:
    """A service, a second verifier that caches trust, a store, and what is known of them."""

    kind: str
    folder: Path
    url: str
    verifier: str
    #: Host variables of the store.
    variables: dict[str, Any]
    put: Callable[[dict[str, int]], None]
    keys: Callable[[], set[str]]
    epoch: Callable[[str], int]
    secrets: dict[str, str] = field(
        default_factory=lambda: {
            "REMEDIATE_SECRET_SESSION_CANARY_PASSWORD": PASSWORD,
            "REMEDIATE_SECRET_SESSION_ADMIN": ADMIN,
            "REMEDIATE_SECRET_SESSION_STORE_PASSWORD": STORE_PASSWORD,
        }
    )

    def call(self, path: str, data: Any = None, token: str = "") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self.url + path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, None

    def login(self) -> str:
        status, body = self.call("/login", {"user": "canary", "password": PASSWORD})
        assert status == 200
        return str(body["token"])

    def leak_key(self) -> None:
        assert self.call("/admin/revoke-key", {}, ADMIN)[0] == 200


def ready(folder: Path, name: str, *argv: str) -> tuple[str, list[str]]:
    file = folder / name
    return str(file), [sys.executable, "-m", "remediate.lab.token_service", "--ready-file", str(file), *argv]


@contextmanager
def services(folder: Path, spec: str) -> Iterator[tuple[str, str]]:
    users, secret = folder / "users", folder / "admin"
    token_service.add_user(users, "canary", PASSWORD, ("browser", "device"))
    secret.write_text(ADMIN)
    common = ("--admin-secret-file", str(secret))
    file, argv = ready(folder, "service.json", "--store", spec, "--users", str(users), *common)
    with process(*argv, cwd=ROOT):
        wait_until(Path(file).exists, "the token service")
        url = json.loads(Path(file).read_text())["url"]
        file, argv = ready(folder, "verifier.json", "--verifier-of", url, "--cache-ttl", "600", *common)
        with process(*argv, cwd=ROOT):
            wait_until(Path(file).exists, "the second verifier")
            yield url, json.loads(Path(file).read_text())["url"]


@contextmanager
def embedded_world(folder: Path) -> Iterator[World]:
    path = folder / "sessions.db"

    def run(sql: str, *values: object) -> list[Any]:
        db = sqlite3.connect(path, timeout=5)
        try:
            with db:
                return db.execute(sql, values).fetchall()
        finally:
            db.close()

    def put(items: dict[str, int]) -> None:
        for key, epoch in items.items():
            run("INSERT INTO session VALUES (?, ?, ?)", key, epoch, int(time.time()) + 3600)

    with services(folder, f"embedded:{path}") as (url, verifier):
        yield World(
            kind="embedded",
            folder=folder,
            url=url,
            verifier=verifier,
            variables={"session_token_reset_path": str(path)},
            put=put,
            keys=lambda: {row[0] for row in run("SELECT key FROM session")},
            epoch=lambda name: int(run("SELECT value FROM auth_state WHERE name = ?", name)[0][0]),
        )


@contextmanager
def redis_world(folder: Path) -> Iterator[World]:
    with (
        redis_server(folder) as port,
        services(folder, f"redis://:{STORE_PASSWORD}@127.0.0.1:{port}/0") as (url, verifier),
        redis.Redis(port=port, password=STORE_PASSWORD, decode_responses=True) as db,
    ):
        yield World(
            kind="redis",
            folder=folder,
            url=url,
            verifier=verifier,
            variables={"session_token_reset_port": port, "session_token_reset_database": "0"},
            put=lambda items: db.mset(items) and None,
            keys=lambda: {str(key) for key in db.scan_iter(count=1000) if not str(key).startswith("auth:")},
            epoch=lambda name: int(str(db.get(name))),
        )


@contextmanager
def postgresql_world(folder: Path) -> Iterator[World]:
    with (
        postgres_server() as port,
        services(folder, postgres_url(port)) as (url, verifier),
        psycopg.connect(postgres_url(port), autocommit=True) as db,
    ):

        def put(items: dict[str, int]) -> None:
            with db.cursor() as cursor:
                rows = [(key, epoch, int(time.time()) + 3600) for key, epoch in items.items()]
                cursor.executemany("INSERT INTO session VALUES (%s, %s, %s)", rows)

        def epoch(name: str) -> int:
            row = db.execute("SELECT value FROM auth_state WHERE name = %s", (name,)).fetchone()
            assert row is not None
            return int(row[0])

        yield World(
            kind="postgresql",
            folder=folder,
            url=url,
            verifier=verifier,
            variables={
                "session_token_reset_port": port,
                "session_token_reset_database": "postgres",
                "session_token_reset_user": "reset",
            },
            put=put,
            keys=lambda: {row[0] for row in db.execute("SELECT key FROM session").fetchall()},
            epoch=epoch,
        )


WORLDS = {"embedded": embedded_world, "redis": redis_world, "postgresql": postgresql_world}


@pytest.fixture(params=sorted(WORLDS))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with WORLDS[request.param](tmp_path) as made:
        yield made


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[World]:
    with embedded_world(tmp_path) as made:
        yield made


# ---- playing the role ---------------------------------------------------------------------------


@dataclass
class Played:
    """How one ansible-playbook process ended."""

    ok: bool
    changed: int
    result: dict[str, Any]
    #: Messages of failed tasks.
    messages: list[str]

    @property
    def wrong(self) -> set[str]:
        return {o["name"] for o in self.result["observations"] if o["ok"] is not True}


class Player:
    """Plays phases as the toolkit does, keeps every artifact, and greps them all for secrets."""

    def __init__(self, world: World, content: Path = ROOT, **variables: Any) -> None:
        self.world = world
        self.content = content
        self.run_dir = world.folder / "run"
        self.run_dir.mkdir(mode=0o700, exist_ok=True)
        self.snapshot = self.run_dir / "snapshot.json"
        self.artifacts = world.folder / "artifacts"
        self.count = 0
        host = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "session_token_reset_store": world.kind,
            "session_token_reset_url": world.url,
            "session_token_reset_verifiers": [world.verifier + "/whoami"],
            "session_token_reset_flush": [world.verifier + "/admin/flush"],
            "session_token_reset_kept_kind": "device",
            **world.variables,
            **variables,
        }
        probe = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        self.inventory = world.folder / "inventory.json"
        hosts = {"identity": {"hosts": {TARGET: host}}, "observer": {"hosts": {"probe1": probe}}}
        self.inventory.write_text(json.dumps({"all": {"children": hosts}}))

    def play(self, phase: str, *, check: bool = False, **extra: Any) -> Played:
        """Play one phase in a process of its own, by the project's playbook, as the toolkit does."""
        playbook = self.content / "playbooks" / "session_token_reset.yml"
        events, well = self._run(playbook, {"remediate_phase": phase, **self._given(phase), **extra}, check)
        played = self._played(events, well=well)
        if phase == "snapshot" and played.ok:
            self.snapshot.write_text(json.dumps(played.result["snapshot"]))
        return played

    def play_on(self, *phases: str) -> list[Played]:
        """Play several phases in one process, which saves most of the time; a failure ends it."""
        keep = {
            "name": "Keep the snapshot",
            "when": "remediate_result.snapshot is defined",
            "ansible.builtin.copy": {
                "content": "{{ remediate_result.snapshot | to_json }}",
                "dest": str(self.snapshot),
                "mode": "0600",
            },
            "changed_when": False,
        }
        plays = [
            {
                "name": f"{number} {phase}",
                "hosts": "identity",
                "gather_facts": False,
                "vars": {"remediate_phase": phase.split()[0], "remediate_verify_of": phase.split()[-1]}
                if " of " in phase
                else {"remediate_phase": phase},
                "roles": ["session_token_reset"],
                "post_tasks": [keep],
            }
            for number, phase in enumerate(phases)
        ]
        playbook = self.world.folder / "several.yml"
        playbook.write_text(json.dumps(plays))
        events, well = self._run(playbook, self._given("several"), check=False)
        return [
            self._played([e for e in events if e["event_data"].get("play") == play["name"]], well=well)
            for play in plays
        ]

    def _given(self, phase: str) -> dict[str, Any]:
        if phase == "all":
            return {}
        return {
            "remediate_target": TARGET,
            "remediate_run_id": "r1",
            "remediate_run_dir": str(self.run_dir),
            "remediate_snapshot_file": str(self.snapshot),
            "remediate_vantage": "probe1",
            "remediate_samples": 3,
            "remediate_interval": 0,
        }

    def _run(self, playbook: Path, given: dict[str, Any], check: bool) -> tuple[list[dict[str, Any]], bool]:
        self.count += 1
        private = self.world.folder / f"private{self.count}"
        private.mkdir(mode=0o700)
        plugins = ROOT / "plugins"
        runner = ansible_runner.run(
            private_data_dir=str(private),
            artifact_dir=str(self.artifacts),
            ident=str(self.count),
            playbook=str(playbook),
            inventory=str(self.inventory),
            limit=TARGET,
            extravars=given,
            cmdline="--check" if check else None,
            verbosity=3,
            quiet=True,
            envvars={
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "HOME": str(self.world.folder),
                "ANSIBLE_ROLES_PATH": str(self.content / "roles"),
                "ANSIBLE_LIBRARY": str(plugins / "modules"),
                "ANSIBLE_MODULE_UTILS": str(plugins / "module_utils"),
                "ANSIBLE_ACTION_PLUGINS": str(plugins / "action"),
                "ANSIBLE_PIPELINING": "1",
                **self.world.secrets,
            },
        )
        return [event for event in runner.events if "event_data" in event], runner.rc == 0

    def _played(self, events: list[dict[str, Any]], *, well: bool) -> Played:
        ended = [e for e in events if e["event"] in ("runner_on_ok", "runner_on_failed")]
        failed = [e["event_data"]["res"] for e in ended if e["event"] == "runner_on_failed"]
        done = [e["event_data"]["res"] for e in ended if e["event"] == "runner_on_ok"]
        results = [
            res["ansible_facts"]["remediate_result"]
            for res in done
            if "remediate_result" in res.get("ansible_facts", {})
        ]
        return Played(
            ok=bool(results) and not failed and (well or bool(done)),
            changed=sum(bool(res.get("changed")) for res in done),
            result=results[-1] if results else {},
            messages=[str(res.get("msg", "")) for res in failed],
        )

    def tokens(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.run_dir / f"{TARGET}.canary.json").read_text())
        return found

    def leaks(self, *more: str) -> list[str]:
        """Return where a secret appears in what the runs left behind, in any usual spelling."""
        words = {PASSWORD, ADMIN, STORE_PASSWORD, *more}
        if (self.run_dir / f"{TARGET}.canary.json").exists():
            for token in self.tokens().values():
                _, _, sid, mac = token.split(".")
                words |= {token, sid, mac}
        spellings = set(words)
        for word in words:
            spellings |= {urllib.parse.quote(word, safe=""), json.dumps(word)[1:-1], word.encode().hex()}
            spellings |= {base64.b64encode(word.encode()).decode().rstrip("=")[:-1]}
        found = []
        for file in self.artifacts.rglob("*"):
            # The runner's own copy of the environment it was given; the toolkit deletes it.
            if not file.is_file() or file.name == "command":
                continue
            text = file.read_text(errors="replace")
            found += [f"{file.name}: {word}" for word in spellings if word in text]
        return found


@contextmanager
def argument_lists() -> Iterator[set[str]]:
    """Collect the argument lists of every process that runs meanwhile."""
    seen: set[str] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def foreign_keys(world: World) -> set[str]:
    """Put keys that a careless pattern would take along."""
    items = {f"cart:{n}": 0 for n in range(40)}
    items |= {"sess": 0, "session:1": 0, "xsess:1:u:b1": 0, "Sess:1:u:b1": 0, "cart:sess:1": 0}
    world.put(items)
    return set(items)


def some_sessions(world: World, count: int = 250) -> set[str]:
    epoch = world.epoch("auth:epoch")
    items = {f"sess:{epoch}:user{n}:b{n:024x}": epoch for n in range(count)}
    world.put(items)
    return set(items)


@pytest.fixture(params=["postgresql", "redis"])
def server_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with WORLDS[request.param](tmp_path) as made:
        yield made


def test_a_leaked_key_is_replaced_and_that_is_proved_from_elsewhere(embedded: World) -> None:
    kept, old = foreign_keys(embedded), some_sessions(embedded)
    mine = embedded.login()
    embedded.leak_key()
    player = Player(embedded)

    precheck, snapshot = player.play_on("precheck", "snapshot")
    assert precheck.ok
    assert precheck.result["healthy"] is False
    assert snapshot.ok
    assert embedded.call("/whoami", token=mine)[0] == 200

    first = player.play("apply")
    assert first.ok
    assert first.changed == 1
    assert first.result["undo"]
    assert embedded.epoch("auth:epoch") == 2
    assert embedded.call("/whoami", token=mine)[0] == 401
    assert kept <= embedded.keys()
    assert not old & embedded.keys()

    logged_in_meanwhile = embedded.login()
    second = player.play("apply")
    assert second.ok
    assert second.changed == 0
    assert embedded.call("/whoami", token=logged_in_meanwhile)[0] == 200

    verified, healed, back, proved = player.play_on("verify", "precheck", "rollback", "verify of rollback")
    assert verified.ok, verified.messages
    assert not verified.wrong
    names = [o["name"] for o in verified.result["observations"]]
    assert sum("old canary token" in name for name in names) == 3 * 3  # two verifiers, introspection
    assert sum("device credential of before" in name for name in names) == 3 * 3
    assert kept <= embedded.keys()
    assert healed.result["healthy"] is True
    # The old key has leaked: the rollback leaves the new one, and says so.
    assert back.changed == 0
    assert any("has leaked" in sentence for sentence in back.result["findings"])
    assert proved.ok
    assert embedded.epoch("auth:epoch") == 2
    assert player.leaks(mine.split(".")[3], logged_in_meanwhile.split(".")[3], "user7:b") == []


def test_a_store_with_a_server_is_reset_in_batches_and_by_prefix_only(server_world: World) -> None:
    world = server_world
    kept, old = foreign_keys(world), some_sessions(world)
    fresh = f"sess:2:user1:b{1:024x}"
    world.put({fresh: 2})
    mine = world.login()
    world.leak_key()
    # Not one of 50 batches may be forgotten.
    player = Player(world, session_token_reset_batch=5)

    precheck, snapshot = player.play_on("precheck", "snapshot")
    assert precheck.ok
    assert precheck.result["healthy"] is False
    assert snapshot.ok

    before = world.keys()
    dry = player.play("apply", check=True)
    assert dry.ok
    assert dry.changed == 1
    assert any("Check mode" in sentence for sentence in dry.result["findings"])
    assert world.keys() == before
    assert world.epoch("auth:epoch") == 1
    assert world.call("/whoami", token=mine)[0] == 200

    first, second, verified = player.play_on("apply", "apply", "verify")
    assert first.ok
    assert first.changed == 1
    assert second.ok
    assert second.changed == 0
    assert verified.ok, verified.messages
    assert world.epoch("auth:epoch") == 2
    assert world.call("/whoami", token=mine)[0] == 401
    assert kept | {fresh} <= world.keys()
    assert not old & world.keys()
    assert player.leaks(mine.split(".")[3], "user7:b") == []


def test_a_reset_on_suspicion_can_be_taken_back(world: World) -> None:
    player = Player(world, session_token_reset_reason="suspect")
    precheck, snapshot, applied = player.play_on("precheck", "snapshot", "apply")
    assert precheck.result["healthy"] is False
    assert snapshot.ok
    assert applied.changed == 1
    short_lived = world.login()

    back, proved, again, anew = player.play_on("rollback", "verify of rollback", "rollback", "apply")

    assert back.changed == 1
    assert proved.ok
    assert {o["observed"] for o in proved.result["observations"] if "epoch" in o["name"]} == {"1"}
    assert again.ok
    assert again.changed == 0
    # Its epoch number is used again, its key must not be.
    assert anew.changed == 1
    assert world.epoch("auth:epoch") == 2
    assert world.call("/whoami", token=short_lived)[0] == 401
    assert player.leaks(short_lived.split(".")[3]) == []


def test_an_apply_that_does_nothing_never_passes_verification(embedded: World, tmp_path: Path) -> None:
    content = tmp_path / "content"
    for name in ("playbooks", "roles"):
        shutil.copytree(ROOT / name, content / name)
    (content / "roles/session_token_reset/tasks/apply.yml").write_text(
        "---\n- name: apply | Claim success\n  ansible.builtin.set_fact:\n    remediate_result: {undo: []}\n"
        "  changed_when: true\n"
    )
    embedded.leak_key()
    player = Player(embedded, content)

    _, claimed, verified = player.play_on("snapshot", "apply", "verify")

    assert claimed.changed == 1
    assert not verified.ok
    assert any("old canary token" in name for name in verified.wrong)
    assert "epoch of the session family" in verified.wrong
    assert player.leaks() == []


def test_the_platform_scope_takes_device_credentials_along_and_no_secret_is_in_an_argument_list(
    embedded: World,
) -> None:
    player = Player(embedded, session_token_reset_scope="platform")

    with argument_lists() as seen:
        _, _, verified = player.play_on("snapshot", "apply", "verify")

    assert verified.ok
    expected = {o["expected"] for o in verified.result["observations"] if "device credential" in o["name"]}
    assert expected == {"refused", "inactive"}
    assert embedded.epoch("auth:epoch:device") == 2
    assert (player.run_dir / f"{TARGET}.canary.json").stat().st_mode & 0o777 == 0o600
    assert any("ansible-playbook" in line for line in seen)
    mac = player.tokens()["old"].split(".")[3]
    assert not [line for line in seen for secret in (PASSWORD, ADMIN, mac) if secret in line]


def test_somebody_elses_reset_since_the_snapshot_stops_the_apply(embedded: World) -> None:
    player = Player(embedded)
    move = {"name": "session", "prefix": "sess:", "epoch_name": "auth:epoch", "epoch": 7, "new_epoch": 8}
    player.snapshot.write_text(json.dumps({"moves": [move]}))

    applied = player.play("apply")

    assert not applied.ok
    assert any("expected 7 or 8: somebody else" in message for message in applied.messages)
    assert embedded.epoch("auth:epoch") == 1


def test_without_a_working_canary_nothing_is_begun(embedded: World) -> None:
    player = Player(embedded)
    embedded.secrets["REMEDIATE_SECRET_SESSION_CANARY_PASSWORD"] = "wrong-pass-Yp46ns"

    precheck, snapshot = player.play("precheck"), player.play("snapshot")

    assert not precheck.ok
    assert any("HTTP 401" in message and "nothing was changed" in message for message in precheck.messages)
    assert not snapshot.ok
    assert any("cannot log in: HTTP 401" in message for message in snapshot.messages)
    assert player.leaks("wrong-pass-Yp46ns") == []


def test_a_store_that_refuses_the_password_is_reported_without_it(tmp_path: Path) -> None:
    with redis_world(tmp_path) as world:
        player = Player(world)
        world.secrets["REMEDIATE_SECRET_SESSION_STORE_PASSWORD"] = "wrong-pass-Yp46ns"

        refused = player.play("precheck")

        assert not refused.ok
        assert any("Redis refuses" in message for message in refused.messages)
        assert player.leaks("wrong-pass-Yp46ns") == []


def test_a_prefix_that_could_match_everything_is_refused(embedded: World) -> None:
    kept = foreign_keys(embedded)
    player = Player(embedded, session_token_reset_prefix="*:")

    refused = player.play("precheck")

    assert not refused.ok
    assert any("'*:' is not a name that ends with a colon" in message for message in refused.messages)
    assert kept <= embedded.keys()


def test_the_role_alone_runs_every_phase(embedded: World) -> None:
    embedded.leak_key()
    mine = embedded.login()
    player = Player(embedded)

    dry = player.play("all", check=True)
    assert dry.ok, dry.messages
    assert embedded.epoch("auth:epoch") == 1
    first = player.play("all")
    assert first.ok, first.messages
    assert first.changed == 1
    assert embedded.call("/whoami", token=mine)[0] == 401
    again = player.play("all")
    assert again.ok
    assert again.changed == 0
    assert player.leaks(mine.split(".")[3]) == []


def test_the_role_alone_takes_back_what_it_cannot_prove(embedded: World) -> None:
    # The second verifier goes on to trust its memory, because nobody empties it.
    player = Player(embedded, session_token_reset_flush=[], session_token_reset_reason="suspect")

    failed = player.play("all")

    assert not failed.ok
    assert any(
        f"old canary token at {embedded.verifier.removeprefix('http://')}" in m for m in failed.messages
    )
    assert any("taken back" in message for message in failed.messages)
    assert embedded.epoch("auth:epoch") == 1

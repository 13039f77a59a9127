"""What the demo plays on: a project, a token service and a recorder, all of it in one directory.

Nothing here needs root, a system package or a network: the services are plain processes of ours on
127.0.0.1, on ports that the kernel gave them, and they are stopped by their process ids.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remediate.errors import RemediateError, UsageError
from remediate.lab.token_service import add_user

CONTENT = Path(__file__).parent / "content"
CANARY = "canary"
#: Seconds a service may take to answer for the first time.
_START_SECONDS = 15.0
_SETTINGS = """\
# The demo's own settings; copies of signed checkpoints go beside the project.
anchors = ["file:anchors"]
"""
_INVENTORY = """\
all:
  vars:
    ansible_connection: local
    ansible_python_interpreter: "{{{{ ansible_playbook_python }}}}"
  children:
    identity:
      hosts:
        iam1:
          remediate_failure_domain: identity-1
          remediate_observers: [obs1]
          session_token_reset_store: embedded
          session_token_reset_path: {store}
          session_token_reset_url: {service}
          session_token_reset_canary_user: {canary}
    observer:
      hosts:
        obs1: {{}}
    storage:
      hosts:
        rec1:
          ansible_host: 127.0.0.1
          remediate_failure_domain: recorder-1
          recorder_port: {port}
          directory_pool_switch_current: {current}
          directory_pool_switch_url: http://127.0.0.1:{port}/segments
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A project whose services are running."""

    project: Path
    service: str
    recorder: str
    canary_password: str
    admin_secret: str

    @property
    def pools(self) -> Path:
        """The recorder's directory."""
        return self.project / "services" / "recorder"

    def environment(self) -> dict[str, str]:
        """What a command of the demo is started with: nothing of the caller's own deployment."""
        ours = {name: text for name, text in os.environ.items() if not name.startswith("REMEDIATE_")}
        return {**ours, "REMEDIATE_SECRET_SESSION_CANARY_PASSWORD": self.canary_password}

    def leak_the_signing_key(self) -> Mapping[str, Any]:
        """Inject the first fault; what the service says of itself afterwards."""
        for _ in range(5):
            _ask(f"{self.service}/login", {"user": CANARY, "password": self.canary_password})
        _ask(f"{self.service}/admin/revoke-key", {}, bearer=self.admin_secret)
        stats: Mapping[str, Any] = _ask(f"{self.service}/stats")
        return stats

    def break_both_pools(self) -> None:
        """Inject the second fault: the pool in use is gone, and so is the one a plan would switch to."""
        for pool in ("pool_a", "pool_b"):
            (self.pools / pool).rename(self.pools / f"{pool}.gone")

    def wait_until_stale(self, milliseconds: int) -> None:
        """Return when the recorder's newest segments are older than that."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            channels = _ask(self.recorder + "/segments")["channels"].values()
            if min(channel["pool_age_ms"] or 0 for channel in channels) > milliseconds:
                return
            time.sleep(0.1)
        raise RemediateError("the demo's recorder goes on writing although its pools are gone")


@contextmanager
def set_up(project: Path) -> Iterator[Stage]:
    """Make the project and start its services; they are stopped when the context ends."""
    if project.exists() and any(project.iterdir()):
        raise UsageError(f"{project} is not empty; name a new or an empty directory with --keep")
    project.mkdir(parents=True, exist_ok=True)
    shutil.copytree(CONTENT, project, dirs_exist_ok=True)
    services = project / "services"
    pools = services / "recorder"
    for pool in ("pool_a", "pool_b"):
        (pools / pool).mkdir(parents=True)
    (pools / "current").symlink_to(pools / "pool_a")
    password, admin = secrets.token_urlsafe(18), secrets.token_urlsafe(18)
    _write_private(services / "admin", admin)
    add_user(services / "users.json", CANARY, password)
    with ExitStack() as running:
        service = running.enter_context(
            _service(
                services,
                "token_service",
                *("--store", f"embedded:{services / 'sessions.db'}"),
                *("--users", str(services / "users.json")),
                *("--admin-secret-file", str(services / "admin")),
            )
        )
        recorder = running.enter_context(
            _service(
                services,
                "recorder",
                *("--pools", str(pools / "pool_a"), str(pools / "pool_b")),
                *("--current", str(pools / "current")),
                *("--channels", "2", "--interval", "0.5"),
            )
        )
        _write_project(project, service=service, recorder=recorder)
        yield Stage(
            project=project,
            service=service,
            recorder=recorder,
            canary_password=password,
            admin_secret=admin,
        )


def _write_project(project: Path, *, service: str, recorder: str) -> None:
    (project / "remediate.toml").write_text(_SETTINGS, encoding="utf-8")
    inventory = _INVENTORY.format(
        store=json.dumps(str(project / "services" / "sessions.db")),
        service=service,
        canary=CANARY,
        port=recorder.rpartition(":")[2],
        current=json.dumps(str(project / "services" / "recorder" / "current")),
    )
    (project / "inventory").mkdir()
    (project / "inventory" / "hosts.yml").write_text(inventory, encoding="utf-8")


def _write_private(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text + "\n", encoding="utf-8")


@contextmanager
def _service(services: Path, module: str, *options: str) -> Iterator[str]:
    """The URL of a service that answers; it is stopped by its process id at the end."""
    ready = services / f"{module}.ready"
    command = [sys.executable, "-m", f"remediate.lab.{module}", *options, "--ready-file", str(ready)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - our own module
    try:
        yield _wait_for(ready, process, module)
    finally:
        process.terminate()
        process.wait(timeout=_START_SECONDS)


def _wait_for(ready: Path, process: subprocess.Popen[bytes], module: str) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RemediateError(f"the demo's {module} did not start; what it said is above")
        time.sleep(0.05)
    return str(json.loads(ready.read_text(encoding="utf-8"))["url"])


def _ask(url: str, body: Mapping[str, str] | None = None, *, bearer: str = "") -> Any:
    """One request to a service of the demo: GET, or POST when there is a body."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - 127.0.0.1, by us
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        return json.load(answer)

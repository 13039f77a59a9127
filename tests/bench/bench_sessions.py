"""How long a reset of 200,000 sessions takes in Redis, by the module's own code and as a whole phase.

    python tests/bench/bench_sessions.py

Needs redis-server. The first figure is what the plan promises for the store; the second adds one
ansible-playbook process with its role, which is what an operator waits for.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import redis

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = 200_000
OTHERS = 50_000
BAR_SECONDS = 5.0


def backends() -> Any:
    """Return the module's store code, loaded by its path as Ansible's search would."""
    file = ROOT / "plugins" / "module_utils" / "session_backends.py"
    spec = importlib.util.spec_from_file_location("session_backends", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fill(db: Any) -> None:
    """Put sessions of epoch 1 and keys of other applications."""
    db.flushall()
    db.mset({"auth:epoch": 1, "auth:epoch:device": 1})
    for start in range(0, SESSIONS, 10_000):
        db.mset({f"sess:1:user{n}:b{n:024x}": 1 for n in range(start, start + 10_000)})
    for start in range(0, OTHERS, 10_000):
        db.mset({f"cart:{n}": n for n in range(start, start + 10_000)})


def by_module(port: int, db: Any) -> float:
    """Return the seconds of one reset by the module's own code."""
    store = backends()
    fill(db)
    started = time.perf_counter()
    backend = store.RedisBackend("127.0.0.1", port, "0", "", "", 10)
    change = backend.reset(store.Family("session", "sess:", "auth:epoch", 1, 2), 1000)
    took = time.perf_counter() - started
    assert change.removed == SESSIONS
    assert db.dbsize() == OTHERS + 2
    return took


def by_phase(port: int, db: Any, folder: Path) -> float:
    """Return the seconds of the whole apply phase, ansible-playbook included."""
    fill(db)
    move = {"name": "session", "prefix": "sess:", "epoch_name": "auth:epoch", "epoch": 1, "new_epoch": 2}
    snapshot = folder / "snapshot.json"
    snapshot.write_text(json.dumps({"moves": [move]}))
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "session_token_reset_store": "redis",
        "session_token_reset_port": port,
        "session_token_reset_url": "http://127.0.0.1:1",
    }
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps({"identity": {"hosts": {"iam1": host}}}))
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), "--limit", "iam1"]
    argv += ["-e", "remediate_phase=apply", "-e", f"remediate_snapshot_file={snapshot}"]
    started = time.perf_counter()
    subprocess.run(
        [*argv, str(ROOT / "playbooks" / "session_token_reset.yml")],
        check=True,
        capture_output=True,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"},
        cwd=ROOT,
    )
    took = time.perf_counter() - started
    assert db.dbsize() == OTHERS + 2
    assert db.get("auth:epoch") == b"2"
    return took


def show(name: str, seconds: float, bar: float) -> bool:
    """Print one figure; return whether it keeps its bar."""
    print(f"{name} {seconds:.2f} {bar:.2f} {'ok' if seconds <= bar else 'MISSED'}", flush=True)
    return seconds <= bar


def main() -> int:
    """Print the figures; 1 when one misses its bar."""
    server = shutil.which("redis-server")
    if server is None:
        print(
            "session_reset_redis_200k_s left out: redis-server is not installed, apt-get install redis-server"
        )
        return 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        argv = [server, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", name]
        child = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(port=port) as db:
                for _ in range(200):
                    try:
                        db.ping()
                        break
                    except redis.ConnectionError:
                        time.sleep(0.05)
                kept = show("session_reset_redis_200k_s", by_module(port, db), BAR_SECONDS)
                kept &= show("session_reset_redis_200k_phase_s", by_phase(port, db, folder), BAR_SECONDS)
        finally:
            child.terminate()
            child.wait(10)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

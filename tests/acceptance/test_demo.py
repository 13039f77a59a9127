"""The demo, end to end, as `make demo` plays it."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import time
from pathlib import Path

from remediate.demo.script import falsify

COMMAND = str(Path(sysconfig.get_path("scripts")) / "remediate")
#: Seconds it may take on an idle machine.
BAR = 90


def test_the_demo_plays_every_step_and_cleans_up(tmp_path: Path) -> None:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("REMEDIATE_")}
    in_memory = set(Path("/dev/shm").glob("remediate-*"))
    started = time.monotonic()

    played = subprocess.run(
        [COMMAND, "demo"],
        cwd=tmp_path,
        env={**environment, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    took = time.monotonic() - started
    print(f"COUNT demo: {took:.0f} s of {BAR} s, {played.stdout.count('(exit code')} commands")
    assert played.returncode == 0, played.stdout + played.stderr
    for sentence in (
        "outcome   recovered",
        "is a group",
        "the cooldown is",
        "outcome   rolled_back",
        "RESULT OK",
        "RESULT TAMPERED",
        "remediate catalog new",
        "every step ended as it has to",
    ):
        assert sentence in played.stdout, sentence
    assert "\033" not in played.stdout
    assert "canary_password" not in played.stdout
    assert list(tmp_path.iterdir()) == []
    assert set(Path("/dev/shm").glob("remediate-*")) <= in_memory


def test_a_falsified_copy_differs_in_one_entry_only(tmp_path: Path) -> None:
    lines = [
        {"seq": 0, "kind": "log.created", "actor": {"id": "remediate"}},
        {"seq": 1, "kind": "trigger.received", "actor": {"id": "uid:0(root)"}},
        {"seq": 2, "kind": "run.end", "actor": {"id": "remediate"}},
    ]
    trail, copy = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    trail.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    (tmp_path / "a.jsonl.proof.json").write_text("{}")

    assert falsify(trail, copy) == 1

    changed = [json.loads(line) for line in copy.read_text().splitlines()]
    assert [n for n, line in enumerate(changed) if line != lines[n]] == [1]
    assert changed[1]["actor"]["id"] == "mallory"
    assert (tmp_path / "b.jsonl.proof.json").exists()

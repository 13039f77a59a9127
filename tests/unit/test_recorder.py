"""The stand-in recorder: segments are whole, listed, and never lost when a pool fails."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from remediate.lab.recorder import Recorder, main


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return a_recorder(tmp_path)


def a_recorder(folder: Path) -> Recorder:
    pools = (folder / "a", folder / "b")
    for pool in pools:
        pool.mkdir(exist_ok=True)
    current = folder / "current"
    if not current.is_symlink():
        current.symlink_to(pools[0])
    noise = random.Random(1)
    return Recorder(pools=pools, current=current, channels=2, segment_bytes=64, noise=noise)


def missing(folder: Path, pool: Path) -> list[str]:
    """Return the manifest lines whose segment is not whole in a pool."""
    wrong = []
    for listed in (folder / "manifest").iterdir():
        for line in listed.read_text().splitlines():
            digest, name = line.split("  ")
            file = pool / name
            if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
                wrong.append(name)
    return wrong


def test_every_segment_is_in_the_pool_and_in_the_manifest(recorder: Recorder, tmp_path: Path) -> None:
    recorder.record()
    recorder.record()

    assert len(list((tmp_path / "a").glob("*/*.seg"))) == 4
    assert missing(tmp_path, tmp_path / "a") == []
    state = recorder.state()
    assert state["pool"] == str(tmp_path / "a")
    assert state["spool_depth"] == 0


def test_a_pool_that_is_gone_sends_segments_to_the_spool_and_back(recorder: Recorder, tmp_path: Path) -> None:
    recorder.record()
    (tmp_path / "a").rename(tmp_path / "a.gone")

    recorder.record()

    assert recorder.state()["spool_depth"] == 2
    assert recorder.trouble
    assert not (tmp_path / "a").exists()
    (tmp_path / "a.gone").rename(tmp_path / "a")
    recorder.record()
    assert recorder.state()["spool_depth"] == 0
    assert not recorder.trouble
    assert missing(tmp_path, tmp_path / "a") == []


def test_the_symlink_decides_the_pool_at_every_segment(recorder: Recorder, tmp_path: Path) -> None:
    recorder.record()
    draft = tmp_path / "draft"
    draft.symlink_to(tmp_path / "b")
    draft.rename(tmp_path / "current")

    recorder.record()

    assert len(list((tmp_path / "b").glob("*/*.seg"))) == 2


def test_a_symlink_to_no_pool_of_ours_is_not_written_through(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to(tmp_path / "elsewhere")

    recorder.record()

    assert not list((tmp_path / "elsewhere").iterdir())
    assert recorder.state()["pool"] == ""
    assert recorder.state()["spool_depth"] == 2


def test_a_restarted_recorder_overwrites_nothing(recorder: Recorder, tmp_path: Path) -> None:
    recorder.record()
    a_recorder(tmp_path).record()
    assert len(list((tmp_path / "a").glob("*/*.seg"))) == 4
    assert missing(tmp_path, tmp_path / "a") == []


def test_a_current_that_is_no_symlink_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    given = ["--pools", str(tmp_path / "a"), "--current", str(tmp_path / "a")]
    assert main(given) == 64
    assert "no symlink" in capsys.readouterr().err


def test_it_runs_as_a_process_and_stops_on_sigterm(tmp_path: Path) -> None:
    a_recorder(tmp_path)
    ready = tmp_path / "ready"
    argv = [
        sys.executable,
        "-m",
        "remediate.lab.recorder",
        "--pools",
        str(tmp_path / "a"),
        str(tmp_path / "b"),
    ]
    argv += ["--current", str(tmp_path / "current"), "--channels", "3", "--interval", "0.1"]
    with subprocess.Popen([*argv, "--ready-file", str(ready)]) as child:
        end = time.monotonic() + 15
        while not ready.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        time.sleep(0.3)
        with urllib.request.urlopen(json.loads(ready.read_text())["url"] + "/segments", timeout=5) as reply:
            state = json.load(reply)
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0
    assert set(state["channels"]) == {"ch01", "ch02", "ch03"}
    assert all(0 <= channel["pool_age_ms"] < 5000 for channel in state["channels"].values())
    assert missing(tmp_path, tmp_path / "a") == []

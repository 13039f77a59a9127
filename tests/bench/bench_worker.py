"""What an idle worker weighs, and what an installation does.

python tests/bench/bench_worker.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distributions
from pathlib import Path

#: MB of 10**6 bytes that a worker which waits may hold.
BAR_MB = 150

_IDLE = """
import time
from remediate.config import load_settings
from remediate.control import connect
with connect(load_settings()):
    print("ready", flush=True)
    time.sleep(60)
"""


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024 / 1e6


def idle_worker_mb() -> float:
    """What an embedded worker holds five seconds after it got ready."""
    with tempfile.TemporaryDirectory() as home:
        environ = {"PATH": os.environ["PATH"], "HOME": home, "REMEDIATE_HOME": f"{home}/state"}
        with subprocess.Popen([sys.executable, "-c", _IDLE], env=environ, stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            worker.stdout.readline()
            time.sleep(5)
            weight = resident_mb(worker.pid)
            worker.kill()
    return weight


def installed() -> tuple[float, int]:
    """MB and number of the packages a user installs: ours and what it needs, without the developers' ones."""
    by_name = {d.metadata["Name"].lower().replace("_", "-"): d for d in distributions()}
    wanted, found = ["remediate"], {}
    while wanted:
        name = wanted.pop()
        if name in found or name not in by_name:
            continue
        found[name] = by_name[name]
        wanted += [_name(need) for need in by_name[name].requires or [] if "extra ==" not in need]
    size = sum(
        Path(str(d.locate_file(f))).stat().st_size
        for d in found.values()
        for f in d.files or []
        if Path(str(d.locate_file(f))).is_file()
    )
    return size / 1e6, len(found)


def _name(requirement: str) -> str:
    end = next((i for i, c in enumerate(requirement) if not (c.isalnum() or c in "-_.")), len(requirement))
    return requirement[:end].lower().replace("_", "-")


def main() -> None:
    """Print the figures beside their bars."""
    weight = idle_worker_mb()
    verdict = "ok" if weight <= BAR_MB else "MISSED"
    print(f"idle worker resident    {weight:8.1f} MB   bar {BAR_MB} MB   {verdict}")
    size, packages = installed()
    print(f"installed size          {size:8.1f} MB in {packages} packages")


if __name__ == "__main__":
    main()

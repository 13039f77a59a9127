"""How long short commands take, as multiples of `python -c pass`; runs of both alternate.

python tests/bench/bench_cli.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

#: The command as it is installed.
COMMAND = str(Path(sysconfig.get_path("scripts")) / "remediate")
ROUNDS = 15
#: Command -> how often `python -c pass` it may take, warm.
BARS = {"--help": 5.0, "catalog list": 6.0}


def milliseconds(command: list[str], where: Path) -> float:
    """How long one process takes from start to end."""
    started = time.perf_counter()
    subprocess.run(command, cwd=where, stdout=subprocess.DEVNULL, check=True)
    return 1000 * (time.perf_counter() - started)


def measure(arguments: str, where: Path) -> tuple[float, float]:
    """The median of the command, and how many times the median of doing nothing that is."""
    nothing = [sys.executable, "-c", "pass"]
    command = [COMMAND, *arguments.split()]
    milliseconds(command, where)
    pairs = [(milliseconds(nothing, where), milliseconds(command, where)) for _ in range(ROUNDS)]
    base, own = (statistics.median(column) for column in zip(*pairs, strict=True))
    return own, own / base


def main() -> int:
    """Print `name value ratio bar ok|MISSED` for each command; 1 when a bar is missed."""
    missed = 0
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory) / "site"
        subprocess.run([COMMAND, "init", str(where)], stdout=subprocess.DEVNULL, check=True)
        for arguments, bar in BARS.items():
            own, ratio = measure(arguments, where)
            verdict = "ok" if ratio <= bar else "MISSED"
            missed += verdict == "MISSED"
            print(f"cli {arguments.replace(' ', '-')} {own:.0f}ms {ratio:.2f} {bar:.2f} {verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Plays the demo and draws what it printed: `python docs/images/record.py` writes demo.svg beside it.

Only the steps that are named here, and of a run only the lines that are not about a single `ok` task.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

STEPS = ("[3]", "[4]", "[5]", "[6]")
WIDTH = 112
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_SINGLE_OK = re.compile(r"^\d\d:\d\d:\d\d {8,}ok ")


def demo_output() -> str:
    """What the demo printed, with colours."""
    environment = {**os.environ, "FORCE_COLOR": "1"}
    command = [sys.executable, "-m", "remediate", "demo"]
    played = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    return played.stdout


def chosen(output: str) -> list[str]:
    """The lines of the steps that are shown."""
    lines, shown = [], False
    for line in output.splitlines():
        plain = _STYLE.sub("", line)
        if plain.startswith("["):
            shown = plain.startswith(STEPS)
        if shown and not _SINGLE_OK.match(plain):
            lines.append(line)
    return lines


def main() -> None:
    """Draw the picture."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for line in chosen(demo_output()):
        console.print(Text.from_ansi(line))
    picture = Path(__file__).with_name("demo.svg")
    console.save_svg(str(picture), title="remediate demo, steps 3 to 6")


if __name__ == "__main__":
    main()

"""The steps of the demo: what is said, what is run, and how it has to end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from remediate.demo.stage import Stage, set_up
from remediate.errors import ExitCode, RemediateError

WRAP = "remediate catalog new APP-WEB-HUNG --playbook restart_web.yml --probe http:http://{host}:8080/healthz"
#: Milliseconds after which a segment counts as stale in the demo's plan.
_STALE_MS = 2500


class DemoDiffers(RemediateError):
    """A step of the demo did not end as it has to."""


@dataclass(slots=True)
class Show:
    """Prints captions, runs commands as a person would type them, and checks how they end."""

    stage: Stage
    pace: float
    step: int = 0

    def caption(self, *lines: str) -> None:
        """Begin a step: say in plain words what is about to be seen."""
        self.step += 1
        first, *more = lines
        print(f"\n{_bold(f'[{self.step}] {first}')}", flush=True)
        for line in more:
            print(f"    {line}", flush=True)
        time.sleep(self.pace)

    def run(self, *arguments: str, ends: ExitCode, says: str = "") -> None:
        """Run `remediate ...` and show what it prints; DemoDiffers when it ends otherwise."""
        print(_bold(f"$ remediate {' '.join(arguments)}"), flush=True)
        code, text = self._stream(arguments)
        print(f"(exit code {code})", flush=True)
        if code != ends:
            raise DemoDiffers(f"step {self.step} ended with exit code {code}, expected {int(ends)}")
        if says not in text:
            raise DemoDiffers(f"step {self.step} did not say {says!r}")
        time.sleep(self.pace)

    def _stream(self, arguments: tuple[str, ...]) -> tuple[int, str]:
        """The exit code and the output of a command, which is shown while it comes."""
        environment = self.stage.environment()
        if sys.stdout.isatty():
            environment["FORCE_COLOR"] = "1"
        command = [sys.executable, "-m", "remediate", *arguments]
        with subprocess.Popen(  # noqa: S603 - our own command
            command,
            cwd=self.stage.project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None  # noqa: S101 - asked for above
            text = ""
            for line in process.stdout:
                print(line, end="", flush=True)
                text += line
        return process.returncode, text


def play(keep: Path | None, *, pace: float = 0.0) -> int:
    """Play the demo in `keep`, or in a directory that is removed at the end; 1 when a step differs."""
    started = time.monotonic()
    with _directory(keep) as project, set_up(project) as stage:
        show = Show(stage, pace)
        try:
            for act in ACTS:
                act(show)
        except DemoDiffers as differs:
            print(f"\nthe demo stops here: {differs}", file=sys.stderr)
            return int(ExitCode.INTERNAL)
    kept = f"; the project is in {project}" if keep else ""
    print(f"\n{_bold('done')} in {time.monotonic() - started:.0f} s, every step ended as it has to{kept}")
    return int(ExitCode.OK)


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep.absolute()
        return
    project = Path(tempfile.mkdtemp(prefix="remediate-demo-"))
    try:
        yield project
    finally:
        shutil.rmtree(project)


def _a_fault(show: Show) -> None:
    show.caption(
        "A fault: the signing key of the session service on iam1 has leaked.",
        "The service goes on accepting every token that was signed with it.",
    )
    stats = show.stage.leak_the_signing_key()
    print(
        f"    {stats['live']} sessions live, current key revoked: {stats['current_key_revoked']}", flush=True
    )


def _what_would_happen(show: Show) -> None:
    show.caption("What would happen? Every guard says yes or no, and why. Nothing runs.")
    show.run("explain", "SEC-SESS-STALE", "--target", "iam1", ends=ExitCode.OK, says="it would run")


def _recovery(show: Show) -> None:
    show.caption(
        "The recovery: look, take a snapshot, act, verify from another host (obs1).",
        "`recovered` needs that proof; a return code is never an outcome.",
    )
    command = ("run", "SEC-SESS-STALE", "--target", "iam1", "--reason", "key-leaked", "--yes")
    show.run(*command, ends=ExitCode.OK, says="recovered")


def _unsafe_requests(show: Show) -> None:
    show.caption("An unsafe request: a target is one exact host, never a pattern or a group.")
    show.run("run", "SEC-SESS-STALE", "--target", "all", "--yes", ends=ExitCode.USAGE, says="error:")
    show.caption("The same remedy again, right away: a guard refuses and says why.")
    show.run("run", "SEC-SESS-STALE", "--target", "iam1", "--yes", ends=ExitCode.REFUSED, says="cooldown")


def _wrong_fix(show: Show) -> None:
    show.caption(
        "A wrong fix: the recorder on rec1 lost its pool, and an operator's own plan",
        "switches it to another one, which is broken too. Nobody knows that yet.",
        "The toolkit's own probe finds no fresh recording, so it takes the change back.",
    )
    show.stage.break_both_pools()
    show.stage.wait_until_stale(_STALE_MS)
    show.run(
        "run", "STO-POOL-STALL", "--target", "rec1", "--yes", ends=ExitCode.ROLLED_BACK, says="rolled_back"
    )
    show.caption("The record of that run: who, what, when, every sample, and where it is signed.")
    show.run("runs", "show", "last", ends=ExitCode.OK, says="rolled_back")


def _the_trail(show: Show) -> None:
    show.caption("The audit trail: everything above, refusals too, chained and signed.")
    show.run("audit", "verify", ends=ExitCode.OK, says="RESULT OK")
    show.caption(
        "Somebody edits a copy of it: the wrong fix was asked for by somebody else.",
        "The verifier names the first entry that is not what was recorded.",
    )
    show.run("audit", "export", "trail.jsonl", ends=ExitCode.OK)
    seq = falsify(show.stage.project / "trail.jsonl", show.stage.project / "falsified.jsonl")
    found = f"the chain breaks after entry {seq}"
    show.run("audit", "verify", "--file", "falsified.jsonl", ends=ExitCode.AUDIT, says=found)


def falsify(trail: Path, copy: Path) -> int:
    """Make a copy of an export in which another person asked for the last run; the number of that entry."""
    lines = trail.read_bytes().splitlines(keepends=True)
    asked = [n for n, line in enumerate(lines) if json.loads(line)["kind"] == "trigger.received"]
    entry = json.loads(lines[asked[-1]])
    name = json.dumps(entry["actor"]["id"]).encode()
    lines[asked[-1]] = lines[asked[-1]].replace(b'"id":' + name, b'"id":"mallory"', 1)
    copy.write_bytes(b"".join(lines))
    shutil.copyfile(f"{trail}.proof.json", f"{copy}.proof.json")
    return int(entry["seq"])


def _next(show: Show) -> None:
    show.caption(
        "Next: wrap your own playbook. It gets the same guards, trail and verification:",
        "remediate init ./site && cd ./site",
        WRAP,
    )


#: The demo, in order.
ACTS = (_a_fault, _what_would_happen, _recovery, _unsafe_requests, _wrong_fix, _the_trail, _next)


def _bold(text: str) -> str:
    wanted = sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))
    return f"\033[1m{text}\033[0m" if wanted and not os.environ.get("NO_COLOR") else text

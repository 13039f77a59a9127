"""Follows a run to its end, whoever works on it: this process, or another one that may vanish."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from remediate.cli.session import Session
from remediate.control import Desk, WorkerGone, connect
from remediate.errors import ExitCode, RemediateError
from remediate.model.entry import Entry
from remediate.model.run import Run, State
from remediate.report.ending import end_lines
from remediate.report.live import live_line
from remediate.report.messages import say

#: Seconds between two looks at the run.
POLL_SECONDS = 0.1
#: Seconds a decision that was just made may take to show in the run's state.
PATIENCE = 5.0
#: What the shell sees of somebody who left with a second Ctrl-C (128 + SIGINT).
INTERRUPTED = 130

_COLOURS = {"good": "green", "bad": "red", "attention": "yellow"}


class Follower:
    """Prints what happens to one run until it is closed or waits for a person."""

    def __init__(self, session: Session, *, quiet_output: bool) -> None:
        self._lang = session.settings.lang
        self._session = session
        #: With `-o json|yaml` standard output is for the result only.
        self._err = quiet_output
        self._since = 0
        self._wish = _CancelWish()

    def carry(self, begin: Callable[[Desk], Run], *, decided: bool = False) -> Run:
        """Do `begin` at the desk and follow the run it gives; takes the work over when the worker vanishes.

        `decided` says that a person has just decided, so a run that waits is about to go on.
        """
        run: Run | None = None
        with self._wish.listening():
            while True:
                try:
                    with connect(self._session.settings, note=self._session.note) as desk:
                        if run is None:
                            run = begin(desk)
                            self._wish.run_id = run.id
                        return self._watch(desk, run.id, decided=decided)
                except WorkerGone:
                    if run is None:
                        raise
                    self._session.note(f"the worker of run {run.id} vanished; going on with it")

    def skip(self, entries: list[Entry]) -> None:
        """Take these entries as told."""
        self._since = max([self._since, *(entry.seq + 1 for entry in entries)])

    def _watch(self, desk: Desk, run_id: str, *, decided: bool) -> Run:
        waits_until = time.monotonic() + (PATIENCE if decided else 0)
        while True:
            self._wish.pass_on(desk)
            run = desk.run(run_id)
            self._tell(desk, run_id)
            if run.closed:
                return run
            if run.state is State.AWAITING_APPROVAL and time.monotonic() >= waits_until:
                return run
            if (failure := desk.failure(run_id)) is not None:
                raise _named(failure, run_id)
            time.sleep(POLL_SECONDS)

    def _tell(self, desk: Desk, run_id: str) -> None:
        while entries := desk.entries(run_id, self._since):
            for entry in entries:
                if line := live_line(entry, self._lang):
                    click.secho(line.text, fg=_COLOURS.get(line.tone), err=self._err)
            self.skip(entries)


class _CancelWish:
    """What Ctrl-C means: the first one cancels the run and goes on following, the second one leaves."""

    def __init__(self) -> None:
        self.run_id = ""
        self._presses = 0
        self._passed_on = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C for as long as a run is followed."""
        before = signal.signal(signal.SIGINT, self._pressed)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def pass_on(self, desk: Desk) -> None:
        """Ask to cancel the run, once."""
        if self._presses and not self._passed_on:
            self._passed_on = True
            desk.cancel(self.run_id, "Ctrl-C at the terminal")

    def _pressed(self, *_: object) -> None:
        if not self.run_id:
            raise KeyboardInterrupt
        self._presses += 1
        if self._presses == 1:
            click.echo(
                "\ncancelling: the run stops before its next step and takes back what it did; "
                "press Ctrl-C again to leave now",
                err=True,
            )
            return
        click.echo(
            f"\nleft; run {self.run_id} is not closed. If this command did the work itself, it stands still "
            f"now: `remediate runs follow {self.run_id}` takes it up, looks first, and finishes it",
            err=True,
        )
        sys.stdout.flush()
        # Like a crash, which a run survives: waiting for threads that work would not be leaving.
        os._exit(INTERRUPTED)


def _named(failure: RemediateError, run_id: str) -> RemediateError:
    error = RemediateError(
        f"the work on run {run_id} stopped: {failure}; mend that, then go on with "
        f"`remediate runs follow {run_id}`"
    )
    error.exit_code = failure.exit_code
    return error


def print_end(run: Run, lang: str) -> None:
    """The outcome, why, how fast, and what to do now."""
    for line in end_lines(run, lang):
        bold = bool(line.tone) or line.text.startswith(say(lang, "outcome"))
        click.secho(line.text, fg=_COLOURS.get(line.tone), bold=bold)


def end_code(run: Run) -> int:
    """What the shell is told."""
    return int(run.exit_code) if run.closed or run.state is State.AWAITING_APPROVAL else int(ExitCode.UNKNOWN)

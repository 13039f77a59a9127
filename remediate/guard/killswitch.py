"""The kill switch: a file, so that stopping needs neither database nor network nor this program.

`touch FILE` engages it, `rm FILE` releases it; `remediate pause` and `resume` do the same and say why.
"""

from __future__ import annotations

import os
from pathlib import Path

from remediate.errors import UsageError, WorkerError

_MOST_READ = 4096


class KillSwitch:
    """Stops everything while its file is there."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def engaged(self) -> str | None:
        """Why everything is stopped, or None; what cannot be read counts as engaged."""
        try:
            # A link may lead anywhere and a pipe would block the reader: both are read as "engaged".
            descriptor = os.open(self.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                text = os.read(descriptor, _MOST_READ)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            if self.file.parent.is_dir():
                return None
            return f"{self.file.parent} is not there, so nobody can tell whether {self.file.name} is"
        except OSError as error:
            return f"{self.file} cannot be read ({error.strerror}), which counts as engaged"
        return _one_line(text.decode(errors="replace")) or f"engaged by {self.file}"

    def engage(self, reason: str, actor: str) -> None:
        """Stop everything; also on a full disk, where only the reason is lost."""
        if not _one_line(reason):
            raise UsageError("the kill switch needs a reason; add `--reason TEXT`")
        line = f"{_one_line(reason)} (engaged by {_one_line(actor)})\n"
        try:
            self._replace(line.encode())
        except OSError as error:
            self._engage_bare(error)

    def release(self) -> None:
        """Let runs start again; releasing what is not engaged is fine."""
        try:
            self.file.unlink(missing_ok=True)
            _sync_directory(self.file.parent)
        except OSError as error:
            raise WorkerError(
                f"the kill switch {self.file} could not be released ({error.strerror}); remove the file"
            ) from error

    def _replace(self, content: bytes) -> None:
        """Put the file in place whole, so that a reader never sees half a reason."""
        draft = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            draft.replace(self.file)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        _sync_directory(self.file.parent)

    def _engage_bare(self, cause: OSError) -> None:
        """Make the empty file: its being there is what stops."""
        try:
            os.close(os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        except OSError as error:
            raise WorkerError(
                f"the kill switch {self.file} could not be engaged ({cause.strerror}); make that file by hand"
            ) from error


def _one_line(text: str) -> str:
    """The text without line breaks and control characters: it is shown on terminals."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

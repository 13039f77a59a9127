"""One JSON object per line over a pipe, between the worker and its supervised child."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

Frame = dict[str, Any]


def send(descriptor: int, frame: Frame) -> None:
    """Write one frame, all of it; OSError when nobody reads any more."""
    left = memoryview(json.dumps(frame, separators=(",", ":")).encode() + b"\n")
    while left:
        left = left[os.write(descriptor, left) :]


class Frames:
    """Cuts the bytes of one pipe into frames."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        #: The other end has closed the pipe and everything before that was delivered.
        self.ended = False

    def fileno(self) -> int:
        """For `poll`."""
        return self._descriptor

    def read(self) -> Iterator[Frame]:
        """The frames completed by one read; blocks when there is nothing to read."""
        chunk = os.read(self._descriptor, 1 << 16)
        if not chunk:
            self.ended = True
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)

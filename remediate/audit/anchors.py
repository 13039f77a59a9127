"""Anchors: copies of checkpoints, kept where someone who owns this machine cannot change them.

An anchor that cannot be reached is reported (`AnchorState`, and a `checkpoint.anchored` entry when it
fails and when it works again) and never costs a run: what it missed is covered by its next success,
because every checkpoint commits to all entries before it.
"""

from __future__ import annotations

import base64
import errno
import os
import re
import socket
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from remediate.audit.checkpoint import Checkpoint
from remediate.audit.files import create_private_file, make_private_dir
from remediate.errors import ConfigError

#: By which a verifier finds checkpoints in a collected syslog.
SYSLOG_MARK = "remediate-checkpoint:"
#: Facility security (10), severity notice (5).
_PRIORITY = 10 * 8 + 5
_TIMEOUT_SECONDS = 2.0


class Anchor(Protocol):
    """Keeps signed checkpoints elsewhere."""

    @property
    def name(self) -> str:
        """How the operator knows it, e.g. `file:/mnt/anchors`."""
        ...

    def publish(self, note_text: str) -> None:
        """Keep this signed checkpoint; an `OSError` says that it could not."""
        ...


class FileAnchor:
    """Appends checkpoints to one file per log in `directory`, best on another machine's disk.

    The file is only ever appended to, so `chattr +a` or a WORM share suits it. A record is
    `note LENGTH`, the note, and a newline; a torn last record (power cut) is told apart by its length.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def name(self) -> str:
        """`file:DIRECTORY`."""
        return f"file:{self.directory}"

    def publish(self, note_text: str) -> None:
        """Append the note and flush it to the disk; one that is there already is not repeated."""
        make_private_dir(self.directory)
        path = self.directory / anchor_file_name(Checkpoint.parse(note_text).origin)
        record = f"note {len(note_text.encode())}\n{note_text}\n".encode()
        create_private_file(path)
        with path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - len(record)))
            last = file.read()
            if last == record:
                return
            # One write, so that two processes cannot mix theirs; a torn record before it is closed.
            file.write(record if last.endswith(b"\n") or not last else b"\n" + record)
            file.flush()
            os.fsync(file.fileno())


class SyslogAnchor:
    """Sends checkpoints as RFC 5424 messages: `/dev/log`, `host:port` (UDP) or `tcp:host:port`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._path, self._endpoint, self._tcp = _syslog_endpoint(address)

    @property
    def name(self) -> str:
        """`syslog:ADDRESS`."""
        return f"syslog:{self.address}"

    def publish(self, note_text: str) -> None:
        """Hand the note to the collector; UDP and local datagrams get no answer."""
        message = syslog_message(note_text, datetime.now(UTC))
        if self._path is not None:
            _send_unix(self._path, message)
        elif self._tcp:
            with closing(socket.create_connection(self._endpoint, timeout=_TIMEOUT_SECONDS)) as stream:
                stream.sendall(f"{len(message)} ".encode() + message)  # octet counting, RFC 6587
        else:
            family, kind, protocol, _, address = socket.getaddrinfo(*self._endpoint, type=socket.SOCK_DGRAM)[
                0
            ]
            with closing(socket.socket(family, kind, protocol)) as datagram:
                datagram.sendto(message, address)


def parse_anchors(specs: Iterable[str]) -> list[Anchor]:
    """The anchors of a setting such as `["file:/mnt/anchors", "syslog:/dev/log"]`."""
    return [_parse_anchor(spec) for spec in specs]


def anchor_file_name(origin: str) -> str:
    """The name of the file a `FileAnchor` keeps for this log."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", origin) + ".checkpoints"


def syslog_message(note_text: str, now: datetime) -> bytes:
    """The RFC 5424 message that carries a checkpoint on one line."""
    checkpoint = Checkpoint.parse(note_text)
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    encoded = base64.b64encode(note_text.encode()).decode()
    header = f"<{_PRIORITY}>1 {stamp} {socket.gethostname() or '-'} remediate {os.getpid()} checkpoint -"
    return f"{header} size={checkpoint.size} {SYSLOG_MARK}{encoded}".encode()


def _parse_anchor(spec: str) -> Anchor:
    scheme, _, rest = spec.partition(":")
    if scheme == "file" and rest:
        return FileAnchor(Path(rest).expanduser())
    if scheme == "syslog" and rest:
        return SyslogAnchor(rest)
    raise ConfigError(
        f"anchor {spec!r}: expected file:DIRECTORY, syslog:/dev/log, syslog:HOST:PORT or syslog:tcp:HOST:PORT"
    )


def _syslog_endpoint(address: str) -> tuple[str | None, tuple[str, int], bool]:
    if address.startswith("/"):
        return address, ("", 0), False
    tcp = address.startswith("tcp:")
    host, _, port = address.removeprefix("tcp:").removeprefix("udp:").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"anchor syslog:{address}: expected /dev/log, HOST:PORT or tcp:HOST:PORT")
    return None, (host.strip("[]"), int(port)), tcp


def _send_unix(path: str, message: bytes) -> None:
    """Local collectors listen on a datagram socket; some on a stream."""
    try:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as datagram:
            datagram.settimeout(_TIMEOUT_SECONDS)
            datagram.connect(path)
            datagram.send(message)
    except OSError as error:
        if error.errno != errno.EPROTOTYPE:
            raise
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as stream:
            stream.settimeout(_TIMEOUT_SECONDS)
            stream.connect(path)
            stream.sendall(message + b"\n")

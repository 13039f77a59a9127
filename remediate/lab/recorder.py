"""A video recorder to swap a storage pool under, in the demo, the lab and the tests.

It stands in for a recording server: the pictures are noise, the writing is real. Every channel gets
a small segment per interval, written to the pool that the symlink CURRENT points to: temporary name,
fsync, rename, fsync of the folder, then its sha256 in a manifest outside of the pools. When the pool
cannot be written the segment goes to a spool, and from there into the pool once that works again.

    python -m remediate.lab.recorder --pools DIR_A DIR_B --current LINK --port N --channels C

    LINK/<channel>/<number>.seg      the segments
    manifest/<channel>.sha256        `sha256sum -c` lines, relative to a pool; beside LINK
    spool/<channel>/<number>.seg     what the pool did not take; beside LINK
    GET /segments                    ages, pool and spool depth as JSON

To make a pool fail without being root, rename its folder away: the recorder never recreates it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from remediate.errors import ConfigError, RemediateError
from remediate.lab.token_service import announce, serve


def write_durably(folder: Path, name: str, data: bytes) -> None:
    """Put `data` into folder/name so that it is there whole or not at all, also after a power cut."""
    # Only the channel's own folder is made: a missing pool is a fault, not something to paper over.
    folder.mkdir(exist_ok=True)
    draft = folder / f".{name}.tmp"
    with draft.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    draft.rename(folder / name)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass
class Channel:
    """One camera's stream of segments."""

    name: str
    number: int = 0
    newest: str = ""
    #: Moment of the newest segment anywhere, and of the newest one in a pool.
    written_at: float | None = None
    pooled_at: float | None = None


@dataclass
class Recorder:
    """Writes segments for every channel and knows how old the newest ones are."""

    pools: tuple[Path, ...]
    current: Path
    channels: int
    segment_bytes: int = 16384
    clock: Callable[[], float] = time.monotonic
    noise: random.Random = field(default_factory=random.Random)
    #: Why the pool did not take the last segment; empty when it did.
    trouble: str = ""

    def __post_init__(self) -> None:
        self.spool = self.current.parent / "spool"
        self.manifest = self.current.parent / "manifest"
        self.spool.mkdir(exist_ok=True)
        self.manifest.mkdir(exist_ok=True)
        width = max(2, len(str(self.channels)))
        self._channels = [Channel(f"ch{n:0{width}}") for n in range(1, self.channels + 1)]
        for channel in self._channels:
            channel.number = self._last_number(channel.name)

    def _last_number(self, name: str) -> int:
        """Go on counting where an earlier recorder stopped, so that no segment is overwritten."""
        listed = self.manifest / f"{name}.sha256"
        lines = listed.read_text().splitlines() if listed.exists() else []
        return int(Path(lines[-1].split()[-1]).stem) if lines else 0

    def pool(self) -> Path:
        """Return the pool that is recorded to, by the symlink."""
        found = self.current.resolve()
        if found not in self.pools:
            raise OSError(f"{self.current} points to {found}, which is no pool of this recorder")
        return found

    def record(self) -> None:
        """Write one segment per channel."""
        for channel in self._channels:
            channel.number += 1
            data = self.noise.randbytes(self.segment_bytes)
            name = f"{channel.number:08}.seg"
            try:
                write_durably(self.pool() / channel.name, name, data)
                pooled = True
                self.trouble = ""
            except OSError as refused:
                self.trouble = refused.strerror or str(refused)
                write_durably(self.spool / channel.name, name, data)
                pooled = False
            self._list(channel.name, name, data)
            channel.newest, channel.written_at = name, self.clock()
            if pooled:
                channel.pooled_at = channel.written_at
        if not self.trouble:
            self.drain()

    def _list(self, channel: str, name: str, data: bytes) -> None:
        with (self.manifest / f"{channel}.sha256").open("a") as out:
            out.write(f"{hashlib.sha256(data).hexdigest()}  {channel}/{name}\n")
            out.flush()
            os.fsync(out.fileno())

    def spooled(self) -> list[Path]:
        """Return the segments that wait for a pool, oldest first."""
        return sorted(self.spool.glob("*/*.seg"))

    def drain(self) -> None:
        """Move what waits into the pool; what does not fit stays."""
        for segment in self.spooled():
            try:
                write_durably(self.pool() / segment.parent.name, segment.name, segment.read_bytes())
            except OSError as refused:
                self.trouble = refused.strerror or str(refused)
                return
            segment.unlink()

    def state(self) -> dict[str, object]:
        """Return what GET /segments says."""
        now = self.clock()

        def age(moment: float | None) -> int | None:
            return None if moment is None else int(1000 * (now - moment))

        try:
            pool = str(self.pool())
        except OSError:
            pool = ""
        return {
            "pool": pool,
            "spool_depth": len(self.spooled()),
            "trouble": self.trouble,
            "channels": {
                channel.name: {
                    "newest": channel.newest,
                    "age_ms": age(channel.written_at),
                    "pool_age_ms": age(channel.pooled_at),
                }
                for channel in self._channels
            },
        }


class Server(ThreadingHTTPServer):
    """GET /segments on 127.0.0.1."""

    daemon_threads = True

    def __init__(self, port: int, recorder: Recorder) -> None:
        self.recorder = recorder
        super().__init__(("127.0.0.1", port), Handler)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Write nothing."""

    def do_GET(self) -> None:
        """Answer /segments and nothing else."""
        found = self.path == "/segments"
        data = json.dumps(self.server.recorder.state() if found else {"error": "no such path"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main(argv: list[str] | None = None) -> int:
    """Record until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m remediate.lab.recorder", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--pools", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--current", type=Path, required=True, metavar="LINK")
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two segments")
    parser.add_argument("--segment-bytes", type=int, default=16384)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--ready-file", type=Path, help="written with url and pid once it answers")
    given = parser.parse_args(argv)
    try:
        if not given.current.is_symlink():
            raise ConfigError(f"--current {given.current} is no symlink; point it to one of the pools")
        recorder = Recorder(
            pools=tuple(pool.resolve() for pool in given.pools),
            current=given.current.absolute(),
            channels=given.channels,
            segment_bytes=given.segment_bytes,
        )
        server = Server(given.port, recorder)
    except (RemediateError, OSError) as refusal:
        print(f"recorder: {refusal}", file=sys.stderr)
        return 64
    stopped = threading.Event()

    def record() -> None:
        while not stopped.is_set():
            started = time.monotonic()
            try:
                recorder.record()
            except OSError as refused:
                # Neither pool nor spool: keep the state page alive, it is what tells of the fault.
                recorder.trouble = f"neither pool nor spool: {refused.strerror or refused}"
            stopped.wait(max(0.0, given.interval - (time.monotonic() - started)))

    writer = threading.Thread(target=record)
    writer.start()
    announce(given.ready_file, f"http://127.0.0.1:{server.server_port}")
    try:
        serve(server)
    finally:
        stopped.set()
        writer.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())

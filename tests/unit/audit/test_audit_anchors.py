"""Anchors against real files and real sockets."""

from __future__ import annotations

import base64
import socket
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from remediate.audit.anchors import FileAnchor, SyslogAnchor, parse_anchors, syslog_message
from remediate.audit.checkpoint import sign_checkpoint
from remediate.audit.note import Signer
from remediate.audit.verify import Report, _read_anchors
from remediate.errors import ConfigError

SIGNER = Signer.from_seed("node/remediate-1", bytes(32))
NOTES = [sign_checkpoint("node/remediate-1", size, bytes(32), [SIGNER]).note_text for size in (1, 2, 3)]


def sizes(path: Path) -> list[int]:
    report = Report("x")
    return [head.size for _, head in _read_anchors(path, report)]


def test_a_file_anchor_appends_and_does_not_repeat(tmp_path: Path) -> None:
    anchor = FileAnchor(tmp_path / "anchors")
    for note in (*NOTES, NOTES[-1]):
        anchor.publish(note)
    assert sizes(tmp_path / "anchors") == [1, 2, 3]


def test_a_torn_record_does_not_hide_the_next_one(tmp_path: Path) -> None:
    anchor = FileAnchor(tmp_path / "anchors")
    anchor.publish(NOTES[0])
    anchor.publish(NOTES[1])
    (file,) = (tmp_path / "anchors").iterdir()
    content = file.read_bytes()
    for cut in range(len(content)):
        file.write_bytes(content[:cut])
        anchor.publish(NOTES[2])
        assert 3 in sizes(file), (cut, file.read_bytes())


def test_syslog_over_udp(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as collector:
        collector.bind(("127.0.0.1", 0))
        SyslogAnchor(f"127.0.0.1:{collector.getsockname()[1]}").publish(NOTES[0])
        message = collector.recv(65536)
    assert message.startswith(b"<85>1 20")
    (tmp_path / "syslog").write_bytes(b"noise\n" + message + b"\nnoise\n")
    assert sizes(tmp_path / "syslog") == [1]


def test_syslog_over_tcp() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        SyslogAnchor(f"tcp:127.0.0.1:{server.getsockname()[1]}").publish(NOTES[0])
        connection, _ = server.accept()
        with closing(connection):
            length, _, message = connection.recv(65536).partition(b" ")
    assert int(length) == len(message)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_syslog_over_a_local_socket(tmp_path: Path, kind: socket.SocketKind) -> None:
    path = tmp_path / "log"
    with closing(socket.socket(socket.AF_UNIX, kind)) as server:
        server.bind(str(path))
        if kind == socket.SOCK_STREAM:
            server.listen()
        SyslogAnchor(str(path)).publish(NOTES[0])
        receiver = server.accept()[0] if kind == socket.SOCK_STREAM else server
        assert b"remediate-checkpoint:" in receiver.recv(65536)
        if receiver is not server:
            receiver.close()


def test_a_syslog_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        SyslogAnchor(str(tmp_path / "none")).publish(NOTES[0])


def test_the_syslog_message_carries_the_whole_note() -> None:
    message = syslog_message(NOTES[0], datetime(2026, 3, 1, tzinfo=UTC)).decode()
    assert message.startswith("<85>1 2026-03-01T00:00:00.000000Z ")
    assert base64.b64decode(message.rpartition("remediate-checkpoint:")[2]).decode() == NOTES[0]


def test_anchors_of_a_setting() -> None:
    anchors = parse_anchors(
        ["file:/mnt/anchors", "syslog:/dev/log", "syslog:[::1]:514", "syslog:tcp:log:6514"]
    )
    assert [anchor.name for anchor in anchors] == [
        "file:/mnt/anchors",
        "syslog:/dev/log",
        "syslog:[::1]:514",
        "syslog:tcp:log:6514",
    ]


@pytest.mark.parametrize(
    "spec", ["", "file:", "git:x", "syslog:host", "syslog:host:port", "syslog:host:70000"]
)
def test_what_is_not_an_anchor_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        parse_anchors([spec])

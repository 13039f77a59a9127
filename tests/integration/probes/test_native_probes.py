"""The native probes against real sockets and processes."""

from __future__ import annotations

import datetime
import json
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from remediate.lab.recorder import Recorder
from remediate.model.plan import VerifySpec
from remediate.model.result import Observation
from remediate.probes import probe_for
from remediate.probes.http import BODY_LIMIT
from remediate.probes.ping import PingProbe

Answer = Callable[[BaseHTTPRequestHandler], None]


class Service(ThreadingHTTPServer):
    """Answers each path with what the test put there."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    def url(self, path: str, answer: Answer) -> str:
        self.answers[path] = answer
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        try:
            self.server.answers[self.path](self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def body(data: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def drip(seconds: float) -> Answer:
    """A byte now and then: every single read is in time, the whole never is."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(int(seconds / 0.05)):
            handler.wfile.write(b".")
            handler.wfile.flush()
            time.sleep(0.05)

    return answer


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def look(probe: str, address: str, timeout: float = 5.0, **changes: Any) -> Observation:
    return probe_for(probe).look(VerifySpec(probe=probe, **changes), address=address, timeout=timeout)


def test_the_expected_status_and_text_are_healthy(service: Service) -> None:
    seen = look("http", service.url("/", body(b"all is well")), expect_text="well")

    assert (seen.ok, seen.expected, seen.observed) == (True, "status 200 with 'well'", "status 200")


def test_another_status_is_not_healthy_and_another_expected_one_is(service: Service) -> None:
    url = service.url("/", body(b"", status=503))

    assert (look("http", url).ok, look("http", url).observed) == (False, "status 503")
    assert look("http", url, expect_status=503).ok


def test_the_status_without_the_text_is_not_healthy(service: Service) -> None:
    seen = look("http", service.url("/", body(b"starting")), expect_text="well")

    assert (seen.ok, seen.observed) == (False, "status 200 without 'well'")


def test_a_redirect_is_reported_and_not_followed(service: Service) -> None:
    service.url("/elsewhere", body(b"well"))

    seen = look("http", service.url("/", body(b"", status=302, Location="/elsewhere")))

    assert (seen.ok, seen.observed) == (False, "status 302, pointing to '/elsewhere' (not followed)")
    assert service.asked == ["/"]


def test_only_the_first_64_kib_are_searched(service: Service) -> None:
    inside = service.url("/inside", body(b"x" * (BODY_LIMIT - 4) + b"well"))
    outside = service.url("/outside", body(b"x" * BODY_LIMIT + b"well"))

    assert look("http", inside, expect_text="well").ok
    assert look("http", outside, expect_text="well").observed.endswith("in its first 64 KiB")


def test_an_answer_that_drips_ends_with_the_time_out(service: Service) -> None:
    url = service.url("/", drip(5))
    began = time.monotonic()

    seen = look("http", url, timeout=0.5)

    assert (seen.ok, seen.observed) == (False, "no answer within 0.5 s")
    assert time.monotonic() - began < 2


def test_a_proxy_from_the_environment_does_not_answer_for_the_target(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    assert look("http", service.url("/", body(b""))).ok


def test_a_refused_connection_is_said_so() -> None:
    seen = look("http", f"http://127.0.0.1:{free_port()}/")

    assert not seen.ok
    assert "ConnectError" in seen.observed


def test_a_certificate_nobody_vouches_for_is_not_healthy(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Service()
    server.answers["/"] = body(b"well")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the refused handshake
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()

        seen = look("http", f"https://127.0.0.1:{server.server_address[1]}/")

        server.shutdown()
        thread.join()
    assert not seen.ok
    assert "CERTIFICATE_VERIFY_FAILED" in seen.observed


def test_it_can_be_called_where_a_loop_is_running(service: Service) -> None:
    import asyncio

    async def inside() -> Observation:
        return look("http", service.url("/", body(b"")))

    assert asyncio.run(inside()).ok


def segments(**ages: Any) -> Answer:
    channels = {name: {"newest": "1.seg", "age_ms": 100, "pool_age_ms": age} for name, age in ages.items()}
    return body(json.dumps({"pool": "/a", "spool_depth": 0, "channels": channels}).encode())


def test_fresh_channels_are_healthy(service: Service) -> None:
    seen = look("segment", service.url("/segments", segments(ch1=0, ch2=5000)), max_age=5)

    assert (seen.ok, seen.observed) == (True, "2 channel(s) fresh")


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (5001, "ch2 5 s"),
        (None, "ch2 without a segment"),
        (True, "ch2 without a usable age"),
        ("1", "ch2 without a usable age"),
        (float("nan"), "ch2 without a usable age"),
        (float("inf"), "ch2 without a usable age"),
        (-6000, "ch2 -6 s"),
    ],
)
def test_one_stale_channel_is_enough(service: Service, age: Any, said: str) -> None:
    seen = look("segment", service.url("/segments", segments(ch1=0, ch2=age)), max_age=5)

    assert (seen.ok, seen.observed) == (False, f"1 of 2 channel(s) stale: {said}")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"channels": {}}', "no channel is recorded"),
        (b'{"channels": []}', "no channel is recorded"),
        (b'{"channels": "many"}', "no channel is recorded"),
        (b'{"channels": {"ch1": 3}}', "1 of 1 channel(s) stale: ch1 without a segment"),
        (b"{}", "the answer does not list channels"),
        (b"[]", "the answer does not list channels"),
        (b"null", "the answer does not list channels"),
        (b"\xff", "the answer does not list channels"),
        (b"[" * 100_000, "the answer does not list channels"),
        (b" " * (1024 * 1024 + 1), "status 200, longer than 1 MiB"),
    ],
)
def test_what_is_no_list_of_channels_is_not_healthy(service: Service, data: bytes, said: str) -> None:
    seen = look("segment", service.url("/segments", body(data)))

    assert (seen.ok, seen.observed) == (False, said)


def test_a_recorder_in_trouble_is_not_healthy_whatever_it_lists(service: Service) -> None:
    url = service.url("/segments", body(b'{"channels": {"ch1": {"age_ms": 0}}}', status=500))

    assert look("segment", url).observed == "status 500"


def test_the_age_in_the_pool_counts_before_the_age_anywhere(service: Service) -> None:
    spooled = service.url("/a", body(b'{"channels": {"ch1": {"age_ms": 0, "pool_age_ms": 99000}}}'))
    simple = service.url("/b", body(b'{"channels": {"ch1": {"age_ms": 0}}}'))

    assert not look("segment", spooled).ok
    assert look("segment", simple).ok


def test_the_lab_recorder_is_understood(service: Service, tmp_path: Path) -> None:
    for pool in ("a", "b"):
        (tmp_path / pool).mkdir()
    (tmp_path / "current").symlink_to(tmp_path / "a")
    recorder = Recorder(
        pools=((tmp_path / "a").resolve(), (tmp_path / "b").resolve()),
        current=tmp_path / "current",
        channels=2,
        segment_bytes=16,
    )

    def state(handler: BaseHTTPRequestHandler) -> None:
        body(json.dumps(recorder.state()).encode())(handler)

    url = service.url("/segments", state)
    assert not look("segment", url).ok
    recorder.record()
    assert look("segment", url).ok
    (tmp_path / "a").rename(tmp_path / "lost")
    recorder.record()
    time.sleep(1.1)
    assert not look("segment", url, max_age=1).ok


def test_a_listener_is_reached_and_a_closed_port_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert look("tcp", f"127.0.0.1:{port}").ok

    seen = look("tcp", f"127.0.0.1:{port}")
    assert (seen.ok, "refused" in seen.observed) == (False, True)


def test_a_listener_that_takes_nobody_ends_with_the_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        address = full.getsockname()
        for _ in range(4):  # what fills the queue, so that further ones get no answer
            caller = waiting.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(address)

        seen = look("tcp", f"127.0.0.1:{address[1]}", timeout=0.3)

    assert (seen.ok, seen.observed) == (False, "no answer within 0.3 s")


def stub(tmp_path: Path, script: str) -> PingProbe:
    file = tmp_path / "ping"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o700)
    return PingProbe(str(file))


def ping(probe: PingProbe, host: str = "127.0.0.1", timeout: float = 5.0) -> Observation:
    return probe.look(VerifySpec(probe="ping"), address=host, timeout=timeout)


def test_ping_is_started_with_exactly_these_arguments(tmp_path: Path) -> None:
    probe = stub(tmp_path, f'printf "%s\\n" "$@" > {tmp_path}/argv; env > {tmp_path}/env')

    assert ping(probe, timeout=1.2).ok
    assert (tmp_path / "argv").read_text().split("\n") == ["-n", "-c", "1", "-W", "2", "--", "127.0.0.1", ""]
    assert "HOME=" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize("host", ["-f", "", "a b", "a;id", "$(id)", "@file", "a\nb", "x" * 300])
def test_ping_is_not_started_for_what_is_no_host(tmp_path: Path, host: str) -> None:
    probe = stub(tmp_path, f"touch {tmp_path}/started")

    assert not ping(probe, host).ok
    assert not (tmp_path / "started").exists()


def test_a_host_that_does_not_answer_is_said_so(tmp_path: Path) -> None:
    assert ping(stub(tmp_path, "exit 1")).observed == "no answer"
    assert ping(stub(tmp_path, "echo 'ping: x: unknown' >&2; exit 2")).observed == "ping: x: unknown"


def test_a_ping_that_hangs_ends_with_the_time_out(tmp_path: Path) -> None:
    assert ping(stub(tmp_path, "exec sleep 30"), timeout=0.3).observed == "no answer within 0.3 s"


def test_a_machine_without_ping_says_what_to_install(tmp_path: Path) -> None:
    seen = ping(PingProbe(str(tmp_path / "nothing")))

    assert (seen.ok, "install it" in seen.observed) == (False, True)


@pytest.mark.skipif(shutil.which("ping") is None, reason="this machine has no ping")
def test_this_machine_answers_itself() -> None:
    assert look("ping", "127.0.0.1").ok


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def self_signed(directory: Path) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    files = directory / "cert.pem", directory / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files

"""What every probe promises: an observation, never an exception, and never "ok" by accident."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from remediate.model.plan import VerifySpec
from remediate.model.result import Observation
from remediate.probes import PROBES, probe_for

NONSENSE = [
    "",
    " ",
    "-f",
    "--help",
    "http://",
    "http://[",
    "http://-h/",
    "http://user:secret@127.0.0.1:1/",
    "ftp://127.0.0.1/",
    "file:///etc/passwd",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:x/",
    "127.0.0.1:notaport",
    "127.0.0.1;id",
    "$(id)",
    "a\nb",
    "a\0b",
    "\ud800",
    "x" * 5000,
    "http://" + "x" * 5000 + "/",
    "http://127.0.0.1:1/\r\nX: y",
    "nobody.invalid:80",
    "http://nobody.invalid/",
]


@pytest.fixture(params=sorted(PROBES))
def probe_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("address", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_is_an_observation_that_is_not_ok(probe_name: str, address: str) -> None:
    seen = probe_for(probe_name).look(VerifySpec(probe=probe_name), address=address, timeout=5.0)

    assert isinstance(seen, Observation)
    assert seen.ok is False
    assert seen.observed


def test_a_password_in_an_address_is_not_repeated_as_a_finding(probe_name: str) -> None:
    seen = probe_for(probe_name).look(
        VerifySpec(probe=probe_name), address="http://alice:hunter2@127.0.0.1:1/", timeout=5.0
    )

    assert "hunter2" not in f"{seen.name}{seen.expected}{seen.observed}"


@pytest.mark.parametrize("probe_name", ["http", "segment"])
def test_a_silent_peer_ends_with_the_time_out(probe_name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()

        seen = probe_for(probe_name).look(
            VerifySpec(probe=probe_name), address=f"http://127.0.0.1:{port}/", timeout=0.5
        )

    assert (seen.ok, seen.observed) == (False, "no answer within 0.5 s")
    assert time.monotonic() - began < 3


def test_the_name_says_what_was_looked_at(probe_name: str) -> None:
    seen = probe_for(probe_name).look(VerifySpec(probe=probe_name), address="127.0.0.1:1", timeout=1.0)

    assert seen.name == f"{probe_name} 127.0.0.1:1"


def test_importing_the_probes_does_not_import_the_http_client() -> None:
    program = "import sys, remediate.probes; sys.exit('httpx' in sys.modules or 'asyncio' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0

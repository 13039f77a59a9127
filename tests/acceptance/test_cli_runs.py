"""The installed command, as people use it: one project, real playbooks, a service that is down or up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pexpect
import pytest

from remediate.errors import ExitCode

COMMAND = str(Path(sysconfig.get_path("scripts")) / "remediate")
RUN_KEYS = [
    "id", "case_id", "code", "plan", "plan_hash", "target", "params", "trigger", "tier", "risk", "arming",
    "state", "outcome", "reason", "guards", "approvals", "phases", "timings", "audit",
]  # fmt: skip
PLAYBOOK = """\
- name: Bring the web service back
  hosts: web
  gather_facts: false
  tasks:
{waits}
    - name: Mend the service
      ansible.builtin.copy:
        content: up
        dest: {marker}
        mode: "0644"
"""
WAIT = """\
    - name: Work for a while, part {n}
      ansible.builtin.wait_for:
        timeout: 1
"""


class _Service(BaseHTTPRequestHandler):
    """Answers 200 while the marker file is there, else 503."""

    server: _Server

    def do_GET(self) -> None:
        self.send_response(200 if self.server.marker.exists() else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, marker: Path) -> None:
        self.marker = marker
        super().__init__(("127.0.0.1", 0), _Service)


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Site:
    """A project with one host, whose service a plan mends."""

    directory: Path
    marker: Path
    url: str

    def environment(self, token: str | None = None) -> dict[str, str]:
        plain = {name: text for name, text in os.environ.items() if not name.startswith("REMEDIATE_")}
        own = {"REMEDIATE_ANCHORS": f"file:{self.directory / 'anchors'}"}
        return {**plain, **own, **({"REMEDIATE_TOKEN": token} if token else {})}

    def start(self, *arguments: str, token: str | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, *arguments],
            cwd=self.directory,
            env=self.environment(token),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def remediate(self, *arguments: str, token: str | None = None) -> Answer:
        with self.start(*arguments, token=token) as process:
            out, err = process.communicate(timeout=60)
        return Answer(process.returncode, out, err)

    def plan(self, code: str, *, risk: str = "R2", waits: int = 0) -> None:
        """A plan around an ordinary playbook that brings the service back."""
        playbook = self.directory / f"{code.lower()}.yml"
        text = "".join(WAIT.format(n=n) for n in range(waits))
        playbook.write_text(PLAYBOOK.format(waits=text, marker=self.marker))
        made = self.remediate(
            "catalog", "new", code, "--playbook", str(playbook), "--probe", f"http:{self.url}", "--risk", risk
        )
        assert made.code == 0, made.err

    def token(self, name: str, role: str) -> str:
        text: str = self.remediate("tokens", "add", name, "--role", role, "-o", "json").json()["token"]
        return text

    def wait_for_run(self, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The last run, once it is that far."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            shown = self.remediate("runs", "show", "last", "-o", "json")
            if shown.code == 0 and reached(run := shown.json()):
                return run
            time.sleep(0.2)
        raise AssertionError("the run did not get that far within 60 s")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with _site(tmp_path / "site") as made:
        yield made
        # Whatever a test did, what is on record of it must verify; some record nothing.
        assert made.remediate("audit", "verify").code in (ExitCode.OK, ExitCode.USAGE)


@contextmanager
def _site(directory: Path) -> Iterator[Site]:
    subprocess.run([COMMAND, "init", str(directory)], check=True, capture_output=True)
    (directory / "inventory" / "hosts.yml").write_text(
        "all:\n  vars:\n    ansible_python_interpreter: '{{ ansible_playbook_python }}'\n  children:\n"
        "    web:\n      hosts:\n        web1: {ansible_connection: local, ansible_host: 127.0.0.1}\n"
    )
    marker = directory / "up"
    with _Server(marker) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Site(directory, marker, f"http://127.0.0.1:{server.server_port}/healthz")
        finally:
            server.shutdown()
            thread.join()
    shutil.rmtree(directory)


def test_a_run_recovers_is_on_record_and_is_not_repeated_at_once(site: Site) -> None:
    site.plan("APP-WEB-DOWN")

    run = site.remediate("run", "app-web-down", "-t", "web1", "--reason", "pager", "--yes")

    assert run.code == 0, run.out + run.err
    assert "outcome   recovered" in run.out
    assert "\033" not in run.out
    shown = site.remediate("runs", "show", "last", "-o", "json").json()
    assert list(shown) == RUN_KEYS
    assert (shown["outcome"], shown["state"], shown["target"]) == ("recovered", "closed", "web1")
    assert [phase["name"] for phase in shown["phases"]] == ["precheck", "apply", "verify"]
    assert shown["trigger"]["reason"] == "pager"
    assert shown["timings"]["restored_at"] > shown["timings"]["accepted_at"]
    assert shown["audit"]["checkpoint"] > shown["audit"]["last_seq"]
    assert site.remediate("audit", "verify").code == 0

    site.marker.unlink()
    again = site.remediate("run", "APP-WEB-DOWN", "-t", "web1", "--yes")

    assert again.code == 3
    assert "cooldown" in again.out
    assert not site.marker.exists()
    listed = site.remediate("runs", "list", "-o", "json").json()
    assert [one["outcome"] for one in listed] == ["refused", "recovered"]


def test_a_healthy_target_is_left_alone(site: Site) -> None:
    site.plan("APP-WEB-DOWN")
    site.marker.write_text("up already")

    run = site.remediate("run", "APP-WEB-DOWN", "-t", "web1", "--yes", "-o", "json")

    assert run.code == 0
    assert run.json()["outcome"] == "self_healed"
    assert site.marker.read_text() == "up already"


def test_a_dry_run_changes_nothing(site: Site) -> None:
    site.plan("APP-WEB-DOWN")

    run = site.remediate("run", "APP-WEB-DOWN", "-t", "web1", "--check", "--yes", "-o", "json")

    assert run.code == 0
    assert run.json()["outcome"] == "dry_run"
    assert not site.marker.exists()


def test_a_dangerous_run_waits_for_a_second_person_who_has_the_role(site: Site) -> None:
    site.plan("APP-WEB-DOWN", risk="R3")
    bob, oscar = site.token("bob", "approver"), site.token("oscar", "operator")

    held = site.remediate("run", "APP-WEB-DOWN", "-t", "web1", "--yes")

    assert held.code == 5
    assert "remediate approvals approve" in held.out
    assert "web1" in site.remediate("approvals", "list").out
    waiting = site.remediate("approvals", "list", "-o", "json").json()
    assert [one["waits_for"] for one in waiting] == ["approval"]
    run_id = waiting[0]["run"]

    nobody = site.remediate("approvals", "approve", run_id)
    wrong_role = site.remediate("approvals", "approve", run_id, token=oscar)
    stranger = site.remediate("approvals", "approve", run_id, token="rmt_bob_guess")

    assert [nobody.code, wrong_role.code, stranger.code] == [3, 3, 3]
    assert "approver" in wrong_role.err
    assert not site.marker.exists()

    approved = site.remediate("approvals", "approve", run_id, "--reason", "agreed", token=bob)

    assert approved.code == 0, approved.out + approved.err
    assert "outcome   recovered" in approved.out
    report = site.remediate("runs", "show", run_id)
    assert "bob (approver)" in report.out


def test_a_rejected_run_is_closed_as_refused(site: Site) -> None:
    site.plan("APP-WEB-DOWN", risk="R3")
    bob = site.token("bob", "approver")
    assert site.remediate("run", "APP-WEB-DOWN", "-t", "web1", "--yes").code == 5

    rejected = site.remediate("approvals", "reject", "last", "--reason", "wrong site", token=bob)

    assert rejected.code == 3
    assert "wrong site" in rejected.out
    assert not site.marker.exists()


def test_a_lone_person_breaks_the_glass_and_somebody_else_reviews_it(site: Site) -> None:
    site.plan("APP-WEB-DOWN", risk="R3")
    eve = site.token("eve", "auditor")

    silent = site.remediate("run", "APP-WEB-DOWN", "-t", "web1", "--yes", "--break-glass")
    broken = site.remediate(
        "run", "APP-WEB-DOWN", "-t", "web1", "--yes", "--break-glass", "--reason", "alone on call"
    )

    assert silent.code == 64
    assert "--reason" in silent.err
    assert broken.code == 0, broken.out + broken.err
    assert "somebody else has to review" in broken.out
    assert [one["waits_for"] for one in site.remediate("approvals", "list", "-o", "json").json()] == [
        "review"
    ]

    review = site.remediate("approvals", "review", "last", "--reason", "justified", token=eve)

    assert review.code == 0, review.err
    assert site.remediate("approvals", "list", "-o", "json").json() == []


def test_paused_means_that_nothing_starts_until_somebody_resumes(site: Site) -> None:
    site.plan("APP-WEB-DOWN")

    assert site.remediate("pause", "--reason", "core migration").code == 0
    paused = site.remediate("run", "APP-WEB-DOWN", "-t", "web1", "--yes")
    resumed = site.remediate("resume", "--reason", "done")
    twice = site.remediate("resume", "--reason", "done")
    run = site.remediate("run", "APP-WEB-DOWN", "-t", "web1", "--yes")

    assert paused.code == 3
    assert "core migration" in paused.out
    assert [resumed.code, twice.code, run.code] == [0, 64, 0]
    kinds = site.remediate("audit", "list", "--kind", "killswitch", "-o", "json").json()
    assert [one["data"]["engaged"] for one in kinds] == [True, False]


def test_another_command_cancels_a_run_through_the_worker_that_lives(site: Site) -> None:
    site.plan("APP-WEB-DOWN", waits=30)
    with site.start("run", "APP-WEB-DOWN", "-t", "web1", "--yes") as running:
        site.wait_for_run(lambda run: any(len(phase["steps"]) > 1 for phase in run["phases"][1:]))

        cancelled = site.remediate("runs", "cancel", "last", "--reason", "wrong host")

        out, err = running.communicate(timeout=60)
    assert "asked for by" in out
    assert running.returncode == cancelled.code == 6, out + err  # begun, and this plan has no rollback
    assert "wrong host" in cancelled.out
    assert not site.marker.exists()


def test_ctrl_c_cancels_and_goes_on_following(site: Site) -> None:
    site.plan("APP-WEB-DOWN", waits=30)
    with site.start("run", "APP-WEB-DOWN", "-t", "web1", "--yes") as running:
        site.wait_for_run(lambda run: any(len(phase["steps"]) > 1 for phase in run["phases"][1:]))

        running.send_signal(signal.SIGINT)

        out, err = running.communicate(timeout=60)
    assert running.returncode == 6, out + err
    assert "cancelling" in err
    assert "outcome   unknown" in out


def test_who_follows_a_run_takes_it_over_when_its_worker_is_killed(site: Site) -> None:
    site.plan("APP-WEB-DOWN", waits=4)
    with site.start("run", "APP-WEB-DOWN", "-t", "web1", "--yes") as worker:
        site.wait_for_run(lambda run: any(len(phase["steps"]) > 1 for phase in run["phases"][1:]))
        with site.start("runs", "follow", "last") as follower:
            assert follower.stdout is not None
            assert follower.stdout.readline()  # it follows the worker's run now
            worker.kill()
            out, err = follower.communicate(timeout=60)
        worker.communicate(timeout=60)
    assert "vanished" in err
    assert "goes on after an interruption" in out
    assert follower.returncode in (0, 2, 6), out + err
    closed = site.remediate("runs", "show", "last", "-o", "json").json()
    assert closed["state"] == "closed"
    # A foreign playbook is not repeated blindly: it only counts as recovered when the probe says so.
    assert (closed["outcome"] == "recovered") == site.marker.exists()
    assert site.remediate("audit", "verify").code == 0


def test_no_wait_needs_a_worker_that_stays(site: Site) -> None:
    site.plan("APP-WEB-DOWN")

    alone = site.remediate("run", "APP-WEB-DOWN", "-t", "web1", "--yes", "--no-wait")

    assert alone.code == 64
    assert "leave --no-wait away" in alone.err
    assert site.remediate("runs", "list", "-o", "json").json() == []


def test_a_second_run_is_handed_to_the_worker_of_the_first(site: Site) -> None:
    site.plan("APP-WEB-DOWN", waits=5)
    with site.start("run", "APP-WEB-DOWN", "-t", "web1", "--yes") as running:
        site.wait_for_run(lambda run: bool(run["phases"]))

        second = site.remediate("run", "APP-WEB-DOWN", "-t", "web1", "--yes")

        out, err = running.communicate(timeout=60)
    assert running.returncode == 0, out + err
    assert second.code == 3
    assert "is open" in second.out


def test_on_a_terminal_it_shows_the_plan_and_asks_before_it_acts(site: Site) -> None:
    site.plan("APP-WEB-DOWN")
    terminal = pexpect.spawn(
        COMMAND,
        ["run", "APP-WEB-DOWN", "-t", "web1"],
        cwd=str(site.directory),
        env=site.environment(),
        encoding="utf-8",
        timeout=60,
    )

    terminal.expect("target   web1")
    terminal.expect("no rollback|cannot be taken back")
    terminal.expect("guards   [0-9]+ of [0-9]+ pass")
    terminal.expect("go on")
    terminal.sendline("n")
    terminal.expect("nothing was started")
    terminal.expect(pexpect.EOF)
    terminal.close()

    assert terminal.exitstatus == 3
    assert site.remediate("runs", "list", "-o", "json").json() == []

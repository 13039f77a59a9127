"""A remedy that reports success and changes nothing never ends `recovered`; no secret shows anywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from remediate.app import work_dir
from remediate.catalog import load_catalog
from remediate.config import packaged_content
from remediate.content import ContentRoots
from remediate.demo.stage import Stage
from remediate.errors import ExitCode
from remediate.model.plan import Plan
from remediate.model.run import Outcome
from tests.reliability.world import outcomes_of, verified_trail

PLANS = load_catalog(ContentRoots.of()).plans()
#: For each packaged plan: the target, and how its fault comes about on the demo's hosts.
FAULTS = {"SEC-SESS-STALE": ("iam1", Stage.leak_the_signing_key)}
_DOES_NOTHING = """---
- name: apply | Report success and do nothing
  ansible.builtin.debug:
    msg: all done
  changed_when: true

- name: apply | Report
  ansible.builtin.set_fact:
    remediate_result:
      undo: [everything]
"""


def remediate(stage: Stage, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "remediate", *arguments],
        cwd=stage.project,
        env=stage.environment() | {"PYTHONPATH": str(Path(__file__).parents[2])} | environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def sabotage(stage: Stage, plan: Plan) -> None:
    """Replace the plan's apply by one that only says it worked, in the operator's content."""
    role = stage.project / "roles" / plan.slug
    shutil.copytree(packaged_content() / "roles" / plan.slug, role)
    (role / "tasks" / "apply.yml").write_text(_DOES_NOTHING)


@pytest.mark.parametrize("plan", PLANS, ids=[plan.code for plan in PLANS])
def test_a_sabotaged_plan_never_recovers(stage, plan):
    target, happens = FAULTS[plan.code]
    happens(stage)
    sabotage(stage, plan)

    done = remediate(stage, "run", plan.code, "--target", target, "--yes")

    assert done.returncode == 7, done.stdout + done.stderr
    assert outcomes_of(stage.project) == [Outcome.ROLLED_BACK]
    verified_trail(stage.project)
    print(
        f"COUNT sabotaged plans: {plan.code} ended rolled_back; {len(PLANS)} of {len(PLANS)} packaged plans"
    )


@contextmanager
def watching_arguments(secret: str):
    """The command lines of this machine that held the secret while the context lasted."""
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if secret.encode() in (process / "cmdline").read_bytes():
                        seen.add(process.name)
                except OSError:
                    continue
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_no_secret_shows_in_any_file_argument_entry_or_output(stage):
    """The canary account's password, over a run that helps and one that fails."""
    stage.leak_the_signing_key()
    state = stage.project / ".remediate"

    with watching_arguments(stage.canary_password) as seen:
        failed = remediate(
            stage,
            *("run", "SEC-SESS-STALE", "--target", "iam1", "--yes", "--diff"),
            REMEDIATE_SECRET_SESSION_CANARY_PASSWORD=f"{stage.canary_password}-wrong",
        )
        helped = remediate(stage, "run", "SEC-SESS-STALE", "--target", "iam1", "--yes", "--diff")
        shown = remediate(stage, "runs", "show", "last", "-o", "json")

    assert failed.returncode == ExitCode.FAILED, failed.stdout + failed.stderr
    assert helped.returncode == 0, helped.stdout + helped.stderr
    assert seen == set()
    output = "".join(done.stdout + done.stderr for done in (helped, failed, shown))
    assert stage.canary_password not in output
    files = [file for file in state.rglob("*") if file.is_file()]
    leaks = [file for file in files if stage.canary_password.encode() in file.read_bytes()]
    assert leaks == []
    assert list((state / "runs").glob("*")) == []
    work_dir(state).rmdir()  # only an empty folder can be removed
    print(f"COUNT secret canaries: 2 runs, {len(files)} files, command lines sampled every 20 ms, 0 leaks")


def test_every_hostile_target_is_refused_and_touches_nothing(stage):
    before = stage.leak_the_signing_key()
    hostile = [
        "",
        " ",
        ",",
        "all",
        "*",
        "~x",
        "!iam1",
        "@file",
        "iam1,obs1",
        "unknown",
        "identity",
        "localhost",
    ]
    hostile += ["iam1 ", "iam1\n", "-iam1", "../iam1", "{{ x }}", "iam1;id", "IAM1"]

    codes = {
        target: remediate(stage, "run", "SEC-SESS-STALE", f"--target={target}", "--yes").returncode
        for target in [*hostile, "rec1"]
    }

    assert {codes[target] for target in hostile} == {64}
    assert codes["rec1"] == 3
    assert outcomes_of(stage.project) == [Outcome.REFUSED]
    after = stage.leak_the_signing_key()
    assert after["epoch"] == before["epoch"]
    verified_trail(stage.project)
    print(f"COUNT hostile targets: {len(codes)} refused (exit 64 or 3), 0 touched")

"""What the verifier says about the meaning of entries; each log is written by the store itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediate.audit.store import AuditStore
from remediate.audit.verify import Report, verify
from remediate.model.entry import Actor, Draft, Json, Kind

Step = tuple[Kind, dict[str, Json]]

ALICE = "alice"
DECIDED: Step = (Kind.DECISION, {"verdict": "run"})
STARTED: Step = (Kind.RUN_START, {"plan_hash": "p"})
INTENT: Step = (Kind.PHASE_INTENT, {"phase": "apply", "attempt": 1})
RESULT: Step = (Kind.PHASE_RESULT, {"phase": "apply", "attempt": 1, "status": "ok"})
VERIFIED: Step = (Kind.VERIFY, {"ok": True})
RECOVERED: Step = (Kind.RUN_END, {"outcome": "recovered"})


def report_of(tmp_path: Path, *steps: Step, actor: str = ALICE) -> Report:
    with AuditStore.open(tmp_path / "a.db", keys=tmp_path / "keys") as store:
        for kind, data in steps:
            who = Actor(type="operator", id=actor)
            store.append(Draft(kind=kind, actor=who, run_id="r", case_id="c", data=data))
    return verify(tmp_path / "a.db", keys=tmp_path / "keys" / "vkeys")


def kinds(report: Report) -> list[str]:
    return [finding.kind for finding in report.findings if finding.level == 1]


def test_a_proper_run_has_no_finding(tmp_path: Path) -> None:
    report = report_of(tmp_path, DECIDED, STARTED, INTENT, RESULT, VERIFIED, RECOVERED)
    assert report.ok, report.findings
    assert (report.runs, report.open_runs) == (1, [])


def test_a_run_that_never_ended_is_reported_and_no_failure(tmp_path: Path) -> None:
    report = report_of(tmp_path, DECIDED, STARTED, INTENT)
    assert report.ok
    assert report.open_runs == ["r"]


@pytest.mark.parametrize(
    ("steps", "kind", "seq"),
    [
        ((STARTED,), "run-without-decision", 1),
        ((DECIDED, STARTED, RESULT), "step-without-intent", 3),
        ((DECIDED, STARTED, INTENT, (Kind.STEP_END, {"phase": "rollback"})), "step-without-intent", 4),
        ((DECIDED, STARTED, INTENT, RESULT, RECOVERED), "recovered-unverified", 5),
        ((DECIDED, STARTED, VERIFIED, INTENT, RESULT, RECOVERED), "recovered-unverified", 6),
        (
            (DECIDED, STARTED, INTENT, RESULT, (Kind.VERIFY, {"ok": False}), RECOVERED),
            "recovered-unverified",
            6,
        ),
        ((DECIDED, (Kind.APPROVAL_GRANTED, {"plan_hash": "q"}), STARTED), "plan-not-approved", 3),
        (
            (
                DECIDED,
                (Kind.APPROVAL_REQUESTED, {"requester": "alice"}),
                (Kind.APPROVAL_GRANTED, {"plan_hash": "p"}),
            ),
            "self-approval",
            3,
        ),
        (((Kind.TRIGGER_RECEIVED, {}), (Kind.APPROVAL_GRANTED, {"plan_hash": "p"})), "self-approval", 2),
        (
            (
                (Kind.APPROVAL_REQUESTED, {"requester": "carol"}),
                (Kind.APPROVAL_GRANTED, {"plan_hash": "p", "approver": "carol"}),
            ),
            "self-approval",
            2,
        ),
    ],
)
def test_what_must_not_happen_is_found_at_its_entry(
    tmp_path: Path, steps: tuple[Step, ...], kind: str, seq: int
) -> None:
    report = report_of(tmp_path, *steps)
    assert kinds(report) == [kind]
    assert report.first_bad is not None
    assert report.first_bad.seq == seq
    assert report.exit_code == 1


def test_data_of_any_shape_is_taken(tmp_path: Path) -> None:
    odd: dict[str, Json] = {
        "phase": ["x"],
        "plan_hash": {"a": []},
        "requester": 1,
        "approver": None,
        "ok": "yes",
    }
    report = report_of(
        tmp_path, *[(kind, odd) for kind in Kind if not kind.startswith(("key.", "log.", "prune"))]
    )
    assert "verifier-defect" not in [finding.kind for finding in report.findings]


def test_the_summary_names_what_was_counted(tmp_path: Path) -> None:
    lines = report_of(tmp_path, DECIDED, STARTED, INTENT, RESULT, VERIFIED, RECOVERED).summary_lines()
    text = "\n".join(lines)
    assert "semantics    1 runs: 0 steps without intent, 0 runs without decision," in text
    assert "who holds the signing key could have rewritten all of it" in text
    assert lines[-1] == "RESULT OK"

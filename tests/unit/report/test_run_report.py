"""The record of a run, as people and programs read it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from remediate.model.entry import Actor, Entry, Kind
from remediate.model.run import Outcome, Request, Run, State
from remediate.report.layout import one_line, printable, seconds, table, width, wrap
from remediate.report.messages import LANGUAGES
from remediate.report.run import RunReport
from remediate.report.text import run_text

ALICE = Actor(type="operator", id="alice", auth="token", src="tty:/dev/pts/1")
RUN = Run(
    id="01a2",
    case_id="c1",
    request=Request(
        code="SEC-SESS-STALE", target="iam1", params={"reason": "stale"}, actor=ALICE, reason="leak"
    ),
    plan="session_token_reset",
    plan_hash="ab" * 32,
    tier="L1",
    risk="R2",
    arming="approve",
    state=State.CLOSED,
    outcome=Outcome.ROLLED_BACK,
    reason="the fix did not help",
    vantage="obs1",
    accepted_at="2026-03-01T03:00:00.000000Z",
    decided_at="2026-03-01T03:00:00.050000Z",
    started_at="2026-03-01T03:00:01.000000Z",
    ended_at="2026-03-01T03:01:05.000000Z",
    acted=True,
)
GOOD = {"name": "canary", "expected": "accepted", "observed": "accepted", "ok": True}
BAD = {"name": "canary", "expected": "refused", "observed": "accepted", "ok": False}
GUARDS = [
    {"name": "kill_switch", "verdict": "pass", "reason": "not engaged", "facts": {}},
    {"name": "approval", "verdict": "hold", "reason": "a second person", "facts": {"needed": 1}},
]
HISTORY: list[tuple[Kind, dict[str, Any]]] = [
    (Kind.TRIGGER_RECEIVED, {}),
    (Kind.DECISION, {"guards": GUARDS, "verdict": "hold", "reason": "a second person"}),
    (Kind.PLAN, {"content_sha256": "cd" * 32}),
    (Kind.APPROVAL_REQUESTED, {"plan_hash": "ab" * 32, "needed": "one", "expires_at": "later"}),
    (Kind.APPROVAL_GRANTED, {"plan_hash": "ab" * 32, "role": "approver", "reason": "agreed"}),
    (Kind.RUN_START, {}),
    (Kind.PHASE_INTENT, {"phase": "apply", "attempt": 1, "purpose": ""}),
    (Kind.PHASE_INTENT, {"phase": "apply", "attempt": 2, "purpose": ""}),
    (Kind.STEP_END, {"name": "Move", "host": "iam1", "status": "changed", "changed": True, "diff": "-1\n+2"}),
    (Kind.PHASE_RESULT, {"phase": "apply", "status": "ok", "changed": True, "findings": ["moved"]}),
    (Kind.PHASE_INTENT, {"phase": "verify", "attempt": 1, "purpose": "apply"}),
    (Kind.VERIFY, {"ok": False}),
    (Kind.PHASE_RESULT, {"phase": "verify", "status": "ok", "observations": [BAD]}),
    (Kind.PHASE_INTENT, {"phase": "rollback", "attempt": 1, "purpose": ""}),
    (Kind.PHASE_RESULT, {"phase": "rollback", "status": "ok"}),
    (Kind.PHASE_INTENT, {"phase": "verify", "attempt": 1, "purpose": "rollback"}),
    (Kind.VERIFY, {"ok": True}),
    (Kind.PHASE_RESULT, {"phase": "verify", "status": "ok", "observations": [GOOD]}),
    (Kind.RUN_END, {}),
]


def entries() -> list[Entry]:
    return [
        Entry(
            seq=40 + n,
            ts=f"2026-03-01T03:00:{n:02}.000000Z",
            kind=kind,
            actor=Actor(type="operator", id="bob") if kind is Kind.APPROVAL_GRANTED else ALICE,
            run_id="01a2",
            case_id="c1",
            target="iam1",
            fault_code="SEC-SESS-STALE",
            data=data,
            prev="",
            body=b"",
        )
        for n, (kind, data) in enumerate(HISTORY)
    ]


@pytest.fixture
def report() -> RunReport:
    return RunReport.build(RUN, entries(), checkpoint=60)


def test_the_json_has_the_fields_of_the_contract(report: RunReport) -> None:
    data = report.as_json()

    assert list(data) == [
        "id", "case_id", "code", "plan", "plan_hash", "target", "params", "trigger", "tier", "risk",
        "arming", "state", "outcome", "reason", "guards", "approvals", "phases", "timings", "audit",
    ]  # fmt: skip
    assert set(data["trigger"]) == {"kind", "source", "actor", "reason"}
    assert set(data["guards"][0]) == {"name", "verdict", "reason", "facts"}
    assert set(data["phases"][0]) == {
        "name", "state", "started_at", "ended_at", "duration_ms", "changed", "steps",
    }  # fmt: skip
    assert set(data["phases"][1]["steps"][0]) == {
        "name", "kind", "host", "status", "changed", "diff", "message",
    }  # fmt: skip
    assert data["audit"] == {"first_seq": 40, "last_seq": 58, "checkpoint": 60}
    assert data["timings"]["fault_at"] is None
    assert data["timings"]["restored_at"] is None


def test_a_phase_without_a_result_was_interrupted(report: RunReport) -> None:
    states = [(phase.name, phase.state) for phase in report.phases]

    assert states == [
        ("apply", "interrupted"),
        ("apply", "ok"),
        ("verify", "ok"),
        ("rollback", "ok"),
        ("verify", "ok"),
    ]


def test_a_phase_of_an_open_run_is_still_running() -> None:
    report = RunReport.build(replace(RUN, state=State.APPLYING, outcome=None), entries()[:7])

    assert report.phases[-1].state == "running"
    assert report.phases[-1].duration_ms is None
    assert "open (applying)" in run_text(report)


def test_what_was_looked_at_is_in_the_json_as_steps(report: RunReport) -> None:
    sample = report.as_json()["phases"][2]["steps"][0]

    assert sample == {
        "name": "canary",
        "kind": "VERIFY",
        "host": "obs1",
        "status": "failed",
        "changed": False,
        "diff": "",
        "message": "expected refused, found accepted",
    }


def test_a_checkpoint_that_does_not_cover_the_run_is_not_claimed() -> None:
    report = RunReport.build(RUN, entries(), checkpoint=58)

    assert report.checkpoint is None
    assert "not signed by a checkpoint yet" in run_text(report)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_text_holds_the_minimum_of_a_run_record(report: RunReport, lang: str) -> None:
    text = run_text(report, lang)

    for fact in (
        "01a2", "session_token_reset", "cd" * 8, "SEC-SESS-STALE", "iam1", "L1", "R2", "alice", "bob",
        "leak", "a second person", "Move", "moved", "+2", "accepted", "rolled_back",
        "2026-03-01T03:00:00.000000Z", "40", "58", "60",
    ):  # fmt: skip
        assert fact in text, fact


def test_the_text_says_whether_the_rollback_is_proved(report: RunReport) -> None:
    assert "proved to be back" in run_text(report)
    unproved = [replace(e, data={"ok": False}) if e.kind is Kind.VERIFY else e for e in entries()]
    assert "NOT proved" in run_text(RunReport.build(RUN, unproved))


def test_a_refused_run_says_that_nothing_was_changed() -> None:
    refused = replace(RUN, outcome=Outcome.REFUSED, acted=False)

    text = run_text(RunReport.build(refused, entries()[:3]))

    assert "none was begun; nothing was changed" in text
    assert "Rollback" not in text


def test_no_line_of_a_report_is_wider_than_the_terminal(report: RunReport) -> None:
    for lang in LANGUAGES:
        assert max(map(width, run_text(report, lang, columns=80).splitlines())) <= 100


def test_text_is_laid_out_by_what_a_terminal_shows() -> None:
    assert width("会话") == 4
    assert wrap("aa bb cc", 5) == ["aa bb", "cc"]
    assert wrap("abcdefgh", 3) == ["abc", "def", "gh"]
    assert wrap("", 5) == [""]
    lines = table(("name", "reason"), [("a", "会话令牌 重置 " * 6)], columns=40)
    assert all(width(line) <= 40 for line in lines)
    assert len(lines) > 2


def test_hostile_text_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[31mb\n") == "a [31mb "
    assert printable("a\nb\x07", lines=True) == "a\nb "
    assert one_line("a\n\t b\x00") == "a b"


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(0, "0 ms"), (999, "999 ms"), (2400, "2.4 s"), (185_000, "3 min 05 s")]
)
def test_durations_are_written_for_people(milliseconds: int, text: str) -> None:
    assert seconds(milliseconds) == text

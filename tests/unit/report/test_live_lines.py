"""What somebody who follows a run reads of each entry."""

from __future__ import annotations

from typing import Any

import pytest

from remediate.model.entry import Actor, Entry, Kind
from remediate.report.live import live_line
from remediate.report.messages import LANGUAGES, MESSAGES, say


def an_entry(kind: Kind, **data: Any) -> Entry:
    return Entry(
        seq=7,
        ts="2026-03-01T03:04:05.678900Z",
        kind=kind,
        actor=Actor(type="operator", id="alice"),
        run_id="r1",
        case_id="c1",
        target="iam1",
        fault_code="SEC-SESS-STALE",
        data=data,
        prev="",
        body=b"",
    )


SAMPLES = {
    Kind.TRIGGER_RECEIVED: {},
    Kind.DECISION: {"verdict": "run", "reason": "all agree"},
    Kind.APPROVAL_REQUESTED: {"expires_at": "2026-03-01T03:19:05.000000Z"},
    Kind.APPROVAL_GRANTED: {"reason": "agreed"},
    Kind.APPROVAL_REJECTED: {"reason": "wrong site"},
    Kind.APPROVAL_EXPIRED: {},
    Kind.RUN_START: {"tier": "L1", "risk": "R2", "vantage": "obs1", "check": False},
    Kind.RUN_RESUMED: {},
    Kind.PHASE_INTENT: {"phase": "apply", "attempt": 1, "purpose": ""},
    Kind.STEP_END: {"status": "changed", "name": "Move the epoch"},
    Kind.PHASE_RESULT: {"phase": "apply", "status": "ok", "duration_ms": 1234, "changed": True},
    Kind.VERIFY: {"purpose": "apply", "ok": True, "vantage": "obs1", "observations": [{"ok": True}]},
    Kind.RUN_CANCEL_REQUESTED: {"reason": ""},
    Kind.ESCALATION: {"reason": "look yourself"},
    Kind.GUARD_OVERRIDE: {"by": "alice", "reason": "alone on call"},
    Kind.OVERRIDE_REVIEWED: {"reason": "justified"},
}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("kind", SAMPLES)
def test_every_event_of_a_run_is_one_line_that_begins_with_the_time(kind: Kind, lang: str) -> None:
    line = live_line(an_entry(kind, **SAMPLES[kind]), lang)

    assert line is not None
    assert line.text.startswith("03:04:05  ")
    assert line.text.isprintable()


def test_lines_say_who_what_and_why() -> None:
    def text(kind: Kind, **data: Any) -> str:
        line = live_line(an_entry(kind, **data))
        assert line is not None
        return line.text

    assert "SEC-SESS-STALE on iam1, asked for by alice" in text(Kind.TRIGGER_RECEIVED)
    assert "refused: frozen" in text(Kind.DECISION, verdict="refuse", reason="frozen")
    assert "before 03:19" in text(Kind.APPROVAL_REQUESTED, expires_at="03:19")
    assert "begins, attempt 2" in text(Kind.PHASE_INTENT, phase="apply", attempt=2, purpose="")
    assert "failed   Move: no space" in text(Kind.STEP_END, status="failed", name="Move", message="no space")
    ended = text(Kind.PHASE_RESULT, phase="apply", status="failed", duration_ms=61_000, reason="it broke")
    assert "failed after 1 min 01 s: it broke" in ended


def test_a_verification_that_failed_names_what_was_seen_last() -> None:
    seen = [{"ok": True, "name": "a", "observed": "fine"}, {"ok": False, "name": "b", "observed": "stale"}]

    line = live_line(an_entry(Kind.VERIFY, purpose="rollback", ok=False, vantage="obs1", observations=seen))

    assert line is not None
    assert "verify rollback" in line.text
    assert "1 of 2 samples good; b: stale" in line.text
    assert line.tone == "bad"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Kind.STEP_END, {"status": "skipped", "name": "Nothing"}),
        (Kind.PHASE_RESULT, {"phase": "verify", "status": "ok", "duration_ms": 5}),
        (Kind.PLAN, {}),
        (Kind.RUN_END, {}),
    ],
)
def test_what_only_the_record_needs_is_not_told(kind: Kind, data: dict[str, Any]) -> None:
    assert live_line(an_entry(kind, **data)) is None


def test_a_terminal_is_never_given_control_characters() -> None:
    line = live_line(an_entry(Kind.STEP_END, status="failed", name="x\x1b[2J", message="a\r\nb\x07"))

    assert line is not None
    assert line.text.isprintable()


def test_every_message_has_the_same_fields_in_both_languages() -> None:
    import string

    for key, texts in MESSAGES.items():
        fields = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in texts]
        assert fields[0] == fields[1], key
        assert all(texts), key


def test_a_message_is_filled_in_in_its_language() -> None:
    assert say("en", "live_waits", until="3:00") == "a second person has to decide before 3:00"
    assert "3:00" in say("zh", "live_waits", until="3:00")

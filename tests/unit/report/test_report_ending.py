"""The last lines say how it ended and what to do now, in both languages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remediate.model.run import Cause, Outcome, Run, State
from remediate.report.ending import end_lines
from remediate.report.messages import LANGUAGES
from remediate.testing import a_request

RUN = Run(
    id="r1",
    case_id="c1",
    request=a_request(),
    state=State.CLOSED,
    reason="because",
    accepted_at="2026-03-01T03:00:00.000000Z",
)

ADVICE = {
    Outcome.RECOVERED: "remediate runs show r1",
    Outcome.REFUSED: "remediate explain SEC-SESS-STALE --target iam1",
    Outcome.ROLLED_BACK: "remediate runs show r1",
    Outcome.UNKNOWN: "iam1",
}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("outcome", Outcome)
def test_every_end_names_its_outcome_reason_and_next_command(outcome, lang):
    text = "\n".join(line.text for line in end_lines(replace(RUN, outcome=outcome), lang))

    assert outcome.value in text
    assert "because" in text
    assert ADVICE.get(outcome, "remediate runs show r1") in text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_run_that_waits_says_who_decides_and_how(lang):
    waiting = replace(RUN, state=State.AWAITING_APPROVAL)

    text = "\n".join(line.text for line in end_lines(waiting, lang))

    assert "remediate approvals approve r1" in text
    assert "--break-glass" in text


def test_how_long_it_took_is_counted_from_the_request():
    recovered = replace(RUN, outcome=Outcome.RECOVERED, restored_at="2026-03-01T03:00:02.500000Z")

    assert "restored  2.5 s after the request" in [line.text for line in end_lines(recovered, "en")]


def test_what_may_be_half_done_is_looked_at_now_and_what_was_not_reached_is_tried_again():
    failed = replace(RUN, outcome=Outcome.FAILED)

    acted = end_lines(replace(failed, acted=True), "en")[-1].text
    unreachable = end_lines(replace(failed, cause=Cause.UNREACHABLE), "en")[-1].text

    assert "look at iam1 yourself, now" in acted
    assert "see whether iam1 answers" in unreachable


@pytest.mark.parametrize("lang", LANGUAGES)
def test_only_a_good_end_looks_good(lang):
    tones = {outcome: end_lines(replace(RUN, outcome=outcome), lang)[0].tone for outcome in Outcome}

    assert {o for o, tone in tones.items() if tone == "good"} == {Outcome.RECOVERED, Outcome.SELF_HEALED}

"""The judgement over every way a process, a play and a role can end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from remediate.executors.events import Tally, TaskNote
from remediate.executors.judge import Ending, judge
from remediate.executors.redact import Scrubber
from remediate.model.plan import Phase
from remediate.model.result import Status

COUNTERS: Mapping[str, Mapping[str, int]] = {"ok": {"h1": 1}, "processed": {"h1": 1}}
GOOD = {"healthy": True, "observations": [{"name": "a", "expected": "1", "observed": "1", "ok": True}]}


def ended(status: str, *, task: str = "Do", host: str = "h1", **data: Any) -> dict[str, Any]:
    return {"event": f"runner_on_{status}", "event_data": {"task": task, "host": host, "res": {}} | data}


def handing_back(result: object) -> dict[str, Any]:
    facts = {"ansible_facts": {"remediate_result": result}}
    return ended("ok", resolved_action="ansible.builtin.set_fact", res=facts)


def stats(**counters: Mapping[str, int]) -> dict[str, Any]:
    return {"event": "playbook_on_stats", "event_data": {**COUNTERS, **counters}}


def tally(
    *events: Mapping[str, Any], phase: Phase = Phase.PRECHECK, notes: Mapping[str, TaskNote] | None = None
) -> Tally:
    made = Tally(
        phase=phase, target="h1", scrub=Scrubber(["s3cr3t-value"]), keep_diff=True, note=(notes or {}).get
    )
    for event in events:
        made.take(event)
    return made


def test_a_good_end_is_ok_and_healthy() -> None:
    result = judge(tally(handing_back(GOOD), stats()), Ending(code=0), foreign=False)

    assert (result.status, result.healthy, result.observations[0].ok) == (Status.OK, True, True)


def test_only_a_precheck_can_say_that_the_target_is_healthy() -> None:
    result = judge(tally(handing_back(GOOD), stats(), phase=Phase.VERIFY), Ending(code=0), foreign=False)

    assert not result.healthy


@pytest.mark.parametrize("healthy", ["true", 1, "yes", None])
def test_healthy_is_true_or_it_is_not(healthy: object) -> None:
    result = judge(tally(handing_back({"healthy": healthy}), stats()), Ending(code=0), foreign=False)

    assert result.status is Status.FAILED
    assert not result.healthy


def test_return_code_zero_with_a_failed_host_is_a_failure() -> None:
    events = (ended("failed", res={"msg": "broken"}), stats(failures={"h1": 1}))

    result = judge(tally(*events), Ending(code=0), foreign=True)

    assert (result.status, result.reason) == (Status.FAILED, '"Do" failed on h1: broken')


def test_a_failure_of_another_allowed_host_counts() -> None:
    result = judge(tally(handing_back(GOOD), stats(failures={"h2": 1})), Ending(code=2), foreign=False)

    assert result.status is Status.FAILED
    assert "h2" in result.reason


def test_unreachable_goes_before_failed() -> None:
    events = (ended("unreachable", res={"msg": "no route"}), stats(dark={"h1": 1}, failures={"h2": 1}))

    assert judge(tally(*events), Ending(code=4), foreign=False).reason == "h1 did not answer: no route"


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        (
            Ending(code=75, verdict="host", verdict_reason="off limits", stopped=Status.CANCELLED),
            Status.FAILED,
        ),
        (Ending(code=75, verdict="stop", stopped=Status.TIMED_OUT, stop_reason="late"), Status.TIMED_OUT),
        (Ending(code=75, verdict="pause", verdict_reason="kill switch"), Status.CANCELLED),
        (Ending(code=None), Status.LOST),
        (Ending(code=None, stopped=Status.CANCELLED, stop_reason="alice"), Status.CANCELLED),
        (Ending(code=None, gated=False), Status.FAILED),
        (Ending(code=1), Status.FAILED),
        (Ending(code=127), Status.FAILED),
    ],
)
def test_a_play_that_did_not_come_to_its_end(ending: Ending, status: Status) -> None:
    assert judge(tally(ended("ok")), ending, foreign=True).status is status


def test_a_stop_that_came_after_the_end_changes_nothing() -> None:
    late = Ending(code=0, stopped=Status.CANCELLED, stop_reason="alice")

    assert judge(tally(handing_back(GOOD), stats()), late, foreign=False).status is Status.OK


def test_gathering_facts_is_not_doing_anything() -> None:
    events = (ended("ok", resolved_action="ansible.builtin.gather_facts"), ended("skipped"), stats())

    result = judge(tally(*events), Ending(code=0), foreign=True)

    assert result.status is Status.NOTHING_MATCHED


def test_secrets_do_not_pass_through_any_part_of_a_result() -> None:
    given = {
        "observations": [{"name": "s3cr3t-value", "expected": "s3cr3t-value", "observed": "", "ok": True}],
        "findings": ["s3cr3t-value"],
        "snapshot": {"a": {"s3cr3t-value": ["s3cr3t-value"]}},
        "undo": ["s3cr3t-value"],
    }
    result = judge(tally(handing_back(given), stats()), Ending(code=0), foreign=False)

    assert result.status is Status.OK
    assert "s3cr3t-value" not in repr(result)


@pytest.mark.parametrize("name", ["observations", "findings", "snapshot", "undo", "healthy"])
@pytest.mark.parametrize("value", [None, 7, "text", [None], [[]], {"a": float("nan")}, [{"ok": 1}]])
def test_a_malformed_field_is_our_complaint_and_no_crash(name: str, value: object) -> None:
    result = judge(tally(handing_back({name: value}), stats()), Ending(code=0), foreign=False)

    assert result.status is Status.FAILED
    assert "remediate_result" in result.reason


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("isolate | Shut the port", "ISOLATE"),
        ("Switch | Move the address", "SWITCH"),
        ("sub | Plain", "REPAIR"),
    ],
)
def test_a_kind_comes_from_the_name_or_else_from_the_phase(name: str, kind: str) -> None:
    assert tally(ended("ok", task=name), phase=Phase.APPLY).steps[0].kind == kind


def test_the_name_in_the_file_is_preferred_to_the_templated_one() -> None:
    notes = {"u1": TaskNote(name="Log in with {{ word }}", kind="CHECK")}

    step = tally(ended("ok", task="Log in with swordfish", task_uuid="u1"), notes=notes).steps[0]

    assert (step.name, step.kind) == ("Log in with {{ word }}", "CHECK")


def test_only_named_fields_of_a_result_are_kept() -> None:
    res = {
        "msg": "m",
        "stdout": "o",
        "invocation": {"module_args": "i"},
        "diff": {"before": "a\n", "after": "b\n"},
    }

    step = tally(ended("ok", res=res)).steps[0]

    assert step.message == "m"
    assert step.diff == "--- before\n+++ after\n@@ -1 +1 @@\n-a\n+b"


def test_output_is_scrubbed_before_it_is_cut() -> None:
    """A secret that straddles the cut must not leave its second half behind."""
    output = "x" * 3000 + "s3cr3t-value" + "y" * 2042

    step = tally(ended("failed", res={"msg": "m", "stderr": output})).steps[0]

    assert "value" not in step.message
    assert len(step.message) < 2300


def test_a_failed_loop_says_which_items_failed_and_why() -> None:
    item = {"event": "runner_item_on_failed", "event_data": {"host": "h1", "res": {"msg": "no s3cr3t-value"}}}

    steps = tally(item, ended("failed", res={"msg": "One or more items failed"}), ended("failed")).steps

    assert steps[0].message == "One or more items failed\nno <redacted>"
    assert steps[1].message == ""

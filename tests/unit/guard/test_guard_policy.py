"""Every guard, told plain facts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from remediate.guard import policy
from remediate.guard.facts import Approval, Diagnosis, Facts, Limits, OpenRun, PastRun, Window
from remediate.guard.policy import GUARDS, Ruling, decision, judge
from remediate.model.guard import GuardVerdict, Verdict
from remediate.model.plan import Arming, Risk
from remediate.model.run import Outcome, State

NOW = "2026-03-01T12:00:00.000000Z"
HASH = "a" * 64
SURE = Diagnosis(
    consecutive=3, saturation_permille=900, belief_permille=900, conflict_permille=100, evidence_age_s=10
)
ACCESS = tuple(f"sw-{n:02}" for n in range(1, 41))


def ago(seconds: int) -> str:
    """The moment so many seconds before NOW."""
    minutes, second = divmod(12 * 3600 - seconds, 60)
    return f"2026-03-01T{minutes // 60:02}:{minutes % 60:02}:{second:02}.000000Z"


def facts(**changes: Any) -> Facts:
    """An automatic run that every guard lets pass."""
    usual: dict[str, Any] = {
        "now": NOW,
        "run_id": "run-1",
        "code": "NET-VLAN-STORM",
        "plan": "vlan_storm_suppression",
        "plan_hash": HASH,
        "risk": Risk.R2,
        "arming": Arming.AUTO,
        "trigger": "webhook",
        "requester": "alertmanager",
        "requester_auth": "token",
        "target": "sw-01",
        "plan_groups": ("switch_access",),
        "target_groups": ("switch", "switch_access"),
        "group": "switch_access",
        "group_hosts": ACCESS,
        "failure_domain": "site-a",
        "diagnosis": SURE,
    }
    return Facts(**(usual | changes))


def by_alice(**changes: Any) -> Facts:
    """An operator run that every guard lets pass."""
    return facts(**({"trigger": "operator", "requester": "alice", "diagnosis": None} | changes))


def open_run(**changes: Any) -> OpenRun:
    usual: dict[str, Any] = {
        "run_id": "run-9",
        "code": "NET-LINK-FLAP",
        "target": "sw-09",
        "hosts": ("sw-09",),
        "failure_domain": "site-z",
        "state": State.APPLYING,
    }
    return OpenRun(**(usual | changes))


def past(**changes: Any) -> PastRun:
    usual: dict[str, Any] = {
        "run_id": "run-0",
        "code": "NET-VLAN-STORM",
        "target": "sw-01",
        "hosts": ("sw-01",),
        "outcome": Outcome.RECOVERED,
        "acted": True,
        "ended_at": ago(60),
        "trigger": "webhook",
    }
    return PastRun(**(usual | changes))


def approved(**changes: Any) -> Approval:
    usual: dict[str, Any] = {
        "approver": "bob",
        "auth": "token",
        "role": "approver",
        "plan_hash": HASH,
        "granted_at": ago(60),
        "expires_at": "2026-03-01T12:10:00.000000Z",
    }
    return Approval(**(usual | changes))


def seen(**changes: Any) -> Diagnosis:
    return dataclasses.replace(SURE, **changes)


def struck(*targets: str, **changes: Any) -> tuple[PastRun, ...]:
    """Diagnosed faults of the same code that were refused, so that only the storm guard minds."""
    return tuple(
        past(run_id=f"s-{t}", target=t, hosts=(t,), outcome=Outcome.REFUSED, acted=False, **changes)
        for t in targets
    )


#: What makes exactly one guard say no: (guard, what is wrong, facts).
SCENARIOS: tuple[tuple[str, str, Facts], ...] = (
    ("kill_switch", "engaged", facts(kill_switch="core work (engaged by alice)")),
    ("kill_switch", "engaged without a reason", facts(kill_switch="")),
    ("kill_switch", "an operator, a dry run", by_alice(kill_switch="x", check=True)),
    ("freeze", "a freeze for all hosts", facts(windows=(Window(name="congress", kind="freeze"),))),
    ("freeze", "a freeze binds operators", by_alice(windows=(Window(name="congress", kind="freeze"),))),
    (
        "freeze",
        "break-glass is no key to it",
        by_alice(windows=(Window(name="congress", kind="freeze"),), break_glass=True, reason="storm"),
    ),
    ("freeze", "that begins now", by_alice(windows=(Window(name="x", kind="freeze", starts_at=NOW),))),
    (
        "freeze",
        "maintenance on the target",
        facts(windows=(Window(name="works", kind="maintenance", hosts=("sw-01",)),)),
    ),
    (
        "freeze",
        "a freeze of a touched host",
        by_alice(touches=("sw-02",), windows=(Window(name="works", kind="freeze", hosts=("sw-02",)),)),
    ),
    ("freeze", "a kind nobody knows is a freeze", by_alice(windows=(Window(name="x", kind="holiday"),))),
    ("target", "empty", facts(target="")),
    ("target", "a pattern", facts(target="sw-*")),
    ("target", "a list", by_alice(target="sw-01,sw-02")),
    ("target", "an exclusion", by_alice(target="!sw-01")),
    ("target", "a file", by_alice(target="@/etc/hosts")),
    ("target", "two lines", by_alice(target="sw-01\nsw-02")),
    ("target", "not in the inventory", by_alice(unknown_hosts=("sw-01",))),
    ("target", "touches something unknown", by_alice(touches=("sw-77",), unknown_hosts=("sw-77",))),
    ("target", "of another kind", by_alice(target_groups=("storage",))),
    ("target", "of no group", by_alice(target_groups=())),
    ("target", "the plan accepts nothing", by_alice(plan_groups=())),
    ("arming", "observe", facts(arming=Arming.OBSERVE)),
    ("arming", "a drill is automatic", facts(arming=Arming.OBSERVE, trigger="drill")),
    ("arming", "an unknown trigger is automatic", facts(arming=Arming.OBSERVE, trigger="carrier pigeon")),
    ("trigger", "two evaluations", facts(diagnosis=seen(consecutive=2))),
    ("trigger", "0.85 exactly is not above", facts(diagnosis=seen(saturation_permille=850))),
    ("trigger", "saturation not known", facts(diagnosis=seen(saturation_permille=None))),
    ("trigger", "direct, but only two evaluations", facts(diagnosis=seen(consecutive=2, direct=True))),
    ("belief", "weak", facts(diagnosis=seen(belief_permille=799))),
    ("belief", "conflicting", facts(diagnosis=seen(conflict_permille=701))),
    ("belief", "not known", facts(diagnosis=seen(belief_permille=None))),
    ("belief", "conflict not known", facts(diagnosis=seen(conflict_permille=None))),
    ("freshness", "old", facts(diagnosis=seen(evidence_age_s=61))),
    ("freshness", "from the future", facts(diagnosis=seen(evidence_age_s=-6))),
    ("freshness", "not known", facts(diagnosis=seen(evidence_age_s=None))),
    (
        "duplicate",
        "the same case waits for approval",
        facts(
            open_runs=(
                open_run(
                    code="NET-VLAN-STORM", target="sw-01", hosts=("sw-01",), state=State.AWAITING_APPROVAL
                ),
            )
        ),
    ),
    ("cooldown", "recovered a minute ago", by_alice(history=(past(),))),
    ("cooldown", "unknown a minute ago", by_alice(history=(past(outcome=Outcome.UNKNOWN),))),
    ("cooldown", "a person stopped it", facts(history=(past(outcome=Outcome.CANCELLED, acted=False),))),
    (
        "attempts",
        "twice within six hours",
        by_alice(history=(past(ended_at=ago(7200)), past(run_id="run-00", ended_at=ago(21599)))),
    ),
    (
        "breaker",
        "two failures here",
        by_alice(
            history=(past(outcome=Outcome.FAILED, acted=False), past(outcome=Outcome.FAILED, acted=False))
        ),
    ),
    (
        "breaker",
        "three failures elsewhere",
        facts(
            history=tuple(
                past(outcome=Outcome.ROLLED_BACK, target=t, hosts=(t,), ended_at=ago(3500), acted=False)
                for t in ("sw-02", "sw-03", "sw-04")
            ),
        ),
    ),
    ("lock", "the host", by_alice(open_runs=(open_run(hosts=("sw-01",)),))),
    ("lock", "a touched host", by_alice(touches=("sw-09",), open_runs=(open_run(check=True),))),
    ("lock", "the failure domain", facts(open_runs=(open_run(failure_domain="site-a", check=True),))),
    ("lock", "a dry run does not join either", by_alice(check=True, open_runs=(open_run(hosts=("sw-01",)),))),
    ("lock", "a queued run holds", facts(open_runs=(open_run(hosts=("sw-01",), state=State.QUEUED),))),
    ("pair", "both members", by_alice(touches=("sw-02",), pairs=(("sw-01", "sw-02"),))),
    (
        "pair",
        "the other is being changed",
        by_alice(pairs=(("sw-01", "sw-09"),), open_runs=(open_run(check=True),)),
    ),
    (
        "pair",
        "the other was left unknown",
        by_alice(
            pairs=(("sw-01", "sw-02"),),
            history=(
                past(
                    code="NET-LINK-FLAP",
                    target="sw-02",
                    hosts=("sw-02",),
                    outcome=Outcome.UNKNOWN,
                    ended_at=ago(4000),
                ),
            ),
        ),
    ),
    (
        "blast_radius",
        "a third host of forty",
        by_alice(history=tuple(past(code="NET-LINK-FLAP", target=t, hosts=(t,)) for t in ("sw-02", "sw-03"))),
    ),
    (
        "blast_radius",
        "what is being changed counts",
        by_alice(
            history=(past(code="NET-LINK-FLAP", target="sw-02", hosts=("sw-02",)),), open_runs=(open_run(),)
        ),
    ),
    (
        "blast_radius",
        "touched hosts count",
        by_alice(
            touches=("sw-02", "sw-03"),
            history=(past(code="NET-LINK-FLAP", target="sw-04", hosts=("sw-04",)),),
        ),
    ),
    ("storm", "nine of forty", facts(history=struck(*ACCESS[1:9]))),
    ("storm", "an operator is told as well", by_alice(history=struck(*ACCESS[1:9]))),
    ("storm", "two of four", facts(group_hosts=ACCESS[:4], history=struck("sw-02"))),
    (
        "storm",
        "requests that wait count",
        facts(
            group_hosts=ACCESS[:4],
            open_runs=(
                open_run(code="NET-VLAN-STORM", target="sw-02", hosts=("sw-02",), state=State.RECEIVED),
            ),
        ),
    ),
    ("management_path", "the target", by_alice(management_path=("sw-01",))),
    ("management_path", "a touched host", by_alice(touches=("sw-02",), management_path=("sw-02",))),
    ("management_path", "an uplink", by_alice(link_roles=("uplink",), never_roles=("uplink",))),
    ("management_path", "a management link, always", by_alice(link_roles=("management",))),
    ("approval", "armed approve", facts(arming=Arming.APPROVE)),
    (
        "approval",
        "armed approve, R3, one yes",
        facts(arming=Arming.APPROVE, risk=Risk.R3, approvals=(approved(),)),
    ),
    ("approval", "armed auto, R3, one yes", facts(risk=Risk.R3, approvals=(approved(),))),
    ("approval", "one person twice is one", facts(risk=Risk.R3, approvals=(approved(), approved()))),
    ("approval", "R3 of an operator", by_alice(risk=Risk.R3)),
    ("approval", "own approval", by_alice(risk=Risk.R3, approvals=(approved(approver="alice"),))),
    (
        "approval",
        "own approval under the Unix name",
        by_alice(
            risk=Risk.R3,
            requester="uid:1000(alice)",
            requester_auth="uid",
            approvals=(approved(approver="alice"),),
        ),
    ),
    ("approval", "another plan hash", by_alice(risk=Risk.R3, approvals=(approved(plan_hash="b" * 64),))),
    ("approval", "no plan hash", by_alice(risk=Risk.R3, plan_hash="", approvals=(approved(plan_hash=""),))),
    ("approval", "expired", by_alice(risk=Risk.R3, approvals=(approved(expires_at=NOW),))),
    ("approval", "without an expiry", by_alice(risk=Risk.R3, approvals=(approved(expires_at=""),))),
    (
        "approval",
        "root alone",
        by_alice(risk=Risk.R3, approvals=(approved(approver="uid:0(root)", auth="uid"),)),
    ),
    ("approval", "an admin", by_alice(risk=Risk.R3, approvals=(approved(role="admin"),))),
    ("break_glass", "without a reason", by_alice(risk=Risk.R3, break_glass=True, reason="  ")),
    ("break_glass", "not a person", facts(break_glass=True, reason="storm")),
    ("break_glass", "nobody named", by_alice(break_glass=True, reason="storm", requester_auth="none")),
)
STOPS = (Verdict.REFUSE, Verdict.HOLD)


def verdict_of(name: str, given: Facts) -> GuardVerdict:
    return next(v for v in judge(given) if v.name == name)


@pytest.mark.parametrize(
    ("guard", "given"), [pytest.param(g, f, id=f"{g}: {what}") for g, what, f in SCENARIOS]
)
def test_exactly_this_guard_says_no(guard: str, given: Facts) -> None:
    stopping = [v for v in judge(given) if v.verdict in STOPS]

    assert [guard] == [v.name for v in stopping]
    assert (Verdict.HOLD if guard == "approval" else Verdict.REFUSE) is stopping[0].verdict
    assert decision(judge(given)).guard == guard


@pytest.mark.parametrize("guard", [name for name, _ in GUARDS])
def test_switching_a_guard_off_is_noticed(guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sole = [given for name, _, given in SCENARIOS if name == guard]
    monkeypatch.setattr(policy, "GUARDS", tuple(pair for pair in GUARDS if pair[0] != guard))

    assert sole, f"no scenario needs {guard}"
    assert all(decision(judge(given)).verdict is Ruling.RUN for given in sole)


def test_what_nothing_speaks_against_runs() -> None:
    assert decision(judge(facts())).verdict is Ruling.RUN
    assert decision(judge(by_alice())).verdict is Ruling.RUN


def test_every_guard_answers_under_its_own_name_and_in_order() -> None:
    assert [v.name for v in judge(facts())] == [name for name, _ in GUARDS]


def test_the_word_of_an_operator_stands_for_the_diagnosis_and_for_nothing_else() -> None:
    silent = {v.name: v.reason for v in judge(by_alice()) if v.verdict is Verdict.NOT_APPLICABLE}

    assert {"arming", "trigger", "belief", "freshness", "break_glass"} == set(silent)
    assert silent["belief"] == "operator: alice's word is the diagnosis"


def test_a_dry_run_is_spared_only_what_limits_acting() -> None:
    spared = {v.name for v in judge(facts(check=True)) if v.reason.startswith("dry run")}

    assert {"duplicate", "cooldown", "attempts", "breaker", "blast_radius", "approval"} == spared


def test_without_a_diagnosis_each_guard_that_needs_one_says_so() -> None:
    refused = {v.name: v.reason for v in judge(facts(diagnosis=None)) if v.verdict is Verdict.REFUSE}

    assert {"trigger", "belief", "freshness"} == set(refused)
    assert all(reason.startswith("no diagnosis yet") for reason in refused.values())


@pytest.mark.parametrize(
    "given",
    [
        facts(diagnosis=seen(saturation_permille=851)),
        facts(diagnosis=seen(saturation_permille=None, direct=True)),
        facts(diagnosis=seen(belief_permille=800, conflict_permille=700, evidence_age_s=60)),
        facts(diagnosis=seen(evidence_age_s=-5)),
        facts(plan_groups=("all",)),
        by_alice(windows=(Window(name="works", kind="maintenance"),)),
        facts(windows=(Window(name="over", kind="freeze", ends_at=NOW),)),
        facts(windows=(Window(name="later", kind="freeze", starts_at="2026-03-01T20:00:01+08:00"),)),
        facts(windows=(Window(name="elsewhere", kind="freeze", hosts=("sw-02",)),)),
        facts(windows=(Window(name="an empty group", kind="freeze", hosts=()),)),
        by_alice(history=(past(ended_at=ago(600)),)),
        by_alice(history=(past(outcome=Outcome.FAILED),)),
        by_alice(history=(past(outcome=Outcome.ROLLED_BACK),)),
        by_alice(history=(past(outcome=Outcome.SELF_HEALED, acted=False),)),
        by_alice(history=(past(outcome=Outcome.DRY_RUN, acted=False),)),
        by_alice(history=(past(outcome=Outcome.CANCELLED, acted=False),)),
        by_alice(history=(past(outcome=Outcome.REFUSED, acted=False),) * 5),
        by_alice(history=(past(ended_at=ago(7200)), past(ended_at=ago(21600)))),
        by_alice(
            history=(
                past(outcome=Outcome.FAILED, acted=False),
                past(outcome=Outcome.FAILED, acted=False, ended_at=ago(3600)),
            )
        ),
        by_alice(open_runs=(open_run(hosts=("sw-01",), state=State.RECEIVED),)),
        by_alice(open_runs=(open_run(hosts=("sw-01",), state=State.AWAITING_APPROVAL),)),
        facts(failure_domain="", open_runs=(open_run(failure_domain=""),)),
        by_alice(pairs=(("sw-01", "sw-02"),)),
        by_alice(
            pairs=(("sw-01", "sw-02"),),
            history=(
                past(code="X", target="sw-02", hosts=("sw-02",), outcome=Outcome.FAILED, ended_at=ago(900)),
                past(code="X", target="sw-02", hosts=("sw-02",), outcome=Outcome.SELF_HEALED, acted=False),
            ),
        ),
        by_alice(history=(past(code="X", target="sw-02", hosts=("sw-02",)),)),
        by_alice(pairs=(("sw-01", "sw-02"),), open_runs=(open_run(),)),
        by_alice(
            pairs=(("sw-01", "sw-02"),),
            open_runs=(open_run(target="sw-02", hosts=("sw-02",), state=State.AWAITING_APPROVAL),),
        ),
        by_alice(
            pairs=(("sw-01", "sw-02"),),
            history=(
                past(code="X", target="sw-03", hosts=("sw-03",), outcome=Outcome.UNKNOWN),
                past(
                    code="X",
                    target="sw-02",
                    hosts=("sw-02",),
                    outcome=Outcome.UNKNOWN,
                    ended_at=ago(21600),
                ),
            ),
        ),
        by_alice(
            history=tuple(past(code="X", target=t, hosts=(t,), ended_at=ago(3600)) for t in ACCESS[1:9])
        ),
        by_alice(touches=("sw-02", "sw-03", "sw-04")),
        by_alice(group_hosts=("sw-01", "sw-02"), history=(past(code="X"),)),
        by_alice(group_hosts=("sw-01",)),
        facts(history=struck(*ACCESS[1:8])),
        by_alice(group_hosts=ACCESS[:4], history=struck("sw-02", trigger="operator")),
        facts(group_hosts=ACCESS[:4], history=struck("sw-02", ended_at=ago(3600))),
        facts(group_hosts=ACCESS[:4], history=struck("db-01")),
        facts(
            group_hosts=ACCESS[:4],
            open_runs=(
                open_run(target="sw-02", hosts=("sw-02",), state=State.AWAITING_APPROVAL),
                open_run(code="NET-VLAN-STORM", target="sw-03", hosts=("sw-03",), check=True),
            ),
        ),
        by_alice(link_roles=("edge",), never_roles=("uplink",)),
        facts(risk=Risk.R3, approvals=(approved(), approved(approver="carol"))),
        facts(arming=Arming.APPROVE, approvals=(approved(),)),
        by_alice(risk=Risk.R3, approvals=(approved(),)),
        by_alice(risk=Risk.R3, break_glass=True, reason="storm on the ring, nobody else awake"),
        by_alice(
            risk=Risk.R3,
            break_glass=True,
            reason="nobody answers",
            open_runs=(
                open_run(
                    code="NET-VLAN-STORM", target="sw-01", hosts=("sw-01",), state=State.AWAITING_APPROVAL
                ),
            ),
        ),
    ],
)
def test_what_is_just_within_bounds_runs(given: Facts) -> None:
    assert [(v.name, v.reason) for v in judge(given) if v.verdict in STOPS] == []


def test_break_glass_says_that_it_is_alarmed_and_reviewed() -> None:
    given = by_alice(risk=Risk.R3, break_glass=True, reason="nobody else awake")

    assert "listed for review" in verdict_of("break_glass", given).reason
    assert "break-glass" in verdict_of("approval", given).reason


def test_history_from_the_future_counts_as_recent() -> None:
    given = by_alice(history=(past(ended_at="2026-03-01T13:00:00.000000Z"),))

    assert verdict_of("cooldown", given).verdict is Verdict.REFUSE


def test_history_without_a_moment_counts_as_recent() -> None:
    given = by_alice(history=(past(ended_at=""),), pairs=(("sw-01", "sw-02"),))

    assert verdict_of("cooldown", given).verdict is Verdict.REFUSE


def test_a_window_says_its_reason_once_and_its_end_when_it_has_one() -> None:
    until = Window(name="congress", kind="freeze", ends_at="2026-03-02T00:00:00Z", reason="city congress")
    plain = Window(name="congress", kind="freeze", reason="congress")

    told = [verdict_of("freeze", by_alice(windows=(window,))).reason for window in (until, plain)]

    assert told[0].startswith(
        "change freeze 'congress' (city congress) is in force until 2026-03-02T00:00:00Z; nothing"
    )
    assert told[1].startswith("change freeze 'congress' is in force; nothing may be changed")


def test_a_refusal_outranks_a_hold_and_the_first_is_named() -> None:
    given = facts(arming=Arming.APPROVE, kill_switch="stop", management_path=("sw-01",))

    decided = decision(judge(given))

    assert (decided.verdict, decided.guard) == (Ruling.REFUSE, "kill_switch")


def test_silence_is_not_a_yes() -> None:
    assert decision(()).verdict is Ruling.REFUSE


def test_the_settings_change_the_numbers() -> None:
    looser = Limits(blast_percent=100, storm_percent=100, attempts=9, breaker_target_failures=9)
    busy = tuple(past(target=t, hosts=(t,), ended_at=ago(700)) for t in ACCESS)

    assert decision(judge(by_alice(history=busy, limits=looser))).verdict is Ruling.RUN


def _no_floats(value: object) -> bool:
    if isinstance(value, dict):
        return all(type(k) is str and _no_floats(v) for k, v in value.items())
    if isinstance(value, list):
        return all(_no_floats(v) for v in value)
    return value is None or type(value) in (str, int, bool)


@pytest.mark.parametrize("given", [f for _, _, f in SCENARIOS] + [facts(), by_alice(), facts(check=True)])
def test_every_verdict_is_plain_enough_for_the_trail(given: Facts) -> None:
    for verdict in judge(given):
        assert _no_floats(verdict.as_json()), verdict
        assert verdict.reason


def test_the_facts_themselves_can_be_written_as_json() -> None:
    given = facts(history=(past(),), open_runs=(open_run(),), approvals=(approved(),))

    assert json.loads(json.dumps(dataclasses.asdict(given)))["history"][0]["outcome"] == "recovered"


def test_every_guard_is_described_for_operators() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/guards.md").read_text(encoding="utf-8")

    assert [name for name, _ in GUARDS if f"### `{name}`" not in page] == []


def test_every_limit_is_described_for_operators() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/guards.md").read_text(encoding="utf-8")

    assert [field.name for field in dataclasses.fields(Limits) if f"`{field.name}`" not in page] == []

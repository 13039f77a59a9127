"""The one pipeline of guards that every request passes, from whichever door it came.

Each guard is a pure function from `Facts` to a verdict with its reason: what was found, what is
allowed, what to do. `judge` asks all of them, so that `explain` can show each; `decision` draws the
conclusion: one refusal refuses, else one hold holds. Nothing here does I/O or reads a clock.

`docs/reference/guards.md` describes each guard for operators.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from remediate.guard.facts import Approval, Facts, OpenRun, PastRun, Window, moment
from remediate.model.guard import GuardVerdict, Verdict
from remediate.model.plan import Arming, Risk
from remediate.model.run import Outcome, State

#: A host name that no pattern language reads as more than one host.
_EXACT_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
#: States in which a run is past its guards and holds its hosts; one that waits for a person holds none,
#: and one that is only received will itself be judged against this one.
_HOLDING = frozenset(State) - {State.RECEIVED, State.AWAITING_APPROVAL, State.CLOSED}
#: Outcomes the breaker counts: the remedy did not help, or nobody knows whether it did.
_FAILURES = frozenset({Outcome.FAILED, Outcome.ROLLED_BACK, Outcome.UNKNOWN})


class Ruling(StrEnum):
    """What happens to a request."""

    RUN = "run"
    HOLD = "hold"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the guards decided together."""

    verdict: Ruling
    reason: str
    #: The guard that decided; empty when all of them agreed.
    guard: str = ""


def kill_switch(facts: Facts) -> GuardVerdict:
    """Refuse everything while the kill switch is engaged."""
    name, used = "kill_switch", {"engaged": facts.kill_switch is not None, "reason": facts.kill_switch or ""}
    if facts.kill_switch is None:
        return _passes(name, "the kill switch is not engaged", used)
    return _refuses(
        name,
        f"the kill switch is engaged: {facts.kill_switch or 'no reason given'}; nothing may run; "
        "`remediate resume --reason TEXT` releases it",
        used,
    )


def freeze(facts: Facts) -> GuardVerdict:
    """Refuse inside a freeze, and whatever runs by itself inside a maintenance window."""
    name = "freeze"
    windows = [w for w in facts.windows if _in_force(w, facts)]
    used = {"now": facts.now, "windows": [_window_json(w) for w in windows]}
    # A window of a kind we do not know is a freeze: the stricter reading.
    blocking = [w for w in windows if w.kind != "maintenance" or not facts.by_operator]
    if not blocking:
        found = f"{len(windows)} maintenance window(s), which bind only automatic runs" if windows else "none"
        return _passes(name, f"freeze and maintenance windows over {_list(facts.hosts)}: {found}", used)
    window = blocking[0]
    what = "maintenance window" if window.kind == "maintenance" else "change freeze"
    until = f" until {window.ends_at}" if window.ends_at else ""
    because = f" ({window.reason})" if window.reason not in ("", window.name) else ""
    allowed = "only operators may run plans" if window.kind == "maintenance" else "nothing may be changed"
    return _refuses(
        name,
        f"{what} {window.name!r}{because} is in force{until}; {allowed} meanwhile; "
        "wait, or have an admin change the window in the settings",
        used,
    )


def target(facts: Facts) -> GuardVerdict:
    """Refuse anything that is not one exact inventory host of the plan's groups."""
    name = "target"
    used = {
        "target": facts.target,
        "touches": list(facts.touches),
        "unknown_hosts": list(facts.unknown_hosts),
        "plan_groups": list(facts.plan_groups),
        "target_groups": list(facts.target_groups),
    }
    inexact = [host for host in facts.hosts if not _EXACT_HOST.fullmatch(host)]
    if inexact:
        return _refuses(
            name,
            f"{_list(map(repr, inexact))} is not one host name; patterns, lists and empty names are never "
            "targets; name one exact inventory host",
            used,
        )
    if facts.unknown_hosts:
        return _refuses(
            name,
            f"{_list(facts.unknown_hosts)} is not in the inventory; only its exact hosts may be changed; "
            "correct the name or add the host",
            used,
        )
    if "all" not in facts.plan_groups and not set(facts.plan_groups) & set(facts.target_groups):
        return _refuses(
            name,
            f"{facts.target} is in {_list(facts.target_groups)}; plan {facts.plan} accepts hosts of "
            f"{_list(facts.plan_groups)}; choose a target of these groups",
            used,
        )
    return _passes(name, f"{facts.target} is one exact host of {_list(facts.plan_groups)}", used)


def arming(facts: Facts) -> GuardVerdict:
    """Refuse automatic runs of a code that is only observed."""
    name, used = "arming", {"arming": facts.arming.value, "trigger": facts.trigger}
    if facts.by_operator:
        return _operator_word(name, facts)
    if facts.arming is Arming.OBSERVE:
        return _refuses(
            name,
            f"observe: would have run {facts.plan} on {facts.target}; {facts.code} is armed observe, so only "
            f"an operator runs it; `remediate catalog arm {facts.code} approve` lets it ask",
            used,
        )
    meaning = "it acts by itself" if facts.arming is Arming.AUTO else "a person decides each time"
    return _passes(name, f"{facts.code} is armed {facts.arming.value}: {meaning}", used)


def trigger(facts: Facts) -> GuardVerdict:
    """Refuse automatic runs before enough consecutive diagnoses and saturation."""
    name, found, limits = "trigger", facts.diagnosis, facts.limits
    if facts.by_operator:
        return _operator_word(name, facts)
    if found is None:
        return _no_diagnosis(name, facts)
    used = {
        "consecutive": found.consecutive,
        "needed": limits.consecutive,
        "saturation_permille": found.saturation_permille,
        "above_permille": limits.saturation_permille,
        "direct": found.direct,
    }
    if found.consecutive < limits.consecutive:
        return _refuses(
            name,
            f"{facts.code} was the diagnosis of {found.consecutive} consecutive evaluation(s); "
            f"{limits.consecutive} are needed; wait for the next evaluations",
            used,
        )
    if found.direct:
        return _passes(
            name,
            f"{found.consecutive} consecutive diagnoses; {facts.code} has no saturation of its own",
            used,
        )
    if found.saturation_permille is None:
        return _refuses(
            name,
            f"the saturation of {facts.code} on {facts.target} is not known; it must be above "
            f"{_ratio(limits.saturation_permille)}; see that its saturation query returns a value",
            used,
        )
    if found.saturation_permille <= limits.saturation_permille:
        return _refuses(
            name,
            f"saturation is {_ratio(found.saturation_permille)}; it must be above "
            f"{_ratio(limits.saturation_permille)}; wait, or run the plan as an operator",
            used,
        )
    return _passes(
        name,
        f"{found.consecutive} consecutive diagnoses and saturation {_ratio(found.saturation_permille)}",
        used,
    )


def belief(facts: Facts) -> GuardVerdict:
    """Refuse automatic runs on weak belief or conflicting evidence."""
    name, found, limits = "belief", facts.diagnosis, facts.limits
    if facts.by_operator:
        return _operator_word(name, facts)
    if found is None or found.belief_permille is None or found.conflict_permille is None:
        return _no_diagnosis(name, facts)
    used = {
        "belief_permille": found.belief_permille,
        "at_least_permille": limits.belief_permille,
        "conflict_permille": found.conflict_permille,
        "at_most_permille": limits.conflict_permille,
    }
    if found.belief_permille < limits.belief_permille:
        return _refuses(
            name,
            f"belief in {facts.code} is {_ratio(found.belief_permille)}; at least "
            f"{_ratio(limits.belief_permille)} is needed; look at the evidence, or run the plan "
            "as an operator",
            used,
        )
    if found.conflict_permille > limits.conflict_permille:
        return _refuses(
            name,
            f"the evidence conflicts by {_ratio(found.conflict_permille)}; at most "
            f"{_ratio(limits.conflict_permille)} is allowed; a person has to look which source is wrong",
            used,
        )
    return _passes(
        name,
        f"belief {_ratio(found.belief_permille)}, conflict {_ratio(found.conflict_permille)}",
        used,
    )


def freshness(facts: Facts) -> GuardVerdict:
    """Refuse automatic runs on old evidence, or when the clocks cannot be trusted."""
    name, found, limits = "freshness", facts.diagnosis, facts.limits
    if facts.by_operator:
        return _operator_word(name, facts)
    if found is None or found.evidence_age_s is None:
        return _no_diagnosis(name, facts)
    age = found.evidence_age_s
    used = {"evidence_age_s": age, "at_most_s": limits.freshness_s}
    if age > limits.freshness_s:
        return _refuses(
            name,
            f"the oldest evidence is {age} s old; at most {limits.freshness_s} s is allowed; "
            "see whether monitoring still sees the target",
            used,
        )
    if age < -limits.clock_skew_s:
        return _refuses(
            name,
            f"evidence is dated {-age} s in the future; at most {limits.clock_skew_s} s is allowed; "
            "compare the clocks of this machine and of monitoring",
            used,
        )
    return _passes(name, f"the oldest evidence is {age} s old", used)


def duplicate(facts: Facts) -> GuardVerdict:
    """Refuse a second run of the same code on the same target while the first is open."""
    name = "duplicate"
    if facts.check:
        return _dry_run(name)
    same = [
        run
        for run in facts.open_runs
        if (run.code, run.target) == (facts.code, facts.target) and run.state is not State.RECEIVED
    ]
    used = {"code": facts.code, "target": facts.target, "open_runs": [_open_json(run) for run in same]}
    waiting = [run for run in same if run.state is State.AWAITING_APPROVAL]
    # A lone person in an emergency need not first cancel the request that waits for the second one;
    # should that be approved later, it is judged again and meets the cooldown.
    standing = [run for run in same if run not in waiting] if facts.break_glass else same
    if not standing:
        return _passes(name, f"no other run of {facts.code} on {facts.target} is open", used)
    first = standing[0]
    advice = "approve or cancel it" if first in waiting else "follow it"
    return _refuses(
        name,
        f"run {first.run_id} of {facts.code} on {facts.target} is open ({first.state.value}); one at a time; "
        f"{advice}: `remediate runs show {first.run_id}`",
        used,
    )


def cooldown(facts: Facts) -> GuardVerdict:
    """Refuse to repeat a remedy right after it was applied, or after a person stopped it."""
    name = "cooldown"
    if facts.check:
        return _dry_run(name)
    cooling = [
        past
        for past in _same_case(facts)
        if _starts_cooldown(past, facts) and facts.age_s(past.ended_at) < facts.cooldown_s
    ]
    used = {"cooldown_s": facts.cooldown_s, "runs": [_past_json(past) for past in cooling]}
    if not cooling:
        return _passes(name, f"no cooldown of {facts.cooldown_s} s is running", used)
    past = min(cooling, key=lambda run: facts.age_s(run.ended_at))
    age = facts.age_s(past.ended_at)
    return _refuses(
        name,
        f"run {past.run_id} of {facts.code} on {facts.target} ended {past.outcome.value} {age} s ago; the "
        f"cooldown is {facts.cooldown_s} s; wait {facts.cooldown_s - age} s, and look why the fault is back",
        used,
    )


def attempts(facts: Facts) -> GuardVerdict:
    """Refuse a remedy that was already tried often enough on this target."""
    name, limits = "attempts", facts.limits
    if facts.check:
        return _dry_run(name)
    tried = [
        past
        for past in _same_case(facts)
        if past.acted and facts.age_s(past.ended_at) < limits.attempts_window_s
    ]
    used = {
        "attempts": len(tried),
        "allowed": limits.attempts,
        "window_s": limits.attempts_window_s,
        "runs": [_past_json(past) for past in tried],
    }
    found = f"{len(tried)} run(s) of {facts.code} acted on {facts.target} within {limits.attempts_window_s} s"
    if len(tried) < limits.attempts:
        return _passes(name, f"{found}; {limits.attempts} are allowed", used)
    return _refuses(
        name,
        f"{found}; {limits.attempts} are allowed; the remedy does not last: a person has to find the cause",
        used,
    )


def breaker(facts: Facts) -> GuardVerdict:
    """Refuse while recent failures say that the remedy does not help."""
    name, limits = "breaker", facts.limits
    if facts.check:
        return _dry_run(name)
    failed = [
        past
        for past in facts.history
        if past.code == facts.code
        and past.outcome in _FAILURES
        and facts.age_s(past.ended_at) < limits.breaker_window_s
    ]
    here = [past for past in failed if past.target == facts.target]
    here_at, anywhere_at = limits.breaker_target_failures, limits.breaker_code_failures
    used = {
        "failed_here": len(here),
        "opens_at_here": here_at,
        "failed_anywhere": len(failed),
        "opens_at_anywhere": anywhere_at,
        "window_s": limits.breaker_window_s,
        "runs": [_past_json(past) for past in failed],
    }
    found = (
        f"{len(here)} failed run(s) of {facts.code} on {facts.target} and {len(failed)} anywhere within "
        f"{limits.breaker_window_s} s"
    )
    opens = f"it opens at {here_at} on one target or {anywhere_at} anywhere"
    if len(here) < here_at and len(failed) < anywhere_at:
        return _passes(name, f"the breaker is closed: {found}; {opens}", used)
    return _refuses(
        name,
        f"the breaker is open: {found}; {opens}; find out why the remedy fails; it closes when the failures "
        "are older than that",
        used,
    )


def lock(facts: Facts) -> GuardVerdict:
    """Refuse while another run holds one of the hosts or the failure domain."""
    name = "lock"
    busy = [run for run in facts.open_runs if run.state in _HOLDING and _meets(run, facts)]
    used = {
        "hosts": list(facts.hosts),
        "failure_domain": facts.failure_domain,
        "held_by": [_open_json(run) for run in busy],
    }
    if not busy:
        domain = f" and failure domain {facts.failure_domain}" if facts.failure_domain else ""
        return _passes(name, f"{_list(facts.hosts)}{domain}: held by no other run", used)
    run = busy[0]
    shared = sorted(set(run.hosts) & set(facts.hosts))
    what = _list(shared) if shared else f"failure domain {facts.failure_domain}"
    return _refuses(
        name,
        f"{what} is held by run {run.run_id} ({run.code} on {run.target}, {run.state.value}); one run per "
        "host and failure domain; ask again when it has ended",
        used,
    )


def pair(facts: Facts) -> GuardVerdict:
    """Refuse to change both members of a redundant pair, or the one that may be the last in service."""
    name = "pair"
    used: dict[str, Any] = {"hosts": list(facts.hosts), "pairs": [list(members) for members in facts.pairs]}
    for members in facts.pairs:
        own = sorted(set(members) & set(facts.hosts))
        others = sorted(set(members) - set(facts.hosts))
        if len(own) > 1:
            return _refuses(
                name,
                f"the run would change {_list(own)}, which stand in for each other; one of them must stay "
                "untouched; remove one from what the plan touches",
                used,
            )
        if trouble := _first_trouble(others, facts):
            return _refuses(
                name,
                f"{_list(own)} and {_list(others)} stand in for each other, and {trouble}; the other must be "
                "known to be in service first",
                used,
            )
    return _passes(name, "no other member of a redundant pair is being changed or in doubt", used)


def blast_radius(facts: Facts) -> GuardVerdict:
    """Refuse to change more than a share of the group within an hour; the first run always fits."""
    name, limits = "blast_radius", facts.limits
    if facts.check:
        return _dry_run(name)
    group = set(facts.group_hosts)
    allowed = max(1, len(group) * limits.blast_percent // 100)
    before = _recently_changed(facts) & group
    after = before | (set(facts.hosts) & group)
    used = {
        "group": facts.group,
        "group_size": len(group),
        "percent": limits.blast_percent,
        "allowed": allowed,
        "window_s": limits.blast_window_s,
        "changed": sorted(before),
        "with_this_run": len(after),
    }
    # What one plan touches on purpose was reviewed with the plan and is part of its hash; the share
    # bounds how far *several* runs may spread.
    if not before or after == before or len(after) <= allowed:
        return _passes(
            name,
            f"{len(after)} of {len(group)} host(s) of {facts.group} changed within {limits.blast_window_s} s "
            f"with this run; {allowed} are allowed",
            used,
        )
    return _refuses(
        name,
        f"{len(before)} host(s) of {facts.group} were changed within {limits.blast_window_s} s, with this "
        f"run {len(after)}; {allowed} of {len(group)} ({limits.blast_percent} %, at least 1) are allowed; "
        "wait, and look for a common cause",
        used,
    )


def storm(facts: Facts) -> GuardVerdict:
    """Refuse when so many targets have the same fault that they must share a cause."""
    name, limits = "storm", facts.limits
    group = set(facts.group_hosts)
    struck = sorted(_struck(facts) & group)
    used = {
        "group": facts.group,
        "group_size": len(group),
        "percent": limits.storm_percent,
        "min_targets": limits.storm_min_targets,
        "window_s": limits.storm_window_s,
        "targets": struck,
    }
    found = f"{len(struck)} of {len(group)} host(s) of {facts.group} have {facts.code}"
    bound = f"more than {limits.storm_percent} %"
    if len(struck) < limits.storm_min_targets or len(struck) * 100 <= limits.storm_percent * len(group):
        return _passes(name, f"{found}; a storm is {bound}", used)
    return _refuses(
        name,
        f"{found} within {limits.storm_window_s} s; {bound} means one common cause, which a remedy per host "
        "makes worse; stop, page the person in charge and look for the cause above these hosts",
        used,
    )


def management_path(facts: Facts) -> GuardVerdict:
    """Refuse to change what carries the tool's own connection, or a kind of link the plan must not touch."""
    name = "management_path"
    forbidden = {*facts.never_roles, "management"}
    hosts = sorted(set(facts.hosts) & set(facts.management_path))
    links = sorted(set(facts.link_roles) & forbidden)
    used = {
        "hosts": list(facts.hosts),
        "management_path": sorted(facts.management_path),
        "link_roles": sorted(facts.link_roles),
        "never": sorted(forbidden),
    }
    if hosts:
        return _refuses(
            name,
            f"{_list(hosts)} carries this tool's own connection; a mistake there could not be taken back "
            "from here; change it by hand, out of band",
            used,
        )
    if links:
        return _refuses(
            name,
            f"the parameters name a link of role {_list(links)}; this plan never touches "
            f"{_list(sorted(forbidden))} links; name another port",
            used,
        )
    return _passes(name, "nothing on the management path is touched", used)


def approval(facts: Facts) -> GuardVerdict:
    """Hold until enough other people have agreed to exactly this plan hash."""
    name = "approval"
    if facts.check:
        return _dry_run(name)
    if not facts.by_operator and facts.arming is Arming.OBSERVE:
        return _not_applicable(name, "observe: nothing runs by itself, so nobody is asked")
    needed = _people_needed(facts)
    people = sorted({a.approver for a in facts.approvals if _counts(a, facts)})
    used = {
        "risk": facts.risk.value,
        "plan_hash": facts.plan_hash,
        "needed": needed,
        "approved_by": people,
        "not_counted": sorted({a.approver for a in facts.approvals} - set(people)),
    }
    if len(people) >= needed:
        return _passes(name, _enough(needed, people, facts), used)
    return _holds(
        name,
        f"{facts.risk.value} needs {needed} other person(s) to approve plan hash "
        f"{facts.plan_hash[:12] or 'none'}; {len(people)} did ({_list(people)}); "
        f"`remediate approvals approve {facts.run_id or 'ID'}` with a token of role approver",
        used,
    )


def break_glass(facts: Facts) -> GuardVerdict:
    """Refuse an emergency run without a named person and a reason."""
    name = "break_glass"
    if not facts.break_glass:
        return _not_applicable(name, "not asked for")
    used = {
        "requester": facts.requester,
        "requester_auth": facts.requester_auth,
        "reason": facts.reason,
        "trigger": facts.trigger,
    }
    if not facts.by_operator or not facts.requester or facts.requester_auth == "none":
        return _refuses(
            name,
            f"break-glass was asked for by {facts.requester or 'nobody'} ({facts.trigger}, identified by "
            f"{facts.requester_auth}); only a named operator may; use your own token",
            used,
        )
    if not facts.reason.strip():
        return _refuses(
            name, "break-glass was asked for without a reason; one is needed; add `--reason TEXT`", used
        )
    return _passes(
        name,
        f"break-glass by {facts.requester}: allowed, alarmed, and listed for review until someone else "
        "closes it",
        used,
    )


#: A guard: what was asked and found in, a verdict with its reason out.
Guard = Callable[[Facts], GuardVerdict]

#: Every guard, in the order in which they are shown and in which a refusal is named.
GUARDS: tuple[tuple[str, Guard], ...] = (
    ("kill_switch", kill_switch),
    ("freeze", freeze),
    ("target", target),
    ("arming", arming),
    ("trigger", trigger),
    ("belief", belief),
    ("freshness", freshness),
    ("duplicate", duplicate),
    ("cooldown", cooldown),
    ("attempts", attempts),
    ("breaker", breaker),
    ("lock", lock),
    ("pair", pair),
    ("blast_radius", blast_radius),
    ("storm", storm),
    ("management_path", management_path),
    ("approval", approval),
    ("break_glass", break_glass),
)


def judge(facts: Facts) -> tuple[GuardVerdict, ...]:
    """Every guard's verdict, in order; a refusal does not hide the ones behind it."""
    return tuple(guard(facts) for _, guard in GUARDS)


def decision(verdicts: Sequence[GuardVerdict]) -> Decision:
    """What the verdicts amount to: the first refusal, else the first hold, else run."""
    for wanted, ruling in ((Verdict.REFUSE, Ruling.REFUSE), (Verdict.HOLD, Ruling.HOLD)):
        for given in verdicts:
            if given.verdict is wanted:
                return Decision(verdict=ruling, reason=given.reason, guard=given.name)
    if not verdicts:  # nobody was asked: silence is not a yes
        return Decision(verdict=Ruling.REFUSE, reason="no guard was asked; nothing runs without a verdict")
    return Decision(verdict=Ruling.RUN, reason=f"all {len(verdicts)} guards agree")


def _passes(name: str, reason: str, used: dict[str, Any]) -> GuardVerdict:
    return GuardVerdict(name=name, verdict=Verdict.PASS, reason=reason, facts=used)


def _refuses(name: str, reason: str, used: dict[str, Any]) -> GuardVerdict:
    return GuardVerdict(name=name, verdict=Verdict.REFUSE, reason=reason, facts=used)


def _holds(name: str, reason: str, used: dict[str, Any]) -> GuardVerdict:
    return GuardVerdict(name=name, verdict=Verdict.HOLD, reason=reason, facts=used)


def _not_applicable(name: str, reason: str) -> GuardVerdict:
    return GuardVerdict(name=name, verdict=Verdict.NOT_APPLICABLE, reason=reason)


def _operator_word(name: str, facts: Facts) -> GuardVerdict:
    return _not_applicable(name, f"operator: {facts.requester or 'the requester'}'s word is the diagnosis")


def _dry_run(name: str) -> GuardVerdict:
    return _not_applicable(name, "dry run: nothing is changed")


def _no_diagnosis(name: str, facts: Facts) -> GuardVerdict:
    return _refuses(
        name,
        f"no diagnosis yet: {name} of {facts.code} on {facts.target} is not known; automatic runs need it; "
        "wait for the next evaluation, or run the plan as an operator",
        {"diagnosis": None},
    )


def _in_force(window: Window, facts: Facts) -> bool:
    """Whether a window covers one of the hosts now."""
    now = moment(facts.now)
    begun = not window.starts_at or moment(window.starts_at) <= now
    over = bool(window.ends_at) and moment(window.ends_at) <= now
    covers = window.hosts is None or bool(set(window.hosts) & set(facts.hosts))
    return begun and not over and covers


def _same_case(facts: Facts) -> list[PastRun]:
    """Closed runs of this code on this target."""
    return [past for past in facts.history if (past.code, past.target) == (facts.code, facts.target)]


def _starts_cooldown(past: PastRun, facts: Facts) -> bool:
    """Whether a closed run must be given time before the next one.

    A remedy that stayed applied needs time to show (`recovered`), one whose effect nobody knows even
    more (`unknown`). One that failed or was taken back leaves nothing to wait for: attempts and
    breaker bound those. What a person stopped is not begun again by itself, acted or not.
    """
    if past.outcome is Outcome.CANCELLED:
        return not facts.by_operator
    return past.acted and past.outcome in (Outcome.RECOVERED, Outcome.UNKNOWN)


def _meets(run: OpenRun, facts: Facts) -> bool:
    """Whether another run and this one want the same host or the same failure domain."""
    same_domain = bool(facts.failure_domain) and run.failure_domain == facts.failure_domain
    return same_domain or bool(set(run.hosts) & set(facts.hosts))


def _first_trouble(others: Iterable[str], facts: Facts) -> str:
    """Why one of the other members of a pair may not be in service; empty: nothing speaks against it."""
    for other in others:
        for run in facts.open_runs:
            if run.state in _HOLDING and other in run.hosts:
                return f"{other} is being changed by run {run.run_id}"
        settled = [
            past
            for past in facts.history
            if other in past.hosts and facts.age_s(past.ended_at) < facts.limits.attempts_window_s
            if past.acted or past.outcome is Outcome.SELF_HEALED
        ]
        if not settled:
            continue
        last = min(settled, key=lambda past: facts.age_s(past.ended_at))
        if last.outcome in (Outcome.FAILED, Outcome.UNKNOWN):
            return f"{other} was left {last.outcome.value} by run {last.run_id}"
    return ""


def _recently_changed(facts: Facts) -> set[str]:
    """Hosts that other runs of any code change now or changed within the window."""
    limits = facts.limits
    changing = {h for run in facts.open_runs if run.state in _HOLDING and not run.check for h in run.hosts}
    changed = {
        host
        for past in facts.history
        if past.acted and facts.age_s(past.ended_at) < limits.blast_window_s
        for host in past.hosts
    }
    return changing | changed


def _struck(facts: Facts) -> set[str]:
    """Targets with an open or recent case of this code, this one included.

    Refused automatic requests count: they are diagnosed faults. Dry runs and what an operator was
    refused are not: they may be a question or a slip.
    """
    open_cases = {run.target for run in facts.open_runs if run.code == facts.code and not run.check}
    recent = {
        past.target
        for past in facts.history
        if past.code == facts.code
        and facts.age_s(past.ended_at) < facts.limits.storm_window_s
        and past.outcome is not Outcome.DRY_RUN
        and not (past.outcome is Outcome.REFUSED and past.trigger == "operator")
    }
    return {facts.target} | open_cases | recent


def _people_needed(facts: Facts) -> int:
    """How many other people must agree before this runs."""
    if facts.by_operator:
        return 1 if facts.risk is Risk.R3 and not facts.break_glass else 0
    if facts.risk is Risk.R3:
        return 2
    return 0 if facts.arming is Arming.AUTO else 1


def _counts(given: Approval, facts: Facts) -> bool:
    """Whether an approval is a second person's yes to exactly this plan, and still valid."""
    return (
        bool(facts.plan_hash)
        and given.plan_hash == facts.plan_hash
        # A Unix identity, uid 0 above all, can be put on by whoever made the request; a token cannot.
        and given.auth == "token"
        and given.role == "approver"
        and bool(given.approver)
        and _person(given.approver) != _person(facts.requester)
        and bool(given.expires_at)
        and moment(facts.now) < moment(given.expires_at)
    )


def _person(identity: str) -> str:
    """The name behind an identity, so that `uid:1000(alice)` and the token `alice` are one person."""
    match = re.fullmatch(r"uid:\d+\((.*)\)", identity)
    return (match[1] if match else identity).casefold()


def _enough(needed: int, people: Sequence[str], facts: Facts) -> str:
    """Why nobody else has to be asked."""
    if needed:
        return f"{facts.risk.value} approved for this plan hash by {_list(people)}; {needed} needed"
    if facts.by_operator and facts.break_glass and facts.risk is Risk.R3:
        return "R3 without a second person: break-glass; alarmed and listed for review"
    if facts.by_operator:
        return f"{facts.risk.value} asked for by {facts.requester}: no second person needed"
    return f"{facts.risk.value} armed auto: nobody has to be asked"


def _list(words: Iterable[str]) -> str:
    return ", ".join(words) or "none"


def _ratio(permille: int) -> str:
    """A per-mille value the way people write it: 0.850."""
    return f"{permille // 1000}.{permille % 1000:03d}"


def _window_json(window: Window) -> dict[str, Any]:
    return {
        "name": window.name,
        "kind": window.kind,
        "starts_at": window.starts_at,
        "ends_at": window.ends_at,
        "reason": window.reason,
    }


def _open_json(run: OpenRun) -> dict[str, Any]:
    return {"run_id": run.run_id, "code": run.code, "target": run.target, "state": run.state.value}


def _past_json(past: PastRun) -> dict[str, Any]:
    return {
        "run_id": past.run_id,
        "target": past.target,
        "outcome": past.outcome.value,
        "acted": past.acted,
        "ended_at": past.ended_at,
    }

"""What the guards are told: plain, frozen, JSON-able values that the dispatcher collects once per decision.

There is no float anywhere, because verdicts go into the audit trail: shares are per mille, durations
whole seconds, moments RFC 3339 in UTC. Whoever fills them in rounds *against* acting: belief and
saturation down, conflict and ages up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from remediate.model.plan import Arming, Risk
from remediate.model.run import Outcome, State


def moment(text: str) -> datetime:
    """The moment an RFC 3339 text names; a text without a zone is read as UTC."""
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The numbers the guards compare with; the settings may change each of them."""

    #: Distinct consecutive diagnoses an automatic run needs.
    consecutive: int = 3
    #: Saturation must be *above* this.
    saturation_permille: int = 850
    #: Belief must be at least this.
    belief_permille: int = 800
    #: Conflict may be at most this.
    conflict_permille: int = 700
    #: Oldest evidence that still counts, in seconds.
    freshness_s: int = 60
    #: How far evidence may lie in the future before the clocks are doubted.
    clock_skew_s: int = 5
    #: Acted runs of one code on one target within `attempts_window_s`.
    attempts: int = 2
    attempts_window_s: int = 6 * 3600
    #: Failed runs of one code on one target that open the breaker for that target.
    breaker_target_failures: int = 2
    #: Failed runs of one code on any targets that open the breaker for the code.
    breaker_code_failures: int = 3
    breaker_window_s: int = 3600
    #: Share of the target's group that may be changed within `blast_window_s`; at least one host.
    blast_percent: int = 5
    blast_window_s: int = 3600
    #: Share of the group with the same code above which one common cause is assumed.
    storm_percent: int = 20
    #: Fewer targets than this are never a storm: in a group of four, one fault is already 25 %.
    storm_min_targets: int = 2
    storm_window_s: int = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A period in which changes are not wanted."""

    name: str
    #: `freeze`: nobody changes anything. `maintenance`: people are at work, so nothing runs by itself.
    kind: str
    #: Empty: has always been in force.
    starts_at: str = ""
    #: Empty: until it is lifted.
    ends_at: str = ""
    #: Exact hosts it covers; None: all of them.
    hosts: tuple[str, ...] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What diagnosis found for this code on this target; None: that number is not known."""

    #: Latest consecutive evaluations in which the code was the diagnosis of this target.
    consecutive: int = 0
    #: Load of the code's own resource, rounded down.
    saturation_permille: int | None = None
    #: The code has no meaningful saturation (a certificate, a clock): the evaluations alone count.
    direct: bool = False
    #: Pignistic belief in the code, rounded down.
    belief_permille: int | None = None
    #: Conflict between the pieces of evidence, rounded up.
    conflict_permille: int | None = None
    #: Age of the oldest evidence used, rounded up.
    evidence_age_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One person's yes to one plan hash."""

    #: Name of the approver's token.
    approver: str
    #: How the approver was identified; only `token` is a second person.
    auth: str
    #: Role of the approver's token; only `approver` may agree.
    role: str
    plan_hash: str
    granted_at: str
    expires_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """Another run that is not closed."""

    run_id: str
    code: str
    target: str
    #: Every host it may change.
    hosts: tuple[str, ...]
    failure_domain: str
    state: State
    check: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """A closed run."""

    run_id: str
    code: str
    target: str
    #: Every host it was allowed to change.
    hosts: tuple[str, ...]
    outcome: Outcome
    #: The remedy was begun: something may have changed.
    acted: bool
    ended_at: str
    #: `operator`, `webhook`, `schedule` or `drill`.
    trigger: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything the guards look at for one request."""

    now: str
    run_id: str
    code: str
    plan: str
    plan_hash: str
    risk: Risk
    arming: Arming
    #: `operator`, `webhook`, `schedule` or `drill`; whatever is not `operator` is automatic.
    trigger: str
    #: Id of the requesting actor, e.g. `alice` or `uid:1000(alice)`.
    requester: str
    #: How the requester was identified: `token`, `uid`, `peer` or `none`.
    requester_auth: str
    reason: str = ""
    check: bool = False
    break_glass: bool = False

    #: Why everything is stopped; None: the kill switch is not engaged.
    kill_switch: str | None = None
    windows: tuple[Window, ...] = ()

    target: str
    #: Further hosts the plan may change.
    touches: tuple[str, ...] = ()
    #: Target and touches that are not exact inventory hosts.
    unknown_hosts: tuple[str, ...] = ()
    #: Groups whose hosts the plan accepts.
    plan_groups: tuple[str, ...]
    #: Groups of the target, with parents.
    target_groups: tuple[str, ...]
    #: The plan's group that shares and storms are counted in: of those the target is in, the smallest.
    group: str
    group_hosts: tuple[str, ...]
    failure_domain: str = ""
    #: Redundant pairs (all members) that the target or a touched host belongs to.
    pairs: tuple[tuple[str, ...], ...] = ()
    #: Hosts that carry the tool's own connection, and the host it runs on.
    management_path: tuple[str, ...] = ()
    #: Roles of the links that the parameters name, e.g. `edge`, `uplink`.
    link_roles: tuple[str, ...] = ()
    #: Link roles the plan must never touch.
    never_roles: tuple[str, ...] = ()

    #: None: there is no diagnosis for this code on this target.
    diagnosis: Diagnosis | None = None
    #: Other runs that are not closed, of any code; never this one.
    open_runs: tuple[OpenRun, ...] = ()
    #: Closed runs of any code, going back at least as far as the longest window and the cooldown.
    history: tuple[PastRun, ...] = ()
    #: Seconds after a closed run in which the same plan does not act on the same target again.
    cooldown_s: int = 600
    approvals: tuple[Approval, ...] = ()
    limits: Limits = field(default_factory=Limits)

    @property
    def by_operator(self) -> bool:
        """Whether a person asked; anything else, also an unknown trigger, is automatic."""
        return self.trigger == "operator"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host the run may change."""
        return tuple(sorted({self.target, *self.touches}))

    def age_s(self, past: str) -> int:
        """Seconds from a moment to now, rounded down; negative for the future, 0 when nobody knows it."""
        if not past:
            return 0
        return int((moment(self.now) - moment(past)).total_seconds() // 1)

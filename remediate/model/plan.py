"""A plan: the remedy for one fault code, as data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

#: Form of a fault code (DOMAIN: domain, object, condition).
CODE_FORM = re.compile(r"^[A-Z]{2,3}(-[A-Z0-9]{2,9}){2}$")


class Phase(StrEnum):
    """The phases of a run, in order; `rollback` is entered only when the remedy did not help."""

    PRECHECK = "precheck"
    SNAPSHOT = "snapshot"
    APPLY = "apply"
    VERIFY = "verify"
    ROLLBACK = "rollback"
    CLOSE = "close"


class Tier(StrEnum):
    """Response tier by measured impact."""

    L1 = "L1"
    L2 = "L2"
    L3 = "L3"


class Risk(StrEnum):
    """Danger of the action; decides the approval."""

    R0 = "R0"
    R1 = "R1"
    R2 = "R2"
    R3 = "R3"


class Arming(StrEnum):
    """Whether a fault code may be acted on without a person."""

    OBSERVE = "observe"
    APPROVE = "approve"
    AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Title:
    """A plan's name for people."""

    en: str
    zh: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One value an operator or an alert may hand to the plan."""

    name: str
    #: `str`, `int`, `bool` or `list` (of strings).
    type: str
    description: str = ""
    required: bool = False
    default: Any = None
    choices: tuple[Any, ...] = ()
    regex: str = ""
    min: int | None = None
    max: int | None = None
    unit: str = ""
    #: Where an alert carries it, e.g. `labels.vlan`.
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSpec:
    """How one phase is carried out."""

    #: Seconds until the phase is stopped.
    timeout: int
    #: May be repeated after a crash without first asking what it did.
    idempotent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifySpec:
    """How recovery is proved, from somewhere else than where it was made."""

    #: `playbook` (the role's verify phase), `http`, `tcp`, `ping` or `segment`.
    probe: str
    #: `observers`, `controller`, or the name of an inventory group.
    vantage: str = "controller"
    #: What the probe looks at, e.g. `https://{host}/healthz`; unused by `playbook`.
    address: str = ""
    #: HTTP status that counts as healthy.
    expect_status: int = 200
    #: Text that the answer must hold; empty: any.
    expect_text: str = ""
    #: Newest segment's age in seconds that still counts as healthy (`segment`).
    max_age: int = 30
    timeout: int = 60
    samples: int = 3
    #: Seconds between two samples.
    interval: int = 1
    min_ok: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSpec:
    """What the plan asks of the guards beyond the rules that bind every plan."""

    #: Seconds after a closed run before the same plan may act on the same target again.
    cooldown: int = 600
    #: Inventory variable that names the domain in which one run is allowed at a time.
    failure_domain: str = "remediate_failure_domain"
    #: Link roles that must never be touched.
    never: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The remedy for one fault code."""

    code: str
    #: Slug: stem of the playbook and the role.
    slug: str
    title: Title
    layer: str
    #: Inventory groups whose hosts may be a target.
    groups: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    tier: Tier
    risk: Risk
    #: Parameter values that raise the risk: {parameter: {value: risk}}.
    risk_when: Mapping[str, Mapping[str, Risk]] = field(default_factory=dict)
    arming: Arming
    #: Playbook stem (`executor: {playbook: ...}`).
    playbook: str
    phases: Mapping[Phase, PhaseSpec]
    verify: VerifySpec
    #: A playbook written for other purposes: no phases, no rollback; only `apply` runs it.
    foreign: bool = False
    #: Inventory expressions for further hosts that the plan may change.
    touches: tuple[str, ...] = ()
    #: Names of secrets handed to the playbook as `REMEDIATE_SECRET_<NAME>`.
    secrets: tuple[str, ...] = ()
    guards: GuardSpec = field(default_factory=GuardSpec)
    #: Seconds: expected and latest end of a run.
    expected: int = 60
    deadline: int = 300
    #: Evidence and saturation expressions, kept for diagnosis; not read when an operator asks.
    evidence: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    saturation: Mapping[str, str] = field(default_factory=dict)
    #: Catalog file the plan came from.
    file: str = ""
    #: SHA-256 over catalog file, playbook, role and the plugins they may use.
    digest: str = ""

    @property
    def has_rollback(self) -> bool:
        """Whether a remedy that did not help can be taken back."""
        return Phase.ROLLBACK in self.phases

    def risk_of(self, params: Mapping[str, Any]) -> Risk:
        """The risk of running the plan with these parameters."""
        raised = [
            risks[str(params[name])]
            for name, risks in self.risk_when.items()
            if name in params and str(params[name]) in risks
        ]
        return max([self.risk, *raised])

    def variable(self, parameter: str) -> str:
        """The Ansible variable that carries a parameter: roles prefix theirs, foreign playbooks do not."""
        return parameter if self.foreign else f"{self.slug}_{parameter}"

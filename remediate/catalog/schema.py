"""What a plan file may say; `plan.schema.json` is made from these models.

`python -m remediate.catalog.schema` prints the schema.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    field_validator,
)

from remediate.model.duration import parse_duration
from remediate.model.plan import CODE_FORM, Arming, Risk, Tier

#: Where the published schema lies.
PUBLISHED = Path(__file__).with_name("plan.schema.json")

Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?$|^\d+$"},
            ],
            "description": "Seconds, or text like 20s, 10m, 1h30m",
        }
    ),
]
Count = Annotated[int, Field(strict=True, ge=1, le=1000)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Code = Annotated[str, StringConstraints(pattern=CODE_FORM.pattern)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Group = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Value = Annotated[str, Field(strict=True)] | Annotated[int, Field(strict=True)] | Flag


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TitleFile(_Strict):
    """The plan's name for people."""

    en: Text
    zh: Text


class TargetsFile(_Strict):
    """Which hosts may be a target."""

    groups: Annotated[list[Group], Field(min_length=1)]
    per_run: Annotated[Literal[1], Field(description="A run acts on one exact host.")] = 1


class ParameterFile(_Strict):
    """What the role's argument spec cannot say about a parameter; a foreign playbook's says it all."""

    type: Literal["str", "int", "bool", "list"] | None = None
    description: Text | None = None
    required: Flag | None = None
    default: Value | list[str] | None = None
    choices: list[Value] | None = None
    regex: Annotated[Text | None, Field(description="The whole text has to match.")] = None
    min: Annotated[int, Field(strict=True)] | None = None
    max: Annotated[int, Field(strict=True)] | None = None
    unit: Text | None = None
    source: Annotated[
        Annotated[str, StringConstraints(pattern=r"^(labels|annotations)\.[A-Za-z_][A-Za-z0-9_]*$")] | None,
        Field(alias="from", description="Where an alert carries the value."),
    ] = None

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"is no regular expression: {error}") from None
        return value


class EvidenceFile(_Strict):
    """One observation that speaks for this fault code."""

    expr: Text
    severity: Literal["info", "warning", "critical"] = "warning"
    speaks_for: list[Code] = []
    hold: Annotated[Duration, Field(alias="for")] = 0


class SaturationFile(_Strict):
    """Share, 0 to 1, of the code's own resource that is used up."""

    expr: Text
    of: Text


class ExecutorFile(_Strict):
    """What carries the plan out."""

    playbook: Annotated[
        Text,
        Field(
            description="Stem of a playbook in `playbooks/`; for a foreign one also a path, absolute or from "
            "the directory that holds `playbooks/`."
        ),
    ]


class PhaseFile(_Strict):
    """How one phase is carried out."""

    timeout: Duration
    idempotent: Annotated[
        Flag, Field(description="May be repeated after a crash without asking what it did.")
    ] = False


class VerifyFile(PhaseFile):
    """How recovery is proved, from elsewhere than where the change was made."""

    timeout: Duration = 60
    vantage: Annotated[
        Text, Field(alias="from", description="`observers`, `controller` or an inventory group.")
    ] = "controller"
    probe: Literal["playbook", "http", "tcp", "ping", "segment"] = "playbook"
    address: Annotated[
        Text | None,
        Field(
            description="`https://{host}/healthz`, `{host}:22`; {host}, {name} and {var:NAME} are filled in."
        ),
    ] = None
    expect_status: Annotated[int, Field(strict=True, ge=100, le=599)] = 200
    expect_text: str = ""
    max_age: Duration = 30
    samples: Count = 3
    interval: Duration = 1
    min_ok: Count = 3


class PhasesFile(_Strict):
    """The phases; a plan without `rollback` cannot be taken back."""

    precheck: PhaseFile | None = None
    snapshot: PhaseFile | None = None
    apply: PhaseFile
    verify: VerifyFile
    rollback: PhaseFile | None = None


class GuardsFile(_Strict):
    """What the plan asks of the guards beyond the rules for every plan."""

    cooldown: Duration = 600
    failure_domain: Annotated[
        Variable, Field(description="Inventory variable; the prefix `remediate_` may be left out.")
    ] = "remediate_failure_domain"
    never: list[Literal["edge", "uplink", "stack", "management", "management_path"]] = []


class DurationFile(_Strict):
    """Expected and latest end of a run."""

    expected: Duration = 60
    deadline: Duration = 300


class PlanFile(_Strict):
    """The remedy for one fault code: `playbooks/catalog/<CODE>.yml`."""

    model_config = ConfigDict(title="Plan")

    code: Code
    plan: Slug
    title: TitleFile
    layer: Literal["physical", "protocol", "data", "application"]
    targets: TargetsFile
    parameters: dict[Variable, ParameterFile] = {}
    evidence: dict[Text, EvidenceFile] = {}
    saturation: SaturationFile | None = None
    tier: Tier
    risk: Risk
    risk_when: dict[Variable, dict[str, Risk]] = {}
    arming: Arming = Arming.APPROVE
    executor: ExecutorFile
    phases: PhasesFile
    touches: Annotated[
        list[Text], Field(description="Inventory expressions for further hosts the plan may change.")
    ] = []
    secrets: Annotated[list[Slug], Field(description="Handed over as REMEDIATE_SECRET_<NAME>.")] = []
    guards: GuardsFile = GuardsFile()
    duration: DurationFile = DurationFile()
    foreign: Annotated[
        Flag, Field(description="A playbook written for other purposes: no phases, no rollback.")
    ] = False


def schema() -> dict[str, Any]:
    """The JSON Schema of a plan file."""
    made = PlanFile.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def schema_text() -> str:
    """The published form of the schema."""
    return json.dumps(schema(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())

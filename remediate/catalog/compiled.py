"""Plans as JSON, so that a warm start needs neither YAML nor Pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from remediate.model.plan import (
    Arming,
    GuardSpec,
    Parameter,
    Phase,
    PhaseSpec,
    Plan,
    Risk,
    Tier,
    Title,
    VerifySpec,
)


def to_json(plan: Plan) -> dict[str, Any]:
    """A plan as JSON types."""
    return asdict(plan)


def from_json(data: Mapping[str, Any]) -> Plan:
    """The plan that `to_json` wrote."""
    said = dict(data)
    return Plan(
        **{
            **said,
            "title": Title(**said["title"]),
            "groups": tuple(said["groups"]),
            "parameters": tuple(
                Parameter(**{**one, "choices": tuple(one["choices"])}) for one in said["parameters"]
            ),
            "tier": Tier(said["tier"]),
            "risk": Risk(said["risk"]),
            "risk_when": {
                name: {value: Risk(risk) for value, risk in risks.items()}
                for name, risks in said["risk_when"].items()
            },
            "arming": Arming(said["arming"]),
            "phases": {Phase(name): PhaseSpec(**spec) for name, spec in said["phases"].items()},
            "verify": VerifySpec(**said["verify"]),
            "touches": tuple(said["touches"]),
            "secrets": tuple(said["secrets"]),
            "guards": GuardSpec(**{**said["guards"], "never": tuple(said["guards"]["never"])}),
        }
    )

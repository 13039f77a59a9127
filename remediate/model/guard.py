"""What a guard says, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """A guard's word on a request."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    #: A second person has to agree first.
    HOLD = "hold"
    REFUSE = "refuse"
    #: The guard does not apply; its reason says why.
    NOT_APPLICABLE = "n/a"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardVerdict:
    """One guard's verdict with the input it was based on."""

    name: str
    verdict: Verdict
    reason: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The form the trail, `explain` and `runs show` use."""
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "facts": dict(self.facts),
        }

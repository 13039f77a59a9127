"""Asks a recorder whether every channel's recording is fresh."""

from __future__ import annotations

import json
from typing import Any

from remediate.model.plan import VerifySpec
from remediate.model.result import Observation
from remediate.probes.address import shown
from remediate.probes.fetch import Answer, FetchFailed, fetch

#: A recorder with thousands of channels answers with more than a health page does.
BODY_LIMIT = 1024 * 1024
_MS = 1000
_OK_STATUS = 200
#: How far a segment may lie in the future before its age says nothing.
_CLOCK_SKEW_MS = 5 * _MS


class SegmentProbe:
    """Healthy is a newest segment of at most `max_age` seconds in every channel, and at least one channel.

    The recorder answers `{"channels": {NAME: {"pool_age_ms": N, "age_ms": N}}}`. The age *in the pool*
    counts where it is given: what a recorder only spooled is not recorded yet.
    """

    def look(self, spec: VerifySpec, *, address: str, timeout: float) -> Observation:
        """One GET of the recorder's channels."""
        try:
            answer = fetch(address, timeout=timeout, limit=BODY_LIMIT)
        except FetchFailed as error:
            ok, observed = False, str(error)
        else:
            ok, observed = _judge(answer, spec.max_age)
        return Observation(
            name=f"segment {shown(address)}",
            expected=f"every channel's newest segment at most {spec.max_age} s old",
            observed=observed,
            ok=ok,
        )


def _judge(answer: Answer, max_age: int) -> tuple[bool, str]:
    if answer.status != _OK_STATUS or answer.cut:
        return False, f"status {answer.status}" + (", longer than 1 MiB" if answer.cut else "")
    try:
        channels = json.loads(answer.body)["channels"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False, "the answer does not list channels"
    if not isinstance(channels, dict) or not channels:
        return False, "no channel is recorded"
    stale = [f"{name} {_text(age)}" for name, age in _ages(channels) if not _fresh(age, max_age)]
    if stale:
        return False, f"{len(stale)} of {len(channels)} channel(s) stale: {', '.join(stale[:5])}"
    return True, f"{len(channels)} channel(s) fresh"


def _ages(channels: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        (name, channel.get("pool_age_ms", channel.get("age_ms")) if isinstance(channel, dict) else None)
        for name, channel in channels.items()
    ]


def _fresh(age_ms: Any, max_age: int) -> bool:
    """Whether this is an age at all, and small enough; `true` and NaN are neither."""
    number = isinstance(age_ms, int | float) and not isinstance(age_ms, bool)
    return number and -_CLOCK_SKEW_MS <= age_ms <= max_age * _MS


def _text(age_ms: Any) -> str:
    if isinstance(age_ms, int) and not isinstance(age_ms, bool):
        return f"{age_ms // _MS} s"
    return "without a segment" if age_ms is None else "without a usable age"

"""Moments and durations in the one form the product shows and stores."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """UTC with microseconds, e.g. `2026-03-01T03:00:00.000000Z`; compares as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> datetime:
    """The inverse of `rfc3339`."""
    return datetime.fromisoformat(text)


def milliseconds_between(start: str, end: str) -> int | None:
    """Integer milliseconds between two moments; None while one of them is missing."""
    if not start or not end:
        return None
    return round((parse_rfc3339(end) - parse_rfc3339(start)).total_seconds() * 1000)

"""A time in which nothing may be changed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from typing import Any, Self

from remediate.model.spelling import nearest

#: Day names of a weekly freeze, in the order of `datetime.weekday()`.
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_KEYS = ("reason", "from", "to", "days", "start", "end", "timezone", "groups", "codes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """One freeze: either from one moment to another, or weekly between two times of day."""

    reason: str
    #: First moment and the moment at which it is over; both aware, or both None for a weekly one.
    since: datetime | None = None
    until: datetime | None = None
    #: Weekdays (0 is Monday) on which a weekly freeze begins.
    days: tuple[int, ...] = ()
    #: Times of day in `zone`; an end that is not after its start lies on the next day.
    start: time = time.min
    end: time = time.min
    zone: tzinfo | None = None
    #: Inventory groups and fault codes it is about; empty: all of them.
    groups: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()

    @classmethod
    def from_table(cls, entry: Mapping[str, Any]) -> Self:
        """Read one `[[freeze]]` table; ValueError names the key and what was found."""
        for key in entry:
            if key not in _KEYS:
                raise ValueError(f"unknown key {key!r}{nearest(key, _KEYS)}")
        reason = entry.get("reason")
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError("`reason` is missing; say why nothing may be changed")
        groups, codes = _words(entry, "groups"), _words(entry, "codes")
        zone = _zone(entry.get("timezone"))
        if "from" in entry or "to" in entry:
            since, until = _span(entry, zone)
            return cls(reason=reason, since=since, until=until, groups=groups, codes=codes)
        if zone is None:
            raise ValueError('a weekly freeze needs `timezone`, like "Asia/Shanghai"')
        return cls(
            reason=reason,
            days=_days(entry),
            start=_time_of_day(entry, "start"),
            end=_time_of_day(entry, "end"),
            zone=zone,
            groups=groups,
            codes=codes,
        )

    def forbids(self, moment: datetime, *, code: str, groups: Collection[str]) -> bool:
        """Whether a run of `code` on a host of these groups may not start at this (aware) moment."""
        if self.codes and code not in self.codes:
            return False
        if self.groups and not set(self.groups) & set(groups):
            return False
        return self.in_force(moment)

    def in_force(self, moment: datetime) -> bool:
        """Whether the freeze covers this (aware) moment, whatever the code and the target."""
        if self.since is not None and self.until is not None:
            return self.since <= moment < self.until
        local = moment.astimezone(self.zone)
        return any(self._covers(local, ago) for ago in (0, 1))

    def _covers(self, local: datetime, days_ago: int) -> bool:
        """Whether the window that began `days_ago` holds the moment; wall clock, as people meant it."""
        day = local.date() - timedelta(days=days_ago)
        if day.weekday() not in self.days:
            return False
        begins = datetime.combine(day, self.start)
        ends = datetime.combine(day, self.end)
        if ends <= begins:
            ends += timedelta(days=1)
        return begins <= local.replace(tzinfo=None) < ends


def _words(entry: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = entry.get(key, [])
    if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
        raise ValueError(f"`{key}` is {value!r}, expected a list of words")
    return tuple(value)


def _zone(name: object) -> tzinfo | None:
    """The time zone of that name; None when there is no name."""
    if name is None:
        return None
    from zoneinfo import ZoneInfo  # only a file with a freeze needs it

    try:
        return ZoneInfo(str(name))
    except (KeyError, ValueError, OSError):
        raise ValueError(f"`timezone` is {name!r}, which is not a known time zone") from None


def _span(entry: Mapping[str, Any], zone: tzinfo | None) -> tuple[datetime, datetime]:
    for key in ("days", "start", "end"):
        if key in entry:
            raise ValueError(f"`{key}` does not go with `from` and `to`")
    since, until = _moment(entry, "from", zone), _moment(entry, "to", zone)
    if until <= since:
        raise ValueError("`to` is not after `from`")
    return since, until


def _moment(entry: Mapping[str, Any], key: str, zone: tzinfo | None) -> datetime:
    value = entry.get(key)
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"`{key}` is {value!r}, expected a date and time") from None
    if moment.tzinfo is not None:
        return moment
    if zone is None:
        raise ValueError(f"`{key}` has no offset; add one (`+08:00`) or a `timezone`")
    return moment.replace(tzinfo=zone)


def _time_of_day(entry: Mapping[str, Any], key: str) -> time:
    value = entry.get(key)
    if isinstance(value, str) and re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", value):
        return time.fromisoformat(value)
    if isinstance(value, time) and value.tzinfo is None:
        return value
    raise ValueError(f'`{key}` is {value!r}, expected a time of day like "22:00"')


def _days(entry: Mapping[str, Any]) -> tuple[int, ...]:
    """The weekdays named; every day when none is."""
    days = _words(entry, "days")
    for day in days:
        if day not in DAYS:
            raise ValueError(f"`days` holds {day!r}, expected some of {', '.join(DAYS)}")
    return tuple(sorted(DAYS.index(day) for day in set(days) or DAYS))

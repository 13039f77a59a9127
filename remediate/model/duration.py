"""Durations as people write them."""

from __future__ import annotations

import re

_PARTS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_FORM = r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?"

#: What an error says is expected.
DURATION_FORM = 'a duration like "20s", "10m", "1h30m" or whole seconds'


def parse_duration(value: object) -> int:
    """Seconds in `20s`, `10m`, `1h30m`, `2d` or a whole number; ValueError names what was found."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (text := value.strip()):
        if text.isascii() and text.isdigit() and len(text) <= 9:
            return int(text)
        if found := re.fullmatch(_FORM, text, re.ASCII):
            return sum(
                int(count) * _PARTS[unit]
                for count, unit in zip(found.groups(), _PARTS, strict=True)
                if count is not None
            )
    raise ValueError(f"expected {DURATION_FORM}, found {value!r}")


def format_duration(seconds: int) -> str:
    """The shortest text that `parse_duration` reads back: 600 is `10m`."""
    text = ""
    for unit, size in _PARTS.items():
        count, seconds = divmod(seconds, size)
        if count:
            text += f"{count}{unit}"
    return text or "0s"

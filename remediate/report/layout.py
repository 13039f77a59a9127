"""Plain text in columns; knows that a Chinese character takes two of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

#: Columns that are left for the last one at least, however long the others are.
_NARROWEST = 24


def printable(text: str, *, lines: bool = False) -> str:
    """The text without anything a terminal would obey; line breaks stay only with `lines`."""
    return "".join(c if c.isprintable() or (lines and c in "\n\t") else " " for c in text)


def one_line(text: str) -> str:
    """The text on one line, safe to show."""
    return " ".join(printable(text).split())


def width(text: str) -> int:
    """Columns the text takes on a terminal."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def pad(text: str, columns: int) -> str:
    """The text, filled up with spaces to so many columns."""
    return text + " " * max(0, columns - width(text))


def wrap(text: str, columns: int) -> list[str]:
    """The text in lines of at most so many columns, broken at spaces; a longer word is cut."""
    lines, line = [], ""
    for word in text.split():
        candidate = f"{line} {word}" if line else word
        if width(candidate) <= columns:
            line = candidate
            continue
        if line:
            lines.append(line)
        *whole, line = _cut(word, columns)
        lines += whole
    return [*lines, line] if line or not lines else lines


def _cut(word: str, columns: int) -> list[str]:
    """A word in pieces that fit."""
    pieces, piece = [], ""
    for character in word:
        if width(piece + character) > columns:
            pieces.append(piece)
            piece = ""
        piece += character
    return [*pieces, piece]


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, columns: int = 100) -> list[str]:
    """Rows below their headers; the last column is wrapped so that lines fit."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(headers, *cells, strict=True)]
    left = max(_NARROWEST, columns - sum(widths[:-1]) - 2 * (len(widths) - 1))
    lines = [_line(headers, widths)]
    for row in cells:
        first, *more = wrap(row[-1], left)
        lines.append(_line([*row[:-1], first], widths))
        indent = " " * (sum(widths[:-1]) + 2 * (len(widths) - 1))
        lines += [indent + rest for rest in more]
    return lines


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    last = len(cells) - 1
    padded = [cell if n == last else pad(cell, widths[n]) for n, cell in enumerate(cells)]
    return "  ".join(padded).rstrip()


def seconds(milliseconds: int) -> str:
    """A duration for people: `340 ms`, `2.4 s`, `3 min 05 s`."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    minutes, rest = divmod(milliseconds // 1000, 60)
    return f"{minutes} min {rest:02} s"

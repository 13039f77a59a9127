"""Text that does not show itself."""

from __future__ import annotations

_HIDDEN = "**********"


class Secret(str):
    """A secret value: it prints as asterisks, in logs, tracebacks and f-strings too.

    It stays a `str` for libraries that need one (an environment, a request header); joining it with
    other text or encoding it gives the plain value, so do that only where it leaves the program.
    """

    __slots__ = ()

    def reveal(self) -> str:
        """The plain value."""
        return str.__str__(self)

    def __str__(self) -> str:
        return _HIDDEN

    def __repr__(self) -> str:
        return _HIDDEN

    def __format__(self, spec: str) -> str:
        return format(_HIDDEN, spec)

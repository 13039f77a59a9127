"""Turns a plan's address template into the one address a probe looks at, and takes addresses apart."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from remediate.errors import UsageError

_FIELD = re.compile(r"\{(?:(?P<word>host|name)|var:(?P<variable>[A-Za-z_][A-Za-z0-9_]*))\}")
#: What a value may hold: enough for names, addresses, ports and paths; nothing that begins another part
#: of a URL, another argument or a template.
_VALUE = re.compile(r"[A-Za-z0-9_\[:/][A-Za-z0-9_.:/%~\[\]-]*")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
_PASSWORD = re.compile(r"[^/]*@")
_LARGEST_PORT = 65535


def render_address(template: str, host: str, variables: Mapping[str, Any]) -> str:
    """The template with its fields filled in; UsageError names what is wrong.

    `{host}` is the target's `ansible_host`, or its name; `{name}` its inventory name; `{var:NAME}` an
    inventory variable of the target. There is nothing else in the language.
    """

    def value(match: re.Match[str]) -> str:
        field = match[0]
        if match["word"] == "name":
            return _checked(host, field)
        if match["word"] == "host":
            text = _checked(variables.get("ansible_host", host), field)
            return f"[{text}]" if is_ipv6(text) and template != field else text
        if match["variable"] not in variables:
            raise UsageError(f"{field} in {template!r}: {host} has no variable {match['variable']}")
        return _checked(variables[match["variable"]], field)

    leftover = _FIELD.sub("", template)
    if "{" in leftover or "}" in leftover:
        raise UsageError(f"{template!r} holds a field that is not {{host}}, {{name}} or {{var:NAME}}")
    return _FIELD.sub(value, template)


def shown(address: str) -> str:
    """The address as it may be recorded: without a password that somebody put into it."""
    return _PASSWORD.sub("***@", address)


def is_ipv6(text: str) -> bool:
    """Whether the text is a bare IPv6 address."""
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def is_host(text: str) -> bool:
    """Whether the text is one host name or address, and nothing that a program reads as an option."""
    return bool(_HOST_NAME.fullmatch(text)) or is_ipv6(text)


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of `host:port` or `[v6]:port`; ValueError says what is wrong."""
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not is_host(host):
        raise ValueError(f"{shown(address)!r} does not name one host and port")
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= _LARGEST_PORT):
        raise ValueError(f"{port!r} is not a port")
    return host, int(port)


def _checked(value: Any, field: str) -> str:
    """The value as text, when it cannot change the meaning of what is around it."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UsageError(f"{field} is {value!r}; an address takes only text and whole numbers")
    text = str(value)
    if not _VALUE.fullmatch(text):
        raise UsageError(f"{field} is {text!r}, which cannot stand in an address")
    return text

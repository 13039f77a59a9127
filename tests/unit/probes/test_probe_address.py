"""Address templates."""

from __future__ import annotations

import pytest

from remediate.errors import UsageError
from remediate.probes import render_address
from remediate.probes.address import host_and_port

VARS = {"ansible_host": "10.0.0.7", "port": 8080, "path": "/healthz", "secure": True, "v6": "fe80::1"}


@pytest.mark.parametrize(
    ("template", "address"),
    [
        ("{host}", "10.0.0.7"),
        ("{name}", "rec-1"),
        ("http://{host}:{var:port}{var:path}", "http://10.0.0.7:8080/healthz"),
        ("{host}:22", "10.0.0.7:22"),
        ("http://127.0.0.1:80/", "http://127.0.0.1:80/"),
        ("", ""),
    ],
)
def test_fields_are_filled_in(template: str, address: str) -> None:
    assert render_address(template, "rec-1", VARS) == address


def test_the_name_is_the_host_when_the_inventory_says_nothing_else() -> None:
    assert render_address("{host}:22", "rec-1", {}) == "rec-1:22"


def test_an_ipv6_address_is_bracketed_only_inside_something_longer() -> None:
    variables = {"ansible_host": "fe80::1"}

    assert render_address("{host}", "rec-1", variables) == "fe80::1"
    assert render_address("https://{host}/", "rec-1", variables) == "https://[fe80::1]/"
    assert render_address("{host}:22", "rec-1", variables) == "[fe80::1]:22"


@pytest.mark.parametrize(
    "template",
    [
        "{user}",
        "{host.x}",
        "{host!r}",
        "{}",
        "{0}",
        "{var:}",
        "{var:a.b}",
        "{{host}}",
        "{",
        "x}",
        "{var:port:>9}",
    ],
)
def test_there_is_nothing_else_in_the_language(template: str) -> None:
    with pytest.raises(UsageError, match="holds a field that is not"):
        render_address(template, "rec-1", VARS)


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(UsageError, match="rec-1 has no variable colour"):
        render_address("{var:colour}", "rec-1", VARS)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a b",
        "a\n",
        "x@evil",
        "a?b",
        "a#b",
        "-oProxyCommand=x",
        "{{ lookup('pipe', 'id') }}",
        "{host}",
        "a\\b",
        True,
        1.5,
        None,
        ["a"],
    ],
)
def test_a_value_that_could_mean_more_than_itself_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match=r"\{var:x\} is "):
        render_address("http://{var:x}/", "rec-1", {"x": value})


@pytest.mark.parametrize(
    ("address", "parts"),
    [("h:1", ("h", 1)), ("[::1]:65535", ("::1", 65535)), ("10.0.0.1:22", ("10.0.0.1", 22))],
)
def test_host_and_port(address: str, parts: tuple[str, int]) -> None:
    assert host_and_port(address) == parts


@pytest.mark.parametrize(
    "address", ["", "h", "h:", ":1", "h:0", "h:65536", "h:x", "h:²", "-h:1", "a b:1", "h:-1"]
)
def test_what_is_not_one_host_and_port(address: str) -> None:
    with pytest.raises(ValueError, match="not"):
        host_and_port(address)

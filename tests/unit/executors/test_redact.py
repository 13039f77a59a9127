"""Every way a secret was seen to leave a playbook, and a few more; and what must stay readable."""

from __future__ import annotations

import base64
import html
import json
import shlex
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediate.executors.redact import MARK, Scrubber, is_secret_name, secret_values

#: Holds what encodings change: quotes, slash, plus, ampersand, space, a non-ASCII letter.
CANARY = "Kanárek/7+x&\"q' Zq9"
PLAIN = "Hunter2Hunter2"

#: The run knows the value: wherever and however it is written, it has to go.
KNOWN = {
    "command argument": f"sh -c 'login {CANARY}'",
    "set_fact": f"{{'ansible_facts': {{'where': {CANARY!r}}}}}",
    "loop item": f"(item={CANARY})",
    "loop label": f"Failed to change user (label {CANARY})",
    "url userinfo": f"https://admin:{CANARY}@nvr-01/api",
    "copy diff": f"--- before\n+++ after\n@@ -1 +1 @@\n-old\n+password {CANARY}\n",
    "debug of a value registered under no_log": json.dumps({"msg": {"stdout": CANARY}}),
    "task name": f"Log in with {CANARY}",
    "handler name": f"Restart after {CANARY} was set",
    "stderr of a failure": f"mount error: user=cam,pass {CANARY}: permission denied",
    "traceback": f'File "x.py", line 3\n    login({CANARY!r})\nAuthError',
    "ini line": f"[db]\npw = {CANARY}\n",
    "xml attribute": f'<user pw="{html.escape(CANARY)}"/>',
    "json": json.dumps({"v": CANARY}),
    "json without escapes": json.dumps({"v": CANARY}, ensure_ascii=False),
    "json in json": json.dumps({"body": json.dumps({"v": CANARY})}),
    "shell quoted": f"curl -u admin:{shlex.quote(CANARY)}",
    "percent encoded": "q=" + urllib.parse.quote(CANARY, safe=""),
    "percent encoded path": "/login/" + urllib.parse.quote(CANARY),
    "percent encoded, small letters": "q="
    + urllib.parse.quote(CANARY, safe="")
    .replace("%C3%A1", "%c3%a1")
    .replace("%2F", "%2f")
    .replace("%2B", "%2b"),
    "form encoded": urllib.parse.urlencode({"v": CANARY}),
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "base64url": base64.urlsafe_b64encode(CANARY.encode()).decode(),
    "basic auth header": "Authorization: Basic " + base64.b64encode(f"u:{CANARY}".encode()).decode(),
    "base64, one byte before": base64.b64encode(b"x" + CANARY.encode()).decode(),
    "base64, two bytes before": base64.b64encode(b"xy" + CANARY.encode()).decode(),
    "base64 inside a longer one": base64.b64encode(b"user=cam;" + CANARY.encode() + b";realm=x").decode(),
    "hexadecimal": CANARY.encode().hex(),
    "python repr": repr([CANARY]),
    "at the very start": f"{CANARY} was refused",
    "twice": f"{CANARY}{CANARY}",
    "colour codes around it": f"\x1b[31m{CANARY}\x1b[0m",
}

#: Nobody told us the value: a name beside it, or its shape, gives it away.
UNKNOWN = {
    "password=": f"password={PLAIN}",
    "passwd:": f"passwd: {PLAIN}",
    "quoted json": json.dumps({"db_password": PLAIN}),
    "json in json": json.dumps({"b": json.dumps({"token": PLAIN})}),
    "python dict": str({"api_key": PLAIN}),
    "yaml": f"ansible_become_pass: {PLAIN}",
    "quoted with spaces": f'secret = "{PLAIN} and more"',
    "environment": f"REDIS_PASSWORD={PLAIN} PATH=/bin",
    "upper case": f"SNMP_COMMUNITY: {PLAIN}",
    "option with a space": f"mysql --password {PLAIN} -e x",
    "option in an argv list": str(["curl", "--token", PLAIN]),
    "option with =": f"--auth-key={PLAIN}",
    "bearer": f"Authorization: Bearer {PLAIN}abc",
    "bearer alone": f"sent Bearer {PLAIN}abc",
    "header in a dict": str({"Authorization": f"Bearer {PLAIN}"}),
    "cookie": f"Cookie: {PLAIN}",
    "session id": f"session_id={PLAIN}",
    "url": f"rtsp://camera:{PLAIN}@10.0.0.7/1",
    "url with only a token": f"https://{PLAIN}@git.example/x.git",
    "private key": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{PLAIN}\n-----END OPENSSH PRIVATE KEY-----",
    "private key, cut off": f"-----BEGIN RSA PRIVATE KEY-----\n{PLAIN}\n{PLAIN}",
    "json web token": f"eyJhbGciOiJIUzI1NiJ9.eyJ1{PLAIN}.{PLAIN}",
    "snmp configuration line": f"snmp-server community {PLAIN} ro",
    "enable secret line": f"enable secret 5 {PLAIN}",
    "username line": f"username admin password 7 {PLAIN}",
    "cipher line": f" password cipher {PLAIN}",
}

READABLE = (
    "changed: 3 of 12 sessions closed on nvr-01",
    "password must be at least 12 characters",
    "ansible_ssh_private_key_file=/etc/keys/id",
    "token_ttl: 3600",
    "compass: north, bypass: yes, passed: 3",
    "https://nvr-01.example/api?page=2",
    "interface Gi1/0/3 storm-control broadcast level 1.00",
    "vlan 110 name CAMERAS",
    "rc 3\nstderr: No space left on device",
)


@pytest.mark.parametrize("text", KNOWN.values(), ids=KNOWN)
def test_a_known_secret_goes_in_every_form(text: str) -> None:
    scrubbed = Scrubber([CANARY]).text(text)

    assert MARK in scrubbed
    for piece in ("Kan", "Zq9", base64.b64encode(CANARY.encode()).decode()[4:16]):
        assert piece not in scrubbed


@pytest.mark.parametrize("text", UNKNOWN.values(), ids=UNKNOWN)
def test_a_secret_nobody_told_us_goes_by_its_name_or_shape(text: str) -> None:
    assert PLAIN not in Scrubber().text(text)


@pytest.mark.parametrize("text", READABLE)
def test_ordinary_text_stays(text: str) -> None:
    assert Scrubber([CANARY]).text(text) == text


@pytest.mark.parametrize("text", [*KNOWN.values(), *UNKNOWN.values()])
def test_scrubbing_twice_changes_nothing_more(text: str) -> None:
    scrub = Scrubber([CANARY])

    assert scrub.text(scrub.text(text)) == scrub.text(text)


def test_the_corpus_is_large_enough() -> None:
    print(f"COUNT leak scenarios: {len(KNOWN) + len(UNKNOWN)}")
    assert len(KNOWN) + len(UNKNOWN) >= 40


def test_scrubbed_json_is_still_json() -> None:
    text = json.dumps({"user": "cam", "password": 'a"b', "port": 1})

    assert json.loads(Scrubber().text(text)) == {"user": "cam", "password": MARK, "port": 1}


def test_a_secret_of_several_lines_goes_line_by_line() -> None:
    assert Scrubber(["first-line-x\nsecond-line-y"]).text("only second-line-y here") == f"only {MARK} here"


def test_a_secret_too_short_to_be_told_apart_is_left_to_the_other_nets() -> None:
    assert Scrubber(["on", ""]).text("on and on") == "on and on"


def test_structures_are_scrubbed_at_every_depth() -> None:
    scrub = Scrubber([CANARY])

    assert scrub.data({"a": [CANARY, {"b": f"x{CANARY}"}], "psk": 12345, "n": 1, "token": None}) == {
        "a": [MARK, {"b": f"x{MARK}"}],
        "psk": MARK,
        "n": 1,
        "token": None,
    }


def test_secrets_are_found_in_an_inventory_by_their_names() -> None:
    variables = {
        "ansible_become_pass": "one1",
        "ansible_ssh_private_key_file": "/key",
        "vault_nvr": {"user": "two2", "pw": ["three3"]},
        "nvr": {"api_token": "four4", "port": 80},
        "users": [{"name": "x", "password": 55555}],
        "secret_enabled": True,
    }

    assert sorted(secret_values(variables)) == ["55555", "four4", "one1", "three3", "two2"]


def test_the_prefix_of_a_role_makes_no_secret_of_its_variables() -> None:
    variables = {
        "session_token_reset_scope": "service",
        "session_token_reset_canary_password": "hunter2",
        "token_audit": "kept in the dark",
    }

    found = list(secret_values(variables, roles={"session_token_reset", "session"}))

    assert found == ["hunter2", "kept in the dark"]


@pytest.mark.parametrize(
    "name", ["password", "db_passwd", "snmp_community", "SNMP_AUTH_KEY", "x_api_key", "become_pass"]
)
def test_telling_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["password_file", "token_ttl", "compass", "passed", "key", "author", "monkey"]
)
def test_names_that_only_look_like_it(name: str) -> None:
    assert not is_secret_name(name)


@given(st.text(min_size=4, max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_no_known_secret_survives_whatever_stands_around_it(secret: str, before: str, after: str) -> None:
    if secret.strip() in MARK or len(secret.strip()) < 4:
        return

    scrubbed = Scrubber([secret]).text(before + secret + after)

    assert secret not in scrubbed.replace(MARK, "")

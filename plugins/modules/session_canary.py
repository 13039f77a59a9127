#!/usr/bin/python
# Copyright the remediate authors
# SPDX-License-Identifier: Apache-2.0
"""Prove by canary logins what a session service and its verifiers accept."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import quote, urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.session_http import Answer, ask

DOCUMENTATION = r"""
module: session_canary
short_description: Prove by canary logins what a session service and its verifiers accept
version_added: "0.1.0"
description:
  - A whole look in one call; run it where the look is to be taken from.
  - Tokens are kept in a file on the controller, readable by its owner only, and pass to and from the host
    that looks as a parameter that is never logged and as a one-time-pad sealed answer. No token and no
    password is in a result, a log, an event or an argument list.
  - The action plugin of the same name adds the secrets, which come from the environment of the controller
    (E(REMEDIATE_SECRET_SESSION_CANARY_PASSWORD), E(REMEDIATE_SECRET_SESSION_CLIENT_SECRET),
    E(REMEDIATE_SECRET_SESSION_ADMIN)) or else from the inventory (C(session_token_reset_canary_password),
    C(session_token_reset_client_secret), C(session_token_reset_admin_secret)).
options:
  look:
    description:
      - V(ready) proves that the canary account can log in and is accepted everywhere, and logs it out.
      - V(taken) logs in and keeps the tokens for a later V(refused).
      - V(refused) proves that the tokens taken before are refused everywhere, that a new login is
        accepted everywhere, and that what was not to be reset still works.
      - V(restored) proves that the service answers and is at the epochs of before.
      - V(flushed) empties the caches of O(flush), which changes nothing that lasts.
    type: str
    required: true
    choices: [ready, taken, refused, restored, flushed]
  run_dir:
    description: Folder on the controller that holds the tokens for the time of the run. Action plugin only.
    type: path
  dialect:
    description: How the service is spoken to.
    type: str
    default: service
    choices: [service, keycloak]
  url:
    description: Base URL of the service.
    type: str
    required: true
  verifiers:
    description: Further URLs that accept a token by themselves; asked by GET with the bearer token.
    type: list
    elements: str
    default: []
  paths:
    description: Paths of login, logout, whoami, introspect and stats below O(url); an empty one is not there.
    type: dict
    default: {}
  realm:
    description: Realm, with O(dialect=keycloak).
    type: str
    default: ""
  client_id:
    description: Client that logs in and introspects, with O(dialect=keycloak).
    type: str
    default: ""
  client_secret:
    description: Its secret.
    type: str
  user:
    description: The canary account.
    type: str
    required: true
  password:
    description: Its password.
    type: str
  kept_kind:
    description: Kind of a second token that belongs to another family; empty for none.
    type: str
    default: ""
  kept_refused:
    description: Whether that second token is to be refused after the reset as well.
    type: bool
    default: false
  tokens:
    description: Tokens taken before. Set by the action plugin.
    type: dict
  pad:
    description: One-time pad for the answer. Set by the action plugin.
    type: str
  moves:
    description: The families with C(name), C(epoch) and C(new_epoch), as the snapshot decided them.
    type: list
    elements: dict
    default: []
  may_stay:
    description: Families that a restoration leaves at their new epoch, because the old key has leaked.
    type: list
    elements: str
    default: []
  other_min:
    description: How many items of other families and applications there must be at least.
    type: int
    default: 0
  flush:
    description: URLs to post to, with O(look=flushed).
    type: list
    elements: str
    default: []
  admin_secret:
    description: Bearer secret for them.
    type: str
  samples:
    description: How often to look.
    type: int
    default: 1
  interval:
    description: Seconds between two looks.
    type: int
    default: 1
  timeout:
    description: Seconds that one request may take.
    type: int
    default: 3
author: the remediate authors
"""

EXAMPLES = r"""
- name: Prove that old tokens are refused
  session_canary:
    look: refused
    run_dir: /run/remediate/42
    url: https://login.example
    verifiers: [https://video.example/whoami]
    user: canary
    samples: 3
  delegate_to: probe1
"""

RETURN = r"""
observations:
  description: What was looked at, with C(name), C(expected), C(observed) and C(ok); every sample has its own.
  returned: always
  type: list
  elements: dict
stats:
  description: Integers that the service tells of itself; empty where it tells nothing.
  returned: always
  type: dict
"""

SPEC: dict[str, Any] = {
    "look": {"required": True, "choices": ["ready", "taken", "refused", "restored", "flushed"]},
    "run_dir": {"type": "path"},
    "dialect": {"default": "service", "choices": ["service", "keycloak"]},
    "url": {"required": True},
    "verifiers": {"type": "list", "elements": "str", "default": []},
    "paths": {"type": "dict", "default": {}},
    "realm": {"default": ""},
    "client_id": {"default": ""},
    "client_secret": {"no_log": True},
    "user": {"required": True},
    "password": {"no_log": True},
    "kept_kind": {"default": ""},
    "kept_refused": {"type": "bool", "default": False},
    "tokens": {"type": "dict", "no_log": True},
    "pad": {"no_log": True},
    "moves": {"type": "list", "elements": "dict", "default": []},
    "may_stay": {"type": "list", "elements": "str", "default": []},
    "other_min": {"type": "int", "default": 0},
    "flush": {"type": "list", "elements": "str", "default": []},
    "admin_secret": {"no_log": True},
    "samples": {"type": "int", "default": 1},
    "interval": {"type": "int", "default": 1},
    "timeout": {"type": "int", "default": 3},
}

USUAL_PATHS = {
    "login": "/login",
    "logout": "/logout",
    "whoami": "/whoami",
    "introspect": "/introspect",
    "stats": "/stats",
}
STATS = (
    "live",
    "other_items",
    "served",
    "refused",
    "recent_requests",
    "refused_share_per_mille",
    "revoked_share_per_mille",
)


class CannotLook(Exception):
    """The look cannot be taken; a sentence for the operator."""


class Service:
    """A session service by its own dialect: log in, log out, introspect, and where it verifies."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.timeout = given["timeout"]
        self.base = given["url"].rstrip("/")
        self.paths = {**USUAL_PATHS, **given["paths"]}
        if given["dialect"] == "keycloak":
            oidc = f"/realms/{quote(given['realm'], safe='')}/protocol/openid-connect"
            self.paths = {
                "login": oidc + "/token",
                "logout": oidc + "/logout",
                "whoami": oidc + "/userinfo",
                "introspect": oidc + "/token/introspect",
                "stats": "",
            }
        self.verifiers = [self.base + self.paths["whoami"], *given["verifiers"]]
        for url in [*self.verifiers, *given["flush"]]:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
                raise CannotLook(
                    "a URL of the session service or a verifier is not http(s)://host/path without a user "
                    "name; check session_token_reset_url, _verifiers and _flush"
                )

    def _client(self) -> dict[str, str]:
        client = {"client_id": self.given["client_id"]}
        if self.given["client_secret"]:
            client["client_secret"] = self.given["client_secret"]
        return client

    def login(self, kind: str = "") -> tuple[str, Answer]:
        """Return a new token, or an empty one and the answer that came instead."""
        where = self.base + self.paths["login"]
        account = {"password": self.given["password"] or ""}
        if self.given["dialect"] == "keycloak":
            form = {"grant_type": "password", "username": self.given["user"], **account, **self._client()}
            answer = ask("POST", where, self.timeout, form={**form, "scope": "openid"})
        else:
            asked = {"user": self.given["user"], **account, **({"kind": kind} if kind else {})}
            answer = ask("POST", where, self.timeout, data=asked)
        token = answer.get("token") or answer.get("access_token")
        good = answer.status == 200 and isinstance(token, str)
        return (token if good else ""), answer

    def logout(self, token: str, answer: Answer) -> None:
        """End a session that served only to look; that it fails does not spoil the look."""
        if not self.paths["logout"]:
            return
        where = self.base + self.paths["logout"]
        if self.given["dialect"] == "keycloak":
            form = {"refresh_token": str(answer.get("refresh_token", "")), **self._client()}
            ask("POST", where, self.timeout, form=form)
        else:
            ask("POST", where, self.timeout, token=token)

    def introspect(self, token: str) -> str:
        """Return `active`, `inactive` or what came instead."""
        where = self.base + self.paths["introspect"]
        form = {"token": token}
        if self.given["dialect"] == "keycloak":
            form.update(self._client())
        answer = ask("POST", where, self.timeout, form=form)
        if answer.status != 200 or not isinstance(answer.get("active"), bool):
            return str(answer.words)
        return "active" if answer.body["active"] else "inactive"

    def verify(self, url: str, token: str) -> str:
        """Return `accepted`, `refused` or what came instead.

        Only 401 and 403 are a refusal: a verifier that is down has not refused anything.
        """
        answer = ask("GET", url, self.timeout, token=token)
        return {200: "accepted", 204: "accepted", 401: "refused", 403: "refused"}.get(
            answer.status, str(answer.words)
        )

    def stats(self) -> Answer | None:
        """Return what the service tells of itself, or nothing where it has no such page."""
        if not self.paths["stats"]:
            return None
        return ask("GET", self.base + self.paths["stats"], self.timeout)


class Looker:
    """Collects observations."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.observations: list[dict[str, Any]] = []
        self.stats: dict[str, int] = {}

    def note(self, name: str, expected: str, observed: str, ok: bool | None = None) -> None:
        right = observed == expected if ok is None else ok
        self.observations.append({"name": name, "expected": expected, "observed": observed, "ok": right})

    def everywhere(self, what: str, token: str, expected: str) -> None:
        """Show a token to every verifier and to introspection."""
        for url in self.service.verifiers:
            parts = urlsplit(url)
            self.note(f"{what} at {parts.netloc}{parts.path}", expected, self.service.verify(url, token))
        if self.service.paths["introspect"]:
            told = "active" if expected == "accepted" else "inactive"
            self.note(f"{what} at introspection", told, self.service.introspect(token))

    def new_login(self) -> None:
        token, answer = self.service.login()
        self.note("new login of the canary account", "works", "works" if token else answer.words)
        if token:
            self.everywhere("new token", token, "accepted")
            self.service.logout(token, answer)

    def told(self, epochs: dict[str, list[int]], other_min: int) -> None:
        """Compare what the service tells of itself."""
        answer = self.service.stats()
        if answer is None:
            return
        if answer.status != 200 or not isinstance(answer.body, dict):
            self.note("the service's own figures", "HTTP 200", answer.words)
            return
        self.stats = {name: answer.body[name] for name in STATS if isinstance(answer.get(name), int)}
        found = answer.get("epoch")
        for family, right in sorted(epochs.items()):
            now = found.get(family) if isinstance(found, dict) else None
            wanted = " or ".join(str(epoch) for epoch in sorted(set(right)))
            seen = str(now) if isinstance(now, int) else "not told"
            self.note(f"epoch of the {family} family", wanted, seen, now in right)
        if other_min and "other_items" in self.stats:
            other = self.stats["other_items"]
            self.note("items of other applications", f"at least {other_min}", str(other), other >= other_min)


def seal(tokens: dict[str, str], pad: str) -> str:
    """Return the tokens under a one-time pad: what crosses a logging connection tells nothing."""
    text, key = json.dumps(tokens).encode(), base64.b64decode(pad)
    if len(text) > len(key):
        raise CannotLook(f"the service's tokens have {len(text)} bytes together, expected at most {len(key)}")
    # No zip(strict=...): a target may have Python 3.8.
    mixed = bytes(x ^ y for x, y in zip(text.ljust(len(key)), key))  # noqa: B905
    # Braille: Ansible blots every secret out of a result, and a short one would be found in base64.
    return "".join(chr(0x2800 + byte) for byte in mixed)


def take(service: Service, kept_kind: str) -> dict[str, str]:
    tokens = {}
    for name, kind in (("old", ""), ("kept", kept_kind)):
        if name == "kept" and not kind:
            continue
        token, answer = service.login(kind)
        if not token:
            raise CannotLook(
                f"the canary account cannot log in{' as ' + kind if kind else ''}: {answer.words}, expected "
                "HTTP 200 with a token; check session_token_reset_canary_user and its password"
            )
        tokens[name] = token
    return tokens


def right_epochs(move: dict[str, Any], look: str, may_stay: list[str]) -> list[int]:
    """Return the epochs at which a family may be found."""
    old, new = int(move["epoch"]), int(move["new_epoch"])
    if look == "refused":
        return [new]
    return [old, new] if move["name"] in may_stay else [old]


def work(given: dict[str, Any]) -> dict[str, Any]:
    service = Service(given)
    looker = Looker(service)
    report: dict[str, Any] = {"changed": False}
    look = given["look"]
    epochs = {move["name"]: right_epochs(move, look, given["may_stay"]) for move in given["moves"]}
    # Kept across the samples: the device credential of before, never a new one.
    tokens = given["tokens"] or {}
    if look == "taken":
        tokens = take(service, given["kept_kind"])
        report["sealed"] = seal(tokens, given["pad"] or "")
        for url in service.verifiers:
            # A verifier that remembers whom it trusted must know this token before the reset.
            looker.note(
                f"canary token at {urlsplit(url).netloc}{urlsplit(url).path}",
                "accepted",
                service.verify(url, tokens["old"]),
            )
        looker.told({}, 0)
    elif look == "flushed":
        for url in given["flush"]:
            answer = ask("POST", url, given["timeout"], token=given["admin_secret"] or "", data={})
            name = f"cache of {urlsplit(url).netloc} emptied"
            looker.note(name, "HTTP 2xx", answer.words, 200 <= answer.status < 300)
    else:
        for sample in range(given["samples"]):
            if sample:
                time.sleep(given["interval"])
            if look == "refused":
                looker.everywhere("old canary token", tokens["old"], "refused")
                if "kept" in tokens:
                    right = "refused" if given["kept_refused"] else "accepted"
                    looker.everywhere(f"{given['kept_kind']} credential of before", tokens["kept"], right)
            looker.new_login()
            looker.told(epochs, given["other_min"] if look == "refused" else 0)
    return {**report, "observations": looker.observations, "stats": looker.stats}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    if module.check_mode:
        module.exit_json(changed=False, observations=[], stats={})
    try:
        report = work(module.params)
    except CannotLook as refused:
        module.fail_json(msg=str(refused))
    module.exit_json(**report)


if __name__ == "__main__":
    main()

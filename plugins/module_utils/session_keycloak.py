# Copyright the remediate authors
# SPDX-License-Identifier: Apache-2.0
"""Keycloak as a session store: a realm's not-before time plays the part of the epoch.

The order is the one that leaves no gap: sessions and refresh tokens first (logout-all), then access
tokens by not-before, then the push to the resource servers. Not-before is set last but one, so a
crash before it leads to a full repeat and none after it does. Offline sessions are separate and are
not ended; the role's README says so.
"""

from __future__ import annotations

import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ansible.module_utils.session_backends import Change, Family, StoreError, conflict
from ansible.module_utils.session_http import Answer, ask


class KeycloakBackend:
    """One realm, by its admin interface."""

    def __init__(self, url: str, realm: str, client_id: str, user: str, password: str, timeout: int) -> None:
        self._realm = url.rstrip("/") + "/admin/realms/" + urllib.parse.quote(realm, safe="")
        self._timeout = timeout
        form = {"grant_type": "password", "client_id": client_id, "username": user, "password": password}
        if not user:
            form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": password}
        where = url.rstrip("/") + "/realms/master/protocol/openid-connect/token"
        answer = ask("POST", where, timeout, form=form)
        self._token = str(answer.get("access_token", ""))
        if answer.status != 200 or not self._token:
            raise StoreError(
                f"Keycloak's admin login answers {answer.words}, expected HTTP 200 with a token: check "
                "session_token_reset_user and the secret session_store_password"
            )
        self._clock_ahead = answer.date - time.time()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        yield

    def _admin(self, method: str, path: str = "", data: Any = None) -> Answer:
        answer = ask(method, self._realm + path, self._timeout, token=self._token, data=data)
        if answer.status not in (200, 204):
            raise StoreError(
                f"Keycloak answers {answer.words} to {method} {path or '(settings)'} of the realm, expected "
                "200 or 204: the admin account needs the role manage-realm"
            )
        return answer

    def check(self) -> None:
        self._admin("GET")

    def now(self) -> int:
        """Return the time by Keycloak's clock: not-before is compared with tokens it dated."""
        return int(time.time() + self._clock_ahead)

    def next_epoch(self, epoch: int) -> int:
        return max(epoch, self.now()) + 1

    def epoch(self, family: Family) -> int:
        del family
        return int(self._admin("GET").get("notBefore") or 0)

    def revoked(self, family: Family) -> set[int]:
        del family
        return set()

    def count(self, family: Family, batch: int) -> Counter[int]:
        del family, batch
        clients = self._admin("GET", "/client-session-stats").body or []
        return Counter({0: sum(int(client.get("active", 0)) for client in clients)})

    def total(self) -> int:
        return sum(int(n) for n in self.count(Family("session", "", ""), 0).values())

    def reset(self, family: Family, batch: int) -> Change:
        found = self.epoch(family)
        # Not equality: a token dated before the wanted moment is refused by any later one as well.
        done = found >= family.new_epoch
        if not done and found != family.epoch:
            raise conflict(family, found, f"{family.epoch} or at least {family.new_epoch}")
        removed, after = 0, found
        if not done:
            removed = self.count(family, batch)[0]
            self._admin("POST", "/logout-all")
            # A token dated in the same second as not-before passes, so the moment must have begun.
            while self.now() < family.new_epoch:
                time.sleep(0.05)
            after = max(family.new_epoch, self.now())
            self._admin("PUT", data={"notBefore": after})
        # Always: it repairs a push that a crash or a resource server's restart swallowed.
        self._admin("POST", "/push-revocation")
        return Change(found, after, removed)

    def restore(self, family: Family) -> Change:
        found = self.epoch(family)
        if found == family.epoch:
            return Change(found, found)
        if found < family.new_epoch:
            raise conflict(family, found, f"{family.epoch} or at least {family.new_epoch}")
        self._admin("PUT", data={"notBefore": family.epoch})
        self._admin("POST", "/push-revocation")
        return Change(found, family.epoch)

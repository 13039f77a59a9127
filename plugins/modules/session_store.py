#!/usr/bin/python
# Copyright the remediate authors
# SPDX-License-Identifier: Apache-2.0
"""Look at, reset and restore the sessions in a session store."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.session_backends import (
    Change,
    EmbeddedBackend,
    Family,
    PostgresBackend,
    RedisBackend,
    StoreError,
)
from ansible.module_utils.session_keycloak import KeycloakBackend

DOCUMENTATION = r"""
module: session_store
short_description: Look at, reset or restore the sessions in a session store
version_added: "0.1.0"
description:
  - Moves the epoch of a family of sessions by compare-and-set, which refuses every older token at once,
    and then removes the sessions under the family's key prefix in batches.
  - Touches nothing outside of the prefix; never uses C(KEYS), C(FLUSHDB), C(FLUSHALL) or C(TRUNCATE).
  - Returns counts and epoch numbers, never a key or a token.
  - With O(store=redis) or O(store=postgresql) it needs the Python package C(redis) or C(psycopg) on the
    host it runs on.
options:
  store:
    description: The kind of store.
    type: str
    required: true
    choices: [embedded, redis, postgresql, keycloak]
  state:
    description:
      - V(looked) counts and changes nothing.
      - V(reset) moves every family from its O(families.epoch) to its O(families.new_epoch) and removes the
        sessions of other epochs.
      - V(restored) moves every family back. Removed sessions cannot be brought back.
    type: str
    default: looked
    choices: [looked, reset, restored]
  families:
    description: The families of sessions to act on.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the family.
        type: str
        required: true
      prefix:
        description: Key prefix of its sessions; it ends with a colon.
        type: str
        required: true
      epoch_name:
        description: Where its epoch is kept.
        type: str
        required: true
      epoch:
        description: The epoch that the snapshot saw.
        type: int
        default: 0
      new_epoch:
        description: The epoch that a reset moves to.
        type: int
        default: 0
  batch:
    description: Keys removed per step.
    type: int
    default: 1000
  path:
    description: SQLite file, with O(store=embedded).
    type: path
  url:
    description: Base URL, with O(store=keycloak).
    type: str
  realm:
    description: Realm, with O(store=keycloak).
    type: str
  client_id:
    description: Client of the admin login, with O(store=keycloak).
    type: str
    default: admin-cli
  host:
    description: Address, or folder or file of the Unix socket, with O(store=redis) or O(store=postgresql).
    type: str
    default: 127.0.0.1
  port:
    description: Port; V(0) is the store's usual one.
    type: int
    default: 0
  database:
    description: Number or name of the database.
    type: str
    default: ""
  user:
    description: Name to log in with; empty for none.
    type: str
    default: ""
  password:
    description: Password to log in with.
    type: str
  timeout:
    description: Seconds that the store may take to answer.
    type: int
    default: 5
author: the remediate authors
"""

EXAMPLES = r"""
- name: Count the sessions
  session_store:
    store: redis
    families:
      - {name: session, prefix: "sess:", epoch_name: auth:epoch}

- name: Refuse every session of epoch 7 and remove it
  session_store:
    store: redis
    state: reset
    families:
      - {name: session, prefix: "sess:", epoch_name: auth:epoch, epoch: 7, new_epoch: 8}
"""

RETURN = r"""
families:
  description: What was found, or done, per family.
  returned: always
  type: dict
  contains:
    epoch:
      description: The epoch now, or in check mode the one it would have.
      type: int
    epoch_before:
      description: The epoch before.
      type: int
    key_revoked:
      description: Whether the signing key of the current epoch is known to have leaked.
      type: bool
    sessions:
      description: Sessions under the prefix, before.
      type: int
    stale:
      description: Sessions of a revoked or older epoch, before; not told by a real reset.
      type: int
    removed:
      description: Sessions removed, or in check mode those that would be.
      type: int
moves:
  description: The families with the epochs that a reset should move between, as O(families) takes them.
  returned: when O(state=looked)
  type: list
  elements: dict
sentences:
  description: What was found or done, for a person.
  returned: always
  type: list
  elements: str
undo:
  description: What V(restored) would take back.
  returned: always
  type: list
  elements: str
other:
  description: Items in the store that belong to none of the families, after.
  returned: always
  type: int
other_before:
  description: The same, before.
  returned: always
  type: int
"""


SPEC = {
    "store": {"type": "str", "required": True, "choices": ["embedded", "redis", "postgresql", "keycloak"]},
    "state": {"type": "str", "default": "looked", "choices": ["looked", "reset", "restored"]},
    "families": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "prefix": {"type": "str", "required": True},
            "epoch_name": {"type": "str", "required": True},
            "epoch": {"type": "int", "default": 0},
            "new_epoch": {"type": "int", "default": 0},
        },
    },
    "batch": {"type": "int", "default": 1000},
    "path": {"type": "path"},
    "url": {"type": "str"},
    "realm": {"type": "str"},
    "client_id": {"type": "str", "default": "admin-cli"},
    "host": {"type": "str", "default": "127.0.0.1"},
    "port": {"type": "int", "default": 0},
    "database": {"type": "str", "default": ""},
    "user": {"type": "str", "default": ""},
    "password": {"type": "str", "no_log": True},
    "timeout": {"type": "int", "default": 5},
}


VERBS = {"looked": "do", "reset": "reset", "restored": "take back"}


def backend_of(given: dict[str, Any]) -> Any:
    kind, timeout = given["store"], given["timeout"]
    password = given["password"] or ""
    if kind == "embedded":
        return EmbeddedBackend(given["path"], timeout)
    if kind == "keycloak":
        return KeycloakBackend(
            given["url"], given["realm"], given["client_id"], given["user"], password, timeout
        )
    where = (given["host"], given["port"], given["database"], given["user"], password, timeout)
    return RedisBackend(*where) if kind == "redis" else PostgresBackend(*where)


def families_of(given: dict[str, Any]) -> list[Family]:
    families = [Family(**entry) for entry in given["families"]]
    for family in families:
        # The last gate before a removal by prefix: also a hand-written task must not pass it.
        if len(family.prefix) < 2 or not family.prefix.endswith(":") or set(family.prefix) & set("*?[]\\^ "):
            raise StoreError(
                f"prefix {family.prefix!r} is not a name that ends with a colon, as sess:; anything else "
                "could match keys that are no sessions"
            )
        if family.epoch_name.startswith(family.prefix) or "auth:".startswith(family.prefix):
            raise StoreError(f"prefix {family.prefix!r} would remove the epoch and the signing keys as well")
        if given["state"] != "looked" and not family.new_epoch > family.epoch >= 0:
            raise StoreError(
                f"the {family.name} family would move from epoch {family.epoch} to {family.new_epoch}, "
                "expected a later one: take the numbers from a snapshot"
            )
    return families


def check_only(family: Family, state: str, found: int, sessions: Counter[int]) -> Change:
    """Return what `state` would do; the same refusals as when it is done."""
    old, new = family.epoch, family.new_epoch
    if state == "restored":
        return Change(found, old if found >= new else found, kept=sum(sessions.values()))
    kept = sessions[new]
    return Change(found, max(found, new), sum(sessions.values()) - kept, kept)


def sentence(family: Family, change: Change, state: str, check_mode: bool) -> str:
    if not change.changed:
        return f"The {family.name} family is at epoch {change.after}; there was nothing to {VERBS[state]}."
    would = "would go" if check_mode else "went"
    removed = f", {change.removed} sessions {'would be ' if check_mode else ''}removed"
    moved = f"The {family.name} family {would} from epoch {change.before} to {change.after}"
    return moved + (removed if state == "reset" else "") + "."


def work(given: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    state, batch = given["state"], given["batch"]
    families = families_of(given)
    backend = backend_of(given)
    report: dict[str, Any] = {"changed": False, "families": {}, "sentences": [], "undo": []}
    with backend.guarded():
        backend.check()
        total = backend.total()
        before = after = 0
        for family in families:
            # A real reset counts while it removes: one walk, not three, through a large store.
            counting = state != "reset" or check_mode
            sessions = backend.count(family, batch) if counting else Counter()
            epoch, revoked = backend.epoch(family), backend.revoked(family)
            if state == "looked":
                change = Change(epoch, epoch, kept=sum(sessions.values()))
            elif check_mode:
                change = check_only(family, state, epoch, sessions)
            elif state == "reset":
                change = backend.reset(family, batch)
            else:
                change = backend.restore(family)
                change.kept = sum(sessions.values())
            report["changed"] = report["changed"] or change.changed
            report["sentences"].append(sentence(family, change, state, check_mode))
            if change.changed and state == "reset":
                report["undo"].append(
                    f"move the epoch of the {family.name} family from {change.after} back to {family.epoch}"
                )
            found = report["families"][family.name] = {
                "epoch": change.after,
                "epoch_before": change.before,
                "key_revoked": epoch in revoked,
                "sessions": change.removed + change.kept,
                "removed": change.removed,
            }
            if counting:
                found["stale"] = sum(n for at, n in sessions.items() if at in revoked or 0 < at < epoch)
            before += change.removed + change.kept
            after += change.kept if not check_mode else change.removed + change.kept
        if state == "looked":
            report["moves"] = [
                {
                    "name": family.name,
                    "prefix": family.prefix,
                    "epoch_name": family.epoch_name,
                    "epoch": report["families"][family.name]["epoch"],
                    "new_epoch": backend.next_epoch(report["families"][family.name]["epoch"]),
                }
                for family in families
            ]
        report["other_before"] = total - before
        report["other"] = (backend.total() if report["changed"] else total) - after
    return report


def main() -> None:
    module = AnsibleModule(
        argument_spec=SPEC,
        supports_check_mode=True,
        required_if=[("store", "embedded", ["path"]), ("store", "keycloak", ["url", "realm"])],
    )
    try:
        report = work(module.params, module.check_mode)
    except StoreError as refused:
        module.fail_json(msg=str(refused))
    module.exit_json(**report)


if __name__ == "__main__":
    main()

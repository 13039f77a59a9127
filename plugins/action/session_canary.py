# Copyright the remediate authors
# SPDX-License-Identifier: Apache-2.0
"""Controller's half of `session_canary`: adds the secrets and keeps the tokens of the run.

A token lives in one file, `<run_dir>/<host>.canary.json`, 0600. It never passes through a variable,
a task argument or a result, because each of those ends in an event or, at -vvv, on the screen.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

#: Module parameter -> (secret's name in the environment, variable in the inventory).
LOGIN_SECRETS = {
    "password": ("SESSION_CANARY_PASSWORD", "session_token_reset_canary_password"),
    "client_secret": ("SESSION_CLIENT_SECRET", "session_token_reset_client_secret"),
}
ADMIN_SECRETS = {"admin_secret": ("SESSION_ADMIN", "session_token_reset_admin_secret")}
#: Room for two long tokens.
PAD_BYTES = 32768


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible ships no type information
    """Run one look where the task is delegated to."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return observations, never a secret."""
        variables = task_vars or {}
        result: dict[str, Any] = super().run(tmp, variables)
        given = dict(self._task.args)
        forbidden = sorted({"tokens", "pad", *LOGIN_SECRETS, *ADMIN_SECRETS} & set(given))
        if forbidden:
            return {
                **result,
                "failed": True,
                "msg": f"{', '.join(forbidden)} may not be a task argument: it would end in the log; secrets "
                "come from the environment or the inventory",
            }
        look = given.get("look")
        kept_in = None
        if look in ("taken", "refused"):
            run_dir = given.get("run_dir")
            if not run_dir:
                return {**result, "failed": True, "msg": f"look {look} needs run_dir on the controller"}
            kept_in = Path(run_dir) / f"{variables['inventory_hostname']}.canary.json"
        if look == "refused" and not self._task.check_mode:
            try:
                given["tokens"] = json.loads(kept_in.read_text()) if kept_in else {}
            except (OSError, ValueError):
                return {
                    **result,
                    "failed": True,
                    "msg": "there is no canary token of this run, expected the one that the snapshot phase "
                    "takes before anything is changed: without it a reset cannot be proved; run the phase "
                    "snapshot first",
                }
        for parameter, (name, variable) in (ADMIN_SECRETS if look == "flushed" else LOGIN_SECRETS).items():
            value = os.environ.get("REMEDIATE_SECRET_" + name)
            if not value and variable in variables:
                value = self._templar.template(variables[variable])
            if value:
                given[parameter] = str(value)
        pad = secrets.token_bytes(PAD_BYTES)
        if look == "taken":
            given["pad"] = base64.b64encode(pad).decode()
        result.update(self._execute_module("session_canary", module_args=given, task_vars=variables, tmp=tmp))
        sealed = result.pop("sealed", None)
        # Every parameter is known from the task; what the module was really given is not to be shown.
        result.pop("invocation", None)
        if sealed and kept_in:
            mixed = bytes(ord(letter) - 0x2800 for letter in sealed)
            _keep(kept_in, bytes(a ^ b for a, b in zip(mixed, pad, strict=True)))
        return result


def _keep(path: Path, text: bytes) -> None:
    """Write for the owner only, and never through a link that somebody put there."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(text.rstrip())

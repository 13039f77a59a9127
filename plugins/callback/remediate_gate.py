"""Looks before every task whether the play may go on, and keeps it to the hosts it is allowed."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.plugins.callback import CallbackBase
from ansible.vars.manager import VariableManager

DOCUMENTATION = """
    name: remediate_gate
    type: aggregate
    short_description: stops a play before its next task, and before it touches a host it must not touch
    description:
      - Reads its rules from the JSON file that the environment variable E(REMEDIATE_GATE) names.
      - Before the first play it waits until the file C(checked) says that the parameters are data.
      - Before each task it looks for a stop file and for the kill switch; it ends the play when there is one.
      - The hosts of every play, of every task and of every C(delegate_to) must be among the allowed ones.
      - Without rules it does nothing.
"""

#: Exit code of a play that the gate ended.
STOPPED = 75
_LOCALHOST = frozenset({"localhost", "127.0.0.1", "::1"})


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "remediate_gate"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        where = os.environ.get("REMEDIATE_GATE")
        self.disabled = where is None
        if where is not None:
            self._rules = json.loads(Path(where).read_text(encoding="utf-8"))
            self._allowed = frozenset(self._rules["allowed"])
            if self._allowed & _LOCALHOST:
                self._allowed |= _LOCALHOST
            self._parent = os.getppid()
            self._guard_delegation()
            Path(self._rules["armed"]).touch()

    def v2_playbook_on_start(self, _playbook):
        """Sent before the first play; its parameters are being checked meanwhile, and it waits for that."""
        while not Path(self._rules["checked"]).exists():
            self._look()
            time.sleep(0.002)
        self._look()

    def v2_playbook_on_play_start(self, play):
        self._look()
        manager = play.get_variable_manager()
        for host in manager._inventory.get_hosts(play.hosts):
            self._check(host.name, f'the play "{play.get_name()}" acts on')
            self._pin_interpreter(manager, play, host)

    def v2_playbook_on_task_start(self, task, is_conditional):  # noqa: ARG002 - passed by name
        self._look()
        self._note(task)

    def v2_playbook_on_handler_task_start(self, task):
        self._look()
        self._note(task)

    def v2_runner_on_start(self, host, task):
        """Sent just before the worker of one host is started, in this very process."""
        self._look()
        self._check(host.name, f'the task "{task._ds.get("name", task.action)}" acts on')

    def _look(self):
        """End the play when somebody asked for it."""
        if Path(self._rules["verdict"]).exists():  # a worker refused a delegation
            sys.exit(STOPPED)
        if Path(self._rules["stop"]).exists():
            self._end("stop", "the run was stopped.")
        if Path(self._rules["pause"]).exists():
            self._end(
                "pause", "the kill switch is on, so no further task was started. See `remediate resume`."
            )
        if os.getppid() != self._parent:
            self._end("stop", "the process that started this play is gone.")

    def _check(self, name, what):
        if name not in self._allowed:
            self._end("host", self._sentence(name, what))

    def _sentence(self, name, what):
        return (
            f"{what} {name}, which this run may not touch (allowed: {', '.join(sorted(self._allowed))}). "
            "Nothing was done there. Name the host in the plan's `touches` if it belongs to the remedy."
        )

    def _record(self, verdict, reason):
        path = Path(self._rules["verdict"])
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps({"verdict": verdict, "reason": reason}), encoding="utf-8")
        part.rename(path)

    def _end(self, verdict, reason):
        """Only what is not an `Exception` gets out of a callback: Ansible turns the others into warnings."""
        self._record(verdict, reason)
        sys.exit(STOPPED)

    def _note(self, task):
        """Write down a task's name as it stands in the file: the templated one may hold a secret."""
        name = task._ds.get("name") if isinstance(task._ds, dict) else None
        kind = str(task.vars.get("remediate_kind", ""))
        if (name and "{" in name) or kind:
            line = json.dumps({"uuid": str(task._uuid), "name": str(name or task.action), "kind": kind})
            with Path(self._rules["notes"]).open("a", encoding="utf-8") as notes:
                notes.write(line + "\n")

    def _pin_interpreter(self, manager, play, host):
        """Run modules on this machine with our own Python, unless the inventory names another."""
        known = manager.get_vars(play=play, host=host, include_hostvars=False)
        local = known.get("ansible_connection", play.connection) in ("local", "ansible.builtin.local")
        if local and "ansible_python_interpreter" not in known:
            manager._inventory.get_host(host.name).set_variable("ansible_python_interpreter", sys.executable)

    def _guard_delegation(self):
        """`delegate_to` is known only in the worker, once per loop item, where Ansible templates it."""
        original = VariableManager.get_delegated_vars_and_hostname

        @functools.wraps(original)
        def guarded(manager, templar, task, variables):
            delegated, name = original(manager, templar, task, variables)
            if name is not None and name not in self._allowed:
                reason = self._sentence(
                    name, f'the task "{task._ds.get("name", task.action)}" is delegated to'
                )
                self._record("host", reason)
                raise AnsibleError(reason)
            return delegated, name

        VariableManager.get_delegated_vars_and_hostname = guarded

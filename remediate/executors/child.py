"""The supervised child of one run: takes orders over a pipe, one phase at a time.

Started by `remediate.executors.playbook`; not a command for people. It never touches the trail:
it reports, and its parent records.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import sys
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from remediate.errors import ExecutorError
from remediate.executors import supervise
from remediate.executors.frames import Frame, Frames, send
from remediate.executors.phase import PhaseRun, Surroundings
from remediate.executors.redact import secret_values
from remediate.model.result import Status

_PR_SET_CHILD_SUBREAPER = 36


class Child:
    """Reads orders on one pipe and answers on another, until the first one closes."""

    def __init__(self, requests: int, replies: int, hold: Sequence[int]) -> None:
        self._requests = Frames(requests)
        self._replies = replies
        self._hold = tuple(hold)
        self._orders: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._running: PhaseRun | None = None
        self._known_secrets: dict[tuple[Path, tuple[str, ...]], tuple[str, ...]] = {}

    def serve(self) -> None:
        """Carry out phases in this thread; another one listens, so that a stop is heard at once."""
        threading.Thread(target=self._listen, daemon=True).start()
        around = _surroundings(self._orders.get(), self._hold)
        threading.Thread(target=_import_ansible, daemon=True).start()
        while True:
            self._carry_out(self._orders.get(), around)

    def _listen(self) -> None:
        while not self._requests.ended:
            with contextlib.suppress(OSError):
                for frame in self._requests.read():
                    if frame["do"] != "stop":
                        self._orders.put(frame)
                    elif (running := self._running) is not None:
                        status = Status(frame["status"])
                        threading.Thread(
                            target=running.stop, args=(status, frame["reason"]), daemon=True
                        ).start()
        _end_everything()
        os._exit(0)

    def _carry_out(self, order: Frame, around: Surroundings) -> None:
        self._running = PhaseRun(
            order, around, secrets_of=self._secrets_of, kill=_end_everything, send=self._reply
        )
        try:
            result = self._running.run()
            self._reply({"is": "result", "result": result.as_json()})
        except ExecutorError as refused:
            self._reply({"is": "refused", "reason": str(refused)})
        finally:
            self._running = None
            _reap_orphans()

    def _reply(self, frame: Frame) -> None:
        send(self._replies, frame)

    def _secrets_of(self, inventory: Path, hosts: Sequence[str], roles: Collection[str]) -> Sequence[str]:
        """Secrets that the inventory holds for these hosts; read once per run."""
        key = (inventory, tuple(hosts))
        if key not in self._known_secrets:
            self._known_secrets[key] = tuple(_inventory_secrets(inventory, hosts, roles))
        return self._known_secrets[key]


def _surroundings(frame: Frame, hold: Sequence[int]) -> Surroundings:
    vault = frame["vault_password_file"]
    return Surroundings(
        roots=tuple(map(Path, frame["roots"])),
        gate_dir=Path(frame["gate_dir"]),
        config=Path(frame["config"]),
        control_dir=Path(frame["control_dir"]),
        vault_password_file=Path(vault) if vault else None,
        session_dir=Path(frame["session_dir"]),
        pause_file=Path(frame["pause_file"]),
        hold=tuple(hold),
        extra_env=frame["extra_env"],
    )


def _import_ansible() -> None:
    """Takes a while; done while ansible-playbook does the same."""
    import ansible.parsing.dataloader
    import ansible.template
    import ansible.vars.manager  # noqa: F401


def _inventory_secrets(inventory: Path, hosts: Sequence[str], roles: Collection[str]) -> Sequence[str]:
    from ansible.errors import AnsibleError
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.vars.manager import VariableManager

    loader = DataLoader()
    found: list[str] = []
    try:
        _unlock_vault(loader)
        manager = InventoryManager(loader=loader, sources=[str(inventory)])
        variables = VariableManager(loader=loader, inventory=manager)
        for host in filter(None, map(manager.get_host, hosts)):
            found += secret_values(variables.get_vars(host=host, include_hostvars=False), roles=roles)
    except (AnsibleError, OSError) as error:
        raise ExecutorError(
            f"the variables of {inventory} could not be read ({type(error).__name__}), so its secrets could "
            "not be kept out of the trail and the play was ended. Check it and the vault password file."
        ) from error
    return found


def _unlock_vault(loader: Any) -> None:
    from ansible import constants
    from ansible.parsing.vault import get_file_vault_secret

    if constants.DEFAULT_VAULT_PASSWORD_FILE:
        secret = get_file_vault_secret(filename=constants.DEFAULT_VAULT_PASSWORD_FILE, loader=loader)
        secret.load()
        loader.set_vault_secrets([(constants.DEFAULT_VAULT_IDENTITY, secret)])


def _end_everything() -> None:
    """Kill every process of this run but the child itself."""
    if os.getpid() == 1:  # first of our own PID namespace: -1 is the run and nothing else
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    else:
        supervise.kill_descendants(os.getpid())


def _reap_orphans() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def main(arguments: Sequence[str]) -> None:
    """`child REQUESTS REPLIES [HELD...]`, all of them descriptors."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    requests, replies, *hold = map(int, arguments)
    Child(requests, replies, hold).serve()


if __name__ == "__main__":
    main(sys.argv[1:])

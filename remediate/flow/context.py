"""The parts a dispatcher works with, and what every phase of one run shares."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from remediate.audit.journal import EmergencyJournal
from remediate.config import Settings
from remediate.errors import UsageError
from remediate.flow.look import looker
from remediate.flow.phases import PhaseContext, proved_by_playbook
from remediate.flow.record import RunRecord
from remediate.guard.killswitch import KillSwitch
from remediate.guard.locks import DeviceLocks
from remediate.model.run import Run
from remediate.ports import Catalog, Clock, Executor, Inventory, Ledger, Probe, Secrets

#: Scope of the durable flags that hold a cancel wish: run id -> who and why.
CANCEL = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything concrete that the flow needs; `app.py` puts it together."""

    settings: Settings
    ledger: Ledger
    journal: EmergencyJournal
    catalog: Catalog
    inventory: Inventory
    executor: Executor
    probe_for: Callable[[str], Probe]
    kill_switch: KillSwitch
    locks: DeviceLocks
    secrets: Secrets
    clock: Clock

    def run(self, run_id: str) -> Run:
        """A recorded run; UsageError when there is none of that id."""
        run = self.ledger.run(run_id)
        if run is None:
            raise UsageError(f"no run {run_id!r} is recorded; `remediate runs list` shows those there are")
        return run

    def run_dir(self, run: Run) -> Path:
        """The run's own directory, 0700, for what its phases hand to each other."""
        return self.settings.home / "runs" / run.id

    def halted(self) -> str | None:
        """Why everything has to stop, or None."""
        reason = self.kill_switch.engaged()
        return None if reason is None else f"stopped by the kill switch ({reason})"

    def cancelled(self, run_id: str) -> str | None:
        """Who asked to cancel this run, or None."""
        return self.ledger.flag(CANCEL, run_id) or None


def phase_context(
    parts: Parts, record: RunRecord, descriptors: tuple[int, ...]
) -> tuple[PhaseContext, ExitStack]:
    """What every phase of the run shares; leaving the stack ends its child."""
    run = record.run
    plan = parts.catalog.plan(run.request.code)
    stack = ExitStack()
    session = stack.enter_context(parts.executor.open(run, lock_fds=descriptors))
    context = PhaseContext(
        record=record,
        plan=plan,
        session=session,
        look=looker(parts.probe_for, plan, run, parts.inventory, parts.clock),
        clock=parts.clock,
        playbook=parts.catalog.playbook(plan),
        check=parts.catalog.check_playbook(plan) if proved_by_playbook(plan) else None,
        inventory=parts.inventory.path,
        run_dir=parts.run_dir(run),
        secrets=_secret_values(parts.secrets, plan.secrets),
        halted=parts.halted,
        cancelled=lambda: parts.cancelled(run.id),
    )
    return context, stack


def _secret_values(secrets: Secrets, names: tuple[str, ...]) -> Mapping[str, str]:
    """The plan's secrets under the names of their environment variables; absent ones are left out.

    A role may also take a secret from the vaulted inventory, so an absent one is for it to judge.
    """
    found = {f"REMEDIATE_SECRET_{name.upper()}": secrets.get(name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def discard_run_dir(parts: Parts, run: Run) -> None:
    """Delete what the phases handed to each other; it may hold a canary credential."""
    shutil.rmtree(parts.run_dir(run), ignore_errors=True)

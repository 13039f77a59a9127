"""One suite over the fake ledger and the real one, so that the fake cannot drift."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remediate.audit.ledger import MIGRATIONS, AuditLedger
from remediate.audit.store import AuditStore
from remediate.errors import AuditUnavailable
from remediate.model.entry import Draft, Kind
from remediate.model.run import Outcome, Run, State
from remediate.testing import MemoryLedger, a_request


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request, tmp_path):
    if request.param == "memory":
        yield MemoryLedger()
        return
    with AuditStore.open(tmp_path / "audit.db", keys=tmp_path / "keys", migrations=MIGRATIONS) as store:
        yield AuditLedger(store)


def a_run(run_id: str = "r1", **changes) -> Run:
    request = a_request(target=changes.pop("target", "iam1"))
    return replace(
        Run(id=run_id, case_id="c1", request=request, accepted_at="2026-03-01T03:00:00.000000Z"), **changes
    )


def test_what_was_put_is_found(ledger):
    run = a_run(touches=("iam2",))

    ledger.write(lambda tx: tx.put_run(run))

    assert ledger.run("r1") == run
    assert ledger.run("r2") is None


def test_a_run_is_replaced_and_leaves_the_open_ones_when_it_is_closed(ledger):
    ledger.write(lambda tx: (tx.put_run(a_run("r1")), tx.put_run(a_run("r2"))))

    ledger.write(lambda tx: tx.put_run(a_run("r1", state=State.CLOSED, outcome=Outcome.RECOVERED)))

    assert [run.id for run in ledger.runs(open_only=True)] == ["r2"]
    assert ledger.run("r1").outcome is Outcome.RECOVERED


def test_runs_come_newest_first_and_by_target_and_time(ledger):
    older = a_run("r1", accepted_at="2026-03-01T01:00:00.000000Z")
    newer = a_run("r2", accepted_at="2026-03-01T02:00:00.000000Z", target="iam2")
    ledger.write(lambda tx: (tx.put_run(older), tx.put_run(newer)))

    assert [run.id for run in ledger.runs()] == ["r2", "r1"]
    assert [run.id for run in ledger.runs(target="iam1")] == ["r1"]
    assert [run.id for run in ledger.runs(since="2026-03-01T01:30:00.000000Z")] == ["r2"]
    assert [run.id for run in ledger.runs(limit=1)] == ["r2"]
    assert ledger.runs(code="NET-VLAN-STORM") == []


def test_flags_are_set_read_and_removed(ledger):
    ledger.write(lambda tx: tx.set_flag("arming", "SEC-SESS-STALE", "auto"))
    assert ledger.flag("arming", "SEC-SESS-STALE") == "auto"
    assert ledger.flags("arming") == {"SEC-SESS-STALE": "auto"}

    ledger.write(lambda tx: tx.set_flag("arming", "SEC-SESS-STALE", ""))
    assert ledger.flag("arming", "SEC-SESS-STALE") == ""


def test_work_that_raises_leaves_nothing_behind(ledger):
    def half(tx):
        tx.append(Draft(kind=Kind.DECISION, run_id="r1"))
        tx.put_run(a_run())
        tx.set_flag("cancel", "r1", "why")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - the very exception of the work
        ledger.write(half)

    assert list(ledger.entries(run_id="r1")) == []
    assert ledger.run("r1") is None
    assert ledger.flag("cancel", "r1") == ""


def test_entries_are_filtered_and_ordered(ledger):
    drafts = [Draft(kind=Kind.DECISION, run_id=f"r{n % 2}", data={"n": n}) for n in range(4)]
    recorded = ledger.append(*drafts)

    assert [entry.data["n"] for entry in ledger.entries(run_id="r1")] == [1, 3]
    assert [entry.data["n"] for entry in ledger.entries(run_id="r1", newest_first=True)] == [3, 1]
    assert [e.data["n"] for e in ledger.entries(kinds=(Kind.DECISION,), since=recorded[2].seq)] == [2, 3]
    assert [e.seq for e in recorded] == list(range(recorded[0].seq, recorded[0].seq + 4))


def test_a_transaction_sees_its_own_writes(ledger):
    def work(tx):
        tx.put_run(a_run())
        tx.set_flag("a", "b", "c")
        return tx.run("r1"), tx.flag("a", "b")

    assert ledger.write(work) == (a_run(), "c")


def test_a_ledger_that_cannot_be_written_says_so(ledger):
    if isinstance(ledger, MemoryLedger):
        ledger.fail()
    else:
        ledger.store.close()

    with pytest.raises(AuditUnavailable):
        ledger.append(Draft(kind=Kind.DECISION))

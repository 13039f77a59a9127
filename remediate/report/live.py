"""One line per entry, for somebody who follows a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from remediate.model.entry import Entry, Kind
from remediate.report.layout import pad, printable, seconds
from remediate.report.messages import say

#: Columns of the word that says what a line is about.
_TAG_COLUMNS = 16


@dataclass(frozen=True, slots=True)
class Line:
    """What to print, and whether it is good, bad or neither news."""

    text: str
    #: `good`, `bad`, `attention` or empty.
    tone: str = ""


@dataclass(frozen=True, slots=True)
class _Said:
    tag: str
    text: str
    tone: str = ""


def live_line(entry: Entry, lang: str = "en") -> Line | None:
    """What to tell of an entry; None for one that only the record needs."""
    teller = _TELLERS.get(entry.kind)
    said = teller(entry, lang) if teller else None
    if said is None:
        return None
    clock = entry.ts[11:19]
    return Line(f"{clock}  {pad(said.tag, _TAG_COLUMNS)}{printable(said.text)}".rstrip(), said.tone)


def _accepted(entry: Entry, lang: str) -> _Said:
    text = say(lang, "live_accepted", code=entry.fault_code, target=entry.target, actor=entry.actor.id)
    return _Said(say(lang, "accepted"), text)


def _decision(entry: Entry, lang: str) -> _Said:
    verdict = str(entry.data["verdict"])
    tone = {"run": "", "hold": "attention"}.get(verdict, "bad")
    return _Said(say(lang, "decision"), say(lang, f"live_{verdict}", reason=entry.data["reason"]), tone)


def _requested(entry: Entry, lang: str) -> _Said:
    return _Said(say(lang, "approval"), say(lang, "live_waits", until=entry.data["expires_at"]), "attention")


def _granted(entry: Entry, lang: str) -> _Said:
    return _Said(say(lang, "approval"), say(lang, "live_granted", who=entry.actor.id, reason=_why(entry)))


def _rejected(entry: Entry, lang: str) -> _Said:
    text = say(lang, "live_rejected", who=entry.actor.id, reason=_why(entry))
    return _Said(say(lang, "approval"), text, "bad")


def _expired(_: Entry, lang: str) -> _Said:
    return _Said(say(lang, "approval"), say(lang, "live_expired"), "bad")


def _start(entry: Entry, lang: str) -> _Said:
    if entry.data.get("check"):
        return _Said(say(lang, "start"), say(lang, "live_start_check"))
    data = entry.data
    text = say(lang, "live_start", tier=data["tier"], risk=data["risk"], vantage=data["vantage"])
    return _Said(say(lang, "start"), text)


def _resumed(_: Entry, lang: str) -> _Said:
    return _Said(say(lang, "resumed"), say(lang, "live_resumed"), "attention")


def _begins(entry: Entry, lang: str) -> _Said:
    attempt = int(entry.data["attempt"])
    key = "live_begins" if attempt == 1 else "live_begins_again"
    return _Said(_phase(entry, lang), say(lang, key, attempt=attempt))


def _step(entry: Entry, lang: str) -> _Said | None:  # noqa: ARG001 - every teller is called alike
    status = str(entry.data.get("status", ""))
    if status == "skipped":
        return None
    bad = status in ("failed", "unreachable")
    message = f": {entry.data['message']}" if bad and entry.data.get("message") else ""
    return _Said("", f"{status:<9}{entry.data.get('name', '')}{message}", "bad" if bad else "")


def _ended(entry: Entry, lang: str) -> _Said | None:
    data = entry.data
    fine = data["status"] == "ok"
    if fine and data["phase"] == "verify":
        return None  # that the looking worked says nothing; the verdict before it does
    reason = f": {data['reason']}" if data.get("reason") and not fine else ""
    findings = " ".join(str(one) for one in data.get("findings", ()))
    text = say(
        lang,
        "live_ended",
        status=data["status"],
        took=seconds(int(data.get("duration_ms", 0))),
        changed=say(lang, "live_changed") if data.get("changed") else "",
        reason=reason or (f"; {findings}" if findings else ""),
    )
    return _Said(_phase(entry, lang), text, "" if fine else "bad")


def _verdict(entry: Entry, lang: str) -> _Said:
    seen = entry.data.get("observations", ())
    bad = [one for one in seen if not one["ok"]]
    proved = entry.data.get("ok") is True
    last = bad[-1] if bad else None
    text = say(
        lang,
        "live_verified" if proved else "live_not_verified",
        vantage=entry.data["vantage"],
        good=len(seen) - len(bad),
        total=len(seen),
        bad=f"; {last['name']}: {last['observed']}" if last else "",
    )
    return _Said(_phase(entry, lang), text, "good" if proved else "bad")


def _cancel(entry: Entry, lang: str) -> _Said:
    text = say(lang, "live_cancel", who=entry.actor.id, reason=_why(entry))
    return _Said(say(lang, "cancel"), text, "attention")


def _escalated(entry: Entry, lang: str) -> _Said:
    return _Said(say(lang, "escalated"), say(lang, "live_escalated", reason=entry.data["reason"]), "bad")


def _override(entry: Entry, lang: str) -> _Said:
    text = say(lang, "live_override", who=entry.data["by"], reason=entry.data["reason"])
    return _Said(say(lang, "override"), text, "attention")


def _reviewed(entry: Entry, lang: str) -> _Said:
    return _Said(say(lang, "reviewed"), say(lang, "live_reviewed", who=entry.actor.id, reason=_why(entry)))


def _phase(entry: Entry, lang: str) -> str:
    """The phase an entry is about, as its tag; a verdict is always about a verification."""
    name = str(entry.data.get("phase", "verify"))
    back = name == "verify" and entry.data.get("purpose") == "rollback"
    return say(lang, "verify_rollback" if back else name)


def _why(entry: Entry) -> str:
    reason = str(entry.data.get("reason", ""))
    return f": {reason}" if reason else ""


_TELLERS: dict[Kind, Callable[[Entry, str], _Said | None]] = {
    Kind.TRIGGER_RECEIVED: _accepted,
    Kind.DECISION: _decision,
    Kind.APPROVAL_REQUESTED: _requested,
    Kind.APPROVAL_GRANTED: _granted,
    Kind.APPROVAL_REJECTED: _rejected,
    Kind.APPROVAL_EXPIRED: _expired,
    Kind.RUN_START: _start,
    Kind.RUN_RESUMED: _resumed,
    Kind.PHASE_INTENT: _begins,
    Kind.STEP_END: _step,
    Kind.PHASE_RESULT: _ended,
    Kind.VERIFY: _verdict,
    Kind.RUN_CANCEL_REQUESTED: _cancel,
    Kind.ESCALATION: _escalated,
    Kind.GUARD_OVERRIDE: _override,
    Kind.OVERRIDE_REVIEWED: _reviewed,
}

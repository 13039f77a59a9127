"""Says how a phase ended, from its per-host results and what its role handed back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remediate.executors.events import Tally
from remediate.executors.redact import Scrubber
from remediate.model.plan import Phase
from remediate.model.result import Observation, PhaseResult, Status

_LARGEST = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the process that carried out a phase came to its end."""

    #: Exit code; None when a signal ended it.
    code: int | None
    #: The gate's verdict: `stop`, `pause`, `host` or empty, and its sentence.
    verdict: str = ""
    verdict_reason: str = ""
    #: What the worker asked for meanwhile: CANCELLED, TIMED_OUT or None, and its sentence.
    stopped: Status | None = None
    stop_reason: str = ""
    #: The gate reported for duty.
    gated: bool = True


class Malformed(ValueError):
    """`remediate_result` does not have its form; says what was found where, and what was expected."""


def judge(tally: Tally, ending: Ending, *, foreign: bool) -> PhaseResult:
    """The result of a phase; `foreign` playbooks need not hand anything back."""
    status, reason = _how_it_ended(tally, ending)
    try:
        handed = _handed_back(tally, foreign=foreign)
    except Malformed as malformed:
        handed = {}
        if status is Status.OK:
            status, reason = Status.FAILED, str(malformed)
    if status is Status.OK and not foreign and tally.handed_back is None:
        status = Status.FAILED
        reason = (
            f"the {tally.phase} phase ended without setting remediate_result on {tally.target}, so nothing "
            "is known about it. Let its last task set that fact, without no_log."
        )
    return PhaseResult(
        status=status,
        reason=reason,
        changed=any(step.changed for step in tally.steps),
        healthy=tally.phase is Phase.PRECHECK and handed.get("healthy") is True,
        observations=tuple(Observation.from_json(each) for each in handed.get("observations", ())),
        findings=tuple(handed.get("findings", ())),
        snapshot=handed.get("snapshot", {}),
        undo=tuple(handed.get("undo", ())),
        steps=len(tally.steps),
    )


def _how_it_ended(tally: Tally, ending: Ending) -> tuple[Status, str]:
    if ending.verdict == "host":
        return Status.FAILED, ending.verdict_reason
    if not ending.gated:
        return Status.FAILED, (
            "the gate was not loaded by ansible-playbook, so the play was ended. "
            "Look for a broken plugins/callback/remediate_gate.py or an unsupported ansible-core."
        )
    if ending.stopped is not None and tally.stats is None:  # with stats it had come to its end before
        return ending.stopped, ending.stop_reason
    if ending.verdict:
        return Status.CANCELLED, ending.verdict_reason
    if tally.stats is None and ending.code is None:
        return Status.LOST, (
            "ansible-playbook was ended by a signal from outside; what it did until then is not known. "
            f"Look at {tally.target} before anything is repeated."
        )
    return _from_hosts(tally, ending)


def _from_hosts(tally: Tally, ending: Ending) -> tuple[Status, str]:
    """Unreachable and failed hosts first; then whether the target was acted on at all."""
    stats = tally.stats or {}
    for host in sorted(stats.get("dark", {})):
        return Status.UNREACHABLE, f"{host} did not answer{_last_message(tally, host, 'unreachable')}"
    for host in sorted(stats.get("failures", {})):
        return Status.FAILED, _failure(tally, host)
    if tally.stats is None and not tally.steps and _no_hosts(tally):
        return Status.NOTHING_MATCHED, _nothing(tally)
    if tally.stats is None or ending.code not in (0, None):
        why = tally.last_words or "it left no message"
        return (
            Status.FAILED,
            f"ansible-playbook ended with code {ending.code} before the play was over: {why}",
        )
    if not tally.acted:
        return Status.NOTHING_MATCHED, _nothing(tally)
    return Status.OK, ""


def _no_hosts(tally: Tally) -> bool:
    """Ansible's own words for a limit that matches nothing."""
    return "no hosts to target" in tally.last_words


def _nothing(tally: Tally) -> str:
    skipped = sum(step.status == "skipped" and step.host == tally.target for step in tally.steps)
    if skipped:
        return f"all {skipped} tasks were skipped on {tally.target}, so nothing was done there."
    return (
        f"no task ran on {tally.target}: the playbook's hosts do not include it. "
        "Compare the plan's groups and `hosts:` with the inventory."
    )


def _failure(tally: Tally, host: str) -> str:
    failed = [s for s in tally.steps if s.host == host and s.status == "failed" and not s.ignored]
    name = failed[-1].name if failed else "a task"
    return f'"{name}" failed on {host}{_last_message(tally, host, "failed")}'


def _last_message(tally: Tally, host: str, status: str) -> str:
    messages = [s.message for s in tally.steps if s.host == host and s.status == status and not s.ignored]
    return f": {messages[-1]}" if messages and messages[-1] else "."


def _handed_back(tally: Tally, *, foreign: bool) -> Mapping[str, Any]:
    """What the role handed back, checked and scrubbed."""
    if foreign or tally.handed_back is None:
        return {}
    given = tally.handed_back
    _expect(given, dict, "remediate_result")
    _expect(given.get("healthy", False), bool, "remediate_result.healthy")
    _expect_all(given, "observations", dict)
    _expect_all(given, "findings", str)
    _expect_all(given, "undo", str)
    _expect(given.get("snapshot", {}), dict, "remediate_result.snapshot")
    for number, observation in enumerate(given.get("observations", ())):
        _expect(observation.get("ok"), bool, f"remediate_result.observations[{number}].ok")
    _expect_recordable(given, "remediate_result")
    return _scrubbed(given, tally.scrub)


def _scrubbed(given: Mapping[str, Any], scrub: Scrubber) -> Mapping[str, Any]:
    clean: Mapping[str, Any] = scrub.data(given)
    return clean


def _expect(value: Any, expected: type, where: str) -> None:
    if not isinstance(value, expected):
        raise Malformed(
            f"{where} is {_kind_of(value)}, expected {_WORDS[expected]}. "
            "Correct the task that sets remediate_result."
        )


def _expect_all(given: Mapping[str, Any], name: str, expected: type) -> None:
    _expect(given.get(name, []), list, f"remediate_result.{name}")
    for number, each in enumerate(given.get(name, [])):
        _expect(each, expected, f"remediate_result.{name}[{number}]")


def _expect_recordable(value: Any, where: str) -> None:
    """The trail holds no floats, no integers beyond 2**53 and only text as keys."""
    if isinstance(value, dict):
        for key, item in value.items():
            _expect(key, str, f"a key of {where}")
            _expect_recordable(item, f"{where}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _expect_recordable(item, f"{where}[{number}]")
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) >= _LARGEST):
        raise Malformed(
            f"{where} is {value}: the trail holds whole numbers below 2**53. Hand it back as text."
        )


_WORDS: Mapping[type, str] = {dict: "a mapping", list: "a list", str: "text", bool: "true or false"}


def _kind_of(value: Any) -> str:
    if value is None:
        return "missing or null"
    return _WORDS.get(type(value), f"a {type(value).__name__}")

"""A plan around a playbook that an operator already has."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from remediate.catalog.linting import hosts_of
from remediate.catalog.marked import Document, Unreadable, read_marked
from remediate.catalog.reading import read_plan
from remediate.content import ContentRoots
from remediate.errors import UsageError
from remediate.model.duration import format_duration, parse_duration
from remediate.model.plan import CODE_FORM, Risk, Tier
from remediate.model.spelling import nearest

_PROBES = ("http", "tcp", "ping", "segment", "playbook")
#: Seconds the probe may take, before and after.
_LOOKING = 60
#: What text passes when the operator did not say: a name, a version, an address; no space, no quote.
_PLAIN_TEXT = "[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}"
_TYPES = {
    "str": f"{{type: str, regex: '{_PLAIN_TEXT}', required: true}}",
    "list": f"{{type: list, regex: '{_PLAIN_TEXT}', required: true}}",
    "int": "{type: int, min: 0, max: 1000000, required: true}",
    "bool": "{type: bool, required: true}",
}


def new_plan(
    code: str,
    playbook: Path,
    probe: str,
    *,
    directory: Path,
    groups: Sequence[str] = (),
    title: str = "",
    title_zh: str = "",
    layer: str = "application",
    tier: str = "L2",
    risk: str = "R2",
    timeout: str = "5m",
    parameters: Sequence[str] = (),
) -> Path:
    """Write `directory/playbooks/catalog/CODE.yml` around an existing playbook; UsageError says why not.

    The playbook stays where it is. A plan in the same content directory names it by its path from there,
    so the directory can be moved; one outside is named by its absolute path. `probe` is
    `http:https://{host}/healthz`, `tcp:{host}:22`, `ping`, `segment:ADDRESS` or
    `playbook:FILE` (a playbook that fails while something is wrong); a parameter is `name:type`
    (str, int, bool, list).
    """
    _check_code(code)
    _check_risk(risk)
    file = directory / "playbooks" / "catalog" / f"{code}.yml"
    if file.exists():
        raise UsageError(f"{file} is already there; change it, or choose another code")
    document = _playbook(playbook)
    text = _text(
        code=code,
        title=title or _title_of(document) or playbook.stem.replace("_", " ").replace("-", " "),
        title_zh=title_zh,
        layer=layer,
        groups=groups or _groups_of(document),
        parameters=[_parameter(one) for one in parameters],
        tier=_word(tier, "tier", list(Tier)),
        risk=risk,
        playbook=_reference(playbook, directory),
        timeout=format_duration(seconds := _seconds(timeout)),
        deadline=format_duration(seconds + 2 * _LOOKING),
        probe=_probe(probe, directory),
    )
    _write(file, text, directory)
    return file


def _check_code(code: str) -> None:
    if not CODE_FORM.fullmatch(code):
        raise UsageError(f"{code!r} is no fault code: expected DOMAIN-OBJECT-CONDITION like APP-WEB-HUNG")


def _check_risk(risk: str) -> None:
    if _word(risk, "risk", list(Risk)) < Risk.R2:
        raise UsageError(
            f"risk {risk} is for plans that can be taken back; nobody told this playbook how, so R2 or R3"
        )


def _seconds(timeout: str) -> int:
    try:
        seconds = parse_duration(timeout)
    except ValueError as error:
        raise UsageError(f"timeout: {error}") from error
    if not seconds:
        raise UsageError("timeout: a playbook that may take no time at all cannot run")
    return seconds


def _word(word: str, what: str, known: Sequence[str]) -> str:
    if word not in known:
        raise UsageError(f"{what} {word!r} is not one of {', '.join(known)}{nearest(word, known)}")
    return word


def _playbook(path: Path) -> Document:
    if not path.is_file():
        raise UsageError(f"{path}: there is no such playbook")
    try:
        document = read_marked(path)
    except Unreadable as error:
        raise UsageError(str(error)) from error
    plays = document.data
    if not isinstance(plays, list) or not plays or not all(isinstance(play, dict) for play in plays):
        raise UsageError(f"{path}: is no playbook: expected a list of plays")
    for number, play in enumerate(plays):
        if "vars_prompt" in play:
            line = document.line(number, "vars_prompt")
            raise UsageError(f"{path}:{line}: `vars_prompt` asks a person; make it a parameter (`--param`)")
    return document


def _groups_of(document: Document) -> Sequence[str]:
    """The groups the playbook is for, when it says so plainly."""
    words = hosts_of(document)
    if words is None:
        raise UsageError(f"{document.file}: its `hosts` do not say which groups it is for; give `--group`")
    if words & {"localhost", "127.0.0.1"}:
        raise UsageError(
            f"{document.file}: it runs on localhost, and a run is limited to its target; "
            "write `hosts: all` and delegate what has to happen here"
        )
    return sorted(words)


def _title_of(document: Document) -> str:
    name = document.data[0].get("name", "")
    return name if isinstance(name, str) and "{{" not in name else ""


def _reference(path: Path, directory: Path) -> str:
    """How a plan in `directory` names a file: from there when it is inside, else absolute."""
    path, directory = path.resolve(), directory.resolve()
    if not path.is_relative_to(directory):
        return str(path)
    inside = path.relative_to(directory).as_posix()
    return inside if "/" in inside else f"./{inside}"  # without a slash it would be the stem of one of ours


def _probe(text: str, directory: Path) -> str:
    kind, _, address = text.partition(":")
    _word(kind, "probe", _PROBES)
    if not address and kind != "ping":
        raise UsageError(f"probe {text!r} names no address; like `tcp:{{host}}:22`")
    if kind == "playbook":
        _playbook(check := Path(address))
        address = _reference(check, directory)
    samples = "samples: 1, min_ok: 1" if kind == "playbook" else "samples: 3, interval: 1s, min_ok: 3"
    return f"probe: {kind}" + (f", address: {_quoted(address)}" if address else "") + f", {samples}"


def _parameter(text: str) -> str:
    name, _, kind = text.partition(":")
    return f"{name}: {_TYPES[_word(kind or 'str', 'parameter type', list(_TYPES))]}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _text(*, parameters: Sequence[str], groups: Sequence[str], title: str, title_zh: str, **said: str) -> str:
    declared = "".join(f"\n  {line}" for line in parameters) or " {}"
    return f"""---
code: {said["code"]}
plan: {said["code"].lower().replace("-", "_")}
title: {{en: {_quoted(title)}, zh: {_quoted(title_zh or title)}}}
layer: {said["layer"]}
targets: {{groups: {json.dumps(list(groups))}}}
# The only values that may come from outside; the playbook gets them under these names.
parameters:{declared}
tier: {said["tier"]}
risk: {said["risk"]}
arming: approve
executor: {{playbook: {_quoted(said["playbook"])}}}
# No phases of its own: the probe looks first (healthy: nothing is done), and it alone says "recovered".
foreign: true
phases:
  apply: {{timeout: {said["timeout"]}}}
  verify: {{timeout: {_LOOKING}s, {said["probe"]}}}
duration: {{expected: {said["timeout"]}, deadline: {said["deadline"]}}}
"""


def _write(file: Path, text: str, directory: Path) -> None:
    """Write the plan and read it back; a plan that does not load is not left behind."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    if problems := read_plan(file, ContentRoots.of(directory)).problems:
        file.unlink()
        found = "; ".join(re.sub(r"\s+", " ", problem.message) for problem in problems)
        raise UsageError(f"no plan was written: {found}")

"""Hostile values through every door a value has, into every place a playbook uses one.

Each door is one run of ansible-playbook with the whole corpus; each line of ansible-core that
`REMEDIATE_TEST_ANSIBLE_LINES` names (venv folders, separated by colons) is tried besides the running one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from remediate.errors import ExecutorError
from remediate.model.result import PhaseResult, Status
from tests.content.injection.payloads import CORPUS
from tests.integration.executors.stage import Stage

LINES = [Path(sys.executable)] + [
    Path(folder) / "bin" / "python"
    for folder in os.environ.get("REMEDIATE_TEST_ANSIBLE_LINES", "").split(":")
    if folder
]

#: What a playbook may do with a list of values; `it` is each of them where a task loops.
SINKS = """
    - name: Show them
      ansible.builtin.debug: {msg: "{{ values }}"}
      loop: [1]
    - name: Loop over them, with one in the name of the task - {{ values[0] }}
      ansible.builtin.debug: {msg: "{{ it }}"}
      loop: "{{ values }}"
      loop_control: {loop_var: it, label: "{{ it }}"}
    - name: Decide on them
      ansible.builtin.debug: {msg: same}
      when: it == values[at]
      loop: "{{ values }}"
      loop_control: {loop_var: it, index_var: at, label: "{{ at }}"}
    - name: Assert about them
      ansible.builtin.assert:
        that:
          - it == values[at] and it is string
        fail_msg: "{{ it }}"
        success_msg: "{{ it }}"
        quiet: true
      loop: "{{ values }}"
      loop_control: {loop_var: it, index_var: at, label: "{{ at }}"}
    - name: Keep them as facts
      ansible.builtin.set_fact: {kept: "{{ values }}", first: "{{ values[0] }}", all: "{{ values | join }}"}
    - name: Use the facts
      ansible.builtin.debug: {msg: "{{ kept }}{{ first }}{{ all }}"}
    - name: Hand them through variables
      ansible.builtin.debug: {msg: "{{ through }} {{ deeper.each }}"}
      vars:
        through: "{{ values }}"
        deeper: {each: "{{ through | map('upper') | list }}"}
    - name: Read them off the host variables
      ansible.builtin.debug: {msg: "{{ hostvars[inventory_hostname].kept }}"}
    - name: Give them to a command as words
      ansible.builtin.command: {argv: "{{ ['printf', '%s|'] + values }}"}
      register: printed
      changed_when: false
    - name: Use what the command printed
      ansible.builtin.debug: {msg: "{{ printed.stdout }}"}
      when: printed.stdout != 'x'
    - name: Give them to a shell, quoted
      ansible.builtin.shell: "printf '%s|' {{ values | map('quote') | join(' ') }} > /dev/null"
      changed_when: false
    - name: Give them to a process as its environment
      ansible.builtin.command: {argv: [env]}
      environment: {VALUE: "{{ values | join }}"}
      changed_when: false
    - name: Render them
      ansible.builtin.template: {src: "FOLDER/values.j2", dest: "FOLDER/rendered", mode: "0600"}
    - name: Write them down
      ansible.builtin.copy: {content: "{{ values | to_json }}", dest: "FOLDER/written", mode: "0600"}
"""

#: Doors: how the values come in, as the expression that gives them to the sinks.
DOORS = {
    "text parameters": "{{ [SINGLES] }}",
    "list parameter": "{{ door_list }}",
    "trigger file": "{{ (lookup('file', remediate_trigger_file) | from_json).labels['values'] }}",
    "snapshot file": "{{ (lookup('ansible.builtin.file', remediate_snapshot_file) | from_json)['values'] }}",
    "slurped file": "{{ (slurped.content | b64decode | from_json)['values'] }}",
}


def _payloads(folder: Path) -> list[str]:
    return [payload.replace("MARKER", str(folder / "markers" / f"m{n}")) for n, payload in enumerate(CORPUS)]


def _playbook(door: str, count: int, folder: Path) -> str:
    singles = ", ".join(f"door_{n}" for n in range(count))
    expression = DOORS[door].replace("SINGLES", singles)
    slurp = f"    - ansible.builtin.slurp: {{src: {folder}/snapshot.json}}\n      register: slurped\n"
    return (
        f'- hosts: h1\n  gather_facts: false\n  vars:\n    values: "{expression}"\n  tasks:\n'
        + (slurp if door == "slurped file" else "")
        + SINKS.replace("FOLDER", str(folder))
    )


def _send_through(stage: Stage, door: str, payloads: list[str]) -> PhaseResult:
    folder = stage.folder
    (folder / "markers").mkdir()
    (folder / "values.j2").write_text("{% for it in values %}{{ it }}\n{% endfor %}{{ values }}")
    (folder / "trigger.json").write_text(json.dumps({"labels": {"values": payloads}}))
    (folder / "snapshot.json").write_text(json.dumps({"values": payloads}))
    variables = {f"door_{n}": payload for n, payload in enumerate(payloads)} | {"door_list": payloads}
    files = {
        "remediate_trigger_file": str(folder / "trigger.json"),
        "remediate_snapshot_file": str(folder / "snapshot.json"),
    }
    return stage.carry_out(
        _playbook(door, len(payloads), folder), variables=variables | files, foreign=True, timeout=120
    )


@pytest.fixture(params=LINES, ids=str)
def python(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    if not path.exists():
        pytest.skip(f"no ansible-core at {path}")
    return path


@pytest.mark.parametrize("door", DOORS)
def test_no_value_is_ever_executed_and_each_arrives_as_it_is(tmp_path: Path, door: str, python: Path) -> None:
    stage = Stage(tmp_path, python=python, extra_env={})  # as shipped: such a value is data, and warned of
    payloads = _payloads(tmp_path)

    result = _send_through(stage, door, payloads)

    assert result.status is Status.OK, result.reason
    assert list((tmp_path / "markers").iterdir()) == []
    assert json.loads((tmp_path / "written").read_text()) == payloads
    rendered = (tmp_path / "rendered").read_text()
    assert all(payload.strip() in rendered for payload in payloads if "\r" not in payload)
    assert "root:" not in "".join(step.message for step in stage.steps)


def test_in_the_strict_mode_nothing_is_executed_either(tmp_path: Path, python: Path) -> None:
    """Under `error` Ansible refuses to carry such a value at all: the phase fails, and closed."""
    stage = Stage(tmp_path, python=python)

    result = _send_through(stage, "list parameter", _payloads(tmp_path))

    assert result.status is Status.FAILED
    assert "untrusted template" in result.reason
    assert list((tmp_path / "markers").iterdir()) == []


@pytest.mark.parametrize("place", ["target", "allowed"])
def test_no_payload_passes_for_the_name_of_a_host(tmp_path: Path, place: str) -> None:
    stage = Stage(tmp_path)
    (tmp_path / "markers").mkdir()
    hostile = [p for p in _payloads(tmp_path) if not p.replace("_", "").isalnum() and p != "2001-99-99"]
    refused = 0
    with stage.session() as session:
        for payload in hostile:
            named = (
                {"target": payload, "allowed": (payload,)}
                if place == "target"
                else {"allowed": ("h1", payload)}
            )
            with pytest.raises(ExecutorError):
                stage.carry_out("- hosts: all\n", session=session, **named)
            refused += 1
    print(f"COUNT hostile host names refused ({place}): {refused} of {len(hostile)}")
    assert list((tmp_path / "markers").iterdir()) == []


def test_the_corpus_would_bite_without_protection(tmp_path: Path) -> None:
    """Teeth: the same corpus in a plain extra-vars file does execute."""
    (tmp_path / "markers").mkdir()
    (tmp_path / "vars.json").write_text(
        json.dumps({f"door_{n}": p for n, p in enumerate(_payloads(tmp_path))})
    )
    tasks = "".join(
        f'    - ansible.builtin.debug: {{msg: "{{{{ door_{n} }}}}"}}\n      ignore_errors: true\n'
        for n in range(6)
    )
    (tmp_path / "play.yml").write_text(f"- hosts: localhost\n  gather_facts: false\n  tasks:\n{tasks}")

    subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            "-e",
            f"@{tmp_path}/vars.json",
            tmp_path / "play.yml",
        ],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )

    executed = list((tmp_path / "markers").iterdir())
    print(f"COUNT payloads of the first six that execute without protection: {len(executed)}")
    assert len(executed) >= 5


def test_the_corpus_is_large_enough() -> None:
    present = [line for line in LINES if line.exists()]
    print(
        f"COUNT payloads: {len(CORPUS)}, doors: {len(DOORS)}, "
        f"ansible-core lines: {len(present)} of {len(LINES)}, "
        f"values sent: {len(CORPUS) * len(DOORS) * len(present)}"
    )
    assert len(set(CORPUS)) == len(CORPUS) >= 100

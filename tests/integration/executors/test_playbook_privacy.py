"""What a phase can see, and what of it stays behind."""

from __future__ import annotations

import base64
import os
import stat
import threading
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from remediate.errors import ExecutorError
from remediate.executors.playbook import PlaybookExecutor
from remediate.model.plan import Phase
from remediate.model.result import PhaseResult, Status, Step
from tests.integration.executors.stage import ROOT, Stage, a_run, never, play

FROM_ENV = "Env-Canary-4711-abcdef"
FROM_INVENTORY = "Inv-Canary/0815+ghijkl"
FROM_PARAMETER = "Par-Canary:2342=mnopqr"
CANARIES = (FROM_ENV, FROM_INVENTORY, FROM_PARAMETER)

LEAKS = """
    - name: "Log in with {{ nvr_password }}"
      ansible.builtin.command: {argv: [echo, "{{ nvr_password }}"]}
      register: said
    - name: Keep it
      ansible.builtin.set_fact: {kept: "{{ nvr_password }} {{ disk_token }}"}
    - name: "Loop over {{ secret }}"
      ansible.builtin.debug: {msg: "{{ item }}"}
      loop: ["{{ secret }}", "{{ nvr_password }}"]
      loop_control: {label: "{{ item }}"}
    - name: Call a URL
      ansible.builtin.debug: {msg: "https://admin:{{ secret }}@nvr/api?token={{ nvr_password | urlencode }}"}
    - name: Copy it
      ansible.builtin.copy: {content: "pw={{ nvr_password }}", dest: "FOLDER/copied", mode: "0600"}
    - name: Register it unseen
      ansible.builtin.command: {argv: [echo, "{{ nvr_password }}"]}
      no_log: true
      register: hidden
    - name: Show the unseen
      ansible.builtin.debug: {var: hidden.stdout}
    - name: Show it encoded
      ansible.builtin.debug:
        msg: "{{ ('user:' ~ nvr_password) | b64encode }} {{ {'a': secret} | to_json | to_json }}"
    - name: Print it on the error channel, and fail
      ansible.builtin.command: {argv: [sh, -c, "echo $S >&2; echo $S; exit 1"]}
      environment: {S: "{{ nvr_password }} {{ disk_token }}"}
      ignore_errors: true
    - name: Fail a loop
      ansible.builtin.fail: {msg: "no {{ item }}"}
      loop: ["{{ nvr_password }}", "{{ secret }}"]
      ignore_errors: true
    - name: Assert on it
      ansible.builtin.assert: {that: [secret == nvr_password], fail_msg: "{{ secret }} {{ nvr_password }}"}
      ignore_errors: true
    - name: Break a template with it
      ansible.builtin.debug: {msg: "{{ nvr_password | no_such_filter_anywhere }}"}
      ignore_errors: true
    - name: Ask a host that is not there
      ansible.builtin.ping:
      vars:
        ansible_connection: ssh
        ansible_host: "127.0.0.1"
        ansible_port: 9
        ansible_password: "{{ secret }}"
      ignore_unreachable: true
    - name: Hand it back
      ansible.builtin.set_fact:
        remediate_result:
          observations: [{name: login, expected: ok, observed: "{{ nvr_password }}", ok: false}]
          findings: ["tried {{ secret }}", "with {{ disk_token }}"]
          snapshot: {url: "rtsp://u:{{ nvr_password }}@cam/1"}
    - name: "Fail over {{ secret }}"
      ansible.builtin.fail: {msg: "{{ nvr_password }} {{ secret }} {{ disk_token }}"}
"""


def _forms(secret: str) -> set[bytes]:
    raw = secret.encode()
    return {raw, base64.b64encode(raw)[:-4], raw.hex().encode()}


def _holds_a_canary(data: bytes) -> bool:
    return any(form in data for canary in CANARIES for form in _forms(canary))


def _leaky_phase(stage: Stage) -> PhaseResult:
    stage.inventory_text += f"nvr_password={FROM_INVENTORY}\n"
    stage.extra_env = {"ANSIBLE_VERBOSITY": "3"}
    tasks = LEAKS.replace("FOLDER", str(stage.folder))
    playbook = play(tasks, hand_back=False).replace(
        "  tasks:", "  vars:\n    secret: \"{{ lookup('env', 'REMEDIATE_SECRET_API') }}\"\n  tasks:"
    )
    return stage.carry_out(
        playbook,
        diff=True,
        secrets={"REMEDIATE_SECRET_API": FROM_ENV},
        variables={"disk_token": FROM_PARAMETER},
    )


class ArgvWatch:
    """Collects the command lines of our own programs for as long as it is on."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.01):
            for entry in Path("/proc").iterdir():
                try:
                    line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                except OSError:
                    continue
                if any(ours in line for ours in (b"ansible", b"remediate", b"unshare", b"ssh")):
                    self.seen.add(line)

    def __enter__(self) -> ArgvWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_no_secret_leaves_a_role_that_leaks_in_every_way(
    stage: Stage, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    with ArgvWatch() as watch:
        result = _leaky_phase(stage)

    assert result.status is Status.FAILED
    assert len(stage.steps) >= 15
    output = capfd.readouterr()
    places = {
        "steps": repr(stage.steps),
        "result": repr(result),
        "standard output": output.out,
        "standard error": output.err,
        "logs": caplog.text,
        "command lines": repr(watch.seen),
    }
    files = [f for f in stage.work.rglob("*") if f.is_file()]
    leaks = [place for place, text in places.items() if _holds_a_canary(text.encode())]
    leaks += [str(f) for f in files if _holds_a_canary(f.read_bytes())]
    print(
        f"COUNT leaking tasks: {LEAKS.count('- name:')}, places searched: {len(places) + len(files)}, "
        f"command lines: {len(watch.seen)}, leaks: {len(leaks)}"
    )
    assert leaks == []
    assert files == []


def test_the_leaky_role_would_leak_without_redaction(stage: Stage) -> None:
    """Teeth: take the inventory's secrets away from the scrubber, and the canary is out."""
    stage.inventory_text += f"nvr_harmless={FROM_INVENTORY}\n"

    stage.carry_out(play("    - ansible.builtin.debug: {msg: '{{ nvr_harmless }}'}\n"))

    assert FROM_INVENTORY in stage.steps[0].message


def test_a_templated_task_name_is_shown_as_it_stands_in_the_file(stage: Stage) -> None:
    tasks = "    - name: Log in with {{ nvr_password }}\n      ansible.builtin.debug: {}\n"
    stage.inventory_text += f"nvr_password={FROM_INVENTORY}\n"

    stage.carry_out(play(tasks))

    assert stage.steps[0].name == "Log in with {{ nvr_password }}"


def test_a_task_may_name_its_kind(stage: Stage) -> None:
    tasks = "    - ansible.builtin.debug: {}\n      vars: {remediate_kind: ISOLATE}\n"

    stage.carry_out(play(tasks))

    assert stage.steps[0].kind == "ISOLATE"


def test_secrets_in_a_vault_are_known_too(stage: Stage) -> None:
    """Read with the password file that Ansible is given, and only from there."""
    (stage.folder / "vault-password").write_text("open sesame")
    encrypted = VaultLib([("default", VaultSecret(b"open sesame"))]).encrypt(f"vault_nvr: {FROM_INVENTORY}\n")
    group_vars = stage.folder / "group_vars"
    group_vars.mkdir()
    (group_vars / "all.yml").write_bytes(encrypted)
    executor = PlaybookExecutor([ROOT], None, stage.folder / "vault-password", stage.work, stage.pause, {})
    order = stage.order(play("    - ansible.builtin.debug: {msg: 'it is {{ vault_nvr }}'}\n"))
    steps: list[Step] = []
    with executor.open(a_run(), lock_fds=[]) as session:
        result = session.carry_out(order, on_step=steps.append, should_stop=never)

    assert result.status is Status.OK
    assert steps[0].message == "it is <redacted>"


def test_an_inventory_whose_secrets_cannot_be_read_ends_the_phase(stage: Stage) -> None:
    (stage.folder / "group_vars").mkdir()
    (stage.folder / "group_vars" / "all.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n3161\n")

    with pytest.raises(ExecutorError, match="vault password file"):
        stage.carry_out(play("    - ansible.builtin.debug: {}\n"))

    assert stage.steps == []


def test_the_private_directory_is_ours_alone_and_gone_afterwards(stage: Stage) -> None:
    seen: dict[str, tuple[int, int]] = {}
    command_files: list[bytes] = []

    def look() -> None:
        for folder in stage.work.glob("*/session-*/*-1-*"):
            status = folder.stat()
            seen[folder.name] = (stat.S_IMODE(status.st_mode), status.st_uid)
            for private in folder.rglob("*"):
                if private.is_file() and "partial" not in private.name:
                    assert private.stat().st_mode & 0o077 == 0 or folder.stat().st_mode & 0o077 == 0
                    command_files.append(private.read_bytes())

    with stage.session() as session:
        for phase in (Phase.PRECHECK, Phase.APPLY):
            stage.carry_out(
                play("    - ansible.builtin.command: {argv: [sleep, '0.3']}\n"),
                session=session,
                phase=phase,
                should_stop=look,
                secrets={"REMEDIATE_SECRET_API": FROM_ENV},
            )
        assert list(stage.work.glob("*/session-*/*-1-*")) == []

    assert {name.split("-")[0] for name in seen} == {"precheck", "apply"}
    assert set(seen.values()) == {(0o700, os.getuid())}
    assert not any(FROM_ENV.encode() in data for data in command_files)
    assert list(stage.work.iterdir()) == []


def test_left_over_directories_are_swept_when_an_executor_starts(stage: Stage) -> None:
    left = stage.work / "run-0" / "session-dead"
    (left / "apply-1-x" / "env").mkdir(parents=True)
    kept = stage.work / "run-1" / "trigger.json"
    kept.parent.mkdir()
    kept.touch()

    stage.executor()

    assert not left.parent.exists()
    assert kept.exists()


def test_nothing_of_the_workers_environment_arrives_but_what_is_listed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY_IN_ENV", FROM_ENV)
    monkeypatch.setenv("ANSIBLE_HOST_KEY_CHECKING", "False")
    monkeypatch.setenv("ANSIBLE_STRATEGY", "free")
    monkeypatch.setenv("PYTHONPATH", "/hostile")
    monkeypatch.setenv("LD_PRELOAD", "")
    tasks = """
    - ansible.builtin.command: {argv: [env]}
      register: theirs
    - ansible.builtin.debug: {msg: "{{ theirs.stdout | regex_findall('[A-Za-z_]+(?==)') | join(' ') }}"}
    - ansible.builtin.debug:
        msg: "{{ lookup('config', 'host_key_checking', plugin_type='connection', plugin_name='ssh') }}"
    - ansible.builtin.debug: {msg: "{{ lookup('config', 'DEFAULT_STRATEGY') }}"}
"""
    stage.carry_out(play(tasks))

    names = set(stage.steps[1].message.split())
    assert "ANSIBLE_CONFIG" in names
    assert not names & {"CANARY_IN_ENV", "PYTHONPATH", "LD_PRELOAD", "ANSIBLE_STRATEGY"}
    assert stage.steps[2].message == "True"
    assert stage.steps[3].message == "linear"


def test_a_configuration_in_the_current_directory_is_not_read(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stage.folder / "ansible.cfg").write_text("[defaults]\ntimeout = 77\n")
    monkeypatch.chdir(stage.folder)
    tasks = "    - ansible.builtin.debug: {msg: \"{{ lookup('config', 'DEFAULT_TIMEOUT') }}\"}\n"

    stage.carry_out(play(tasks))
    by_itself = stage.steps[0].message
    steps: list[Step] = []
    with stage.executor(ansible_cfg=stage.folder / "ansible.cfg").open(a_run(), lock_fds=[]) as session:
        session.carry_out(stage.order(play(tasks)), on_step=steps.append, should_stop=never)

    assert by_itself == "10"
    assert steps[0].message == "77"


def test_a_secret_is_there_for_its_phase_only(stage: Stage) -> None:
    tasks = "    - ansible.builtin.debug: {msg: \"{{ lookup('env', 'REMEDIATE_SECRET_API') | length }}\"}\n"
    with stage.session() as session:
        stage.carry_out(play(tasks), session=session, secrets={"REMEDIATE_SECRET_API": FROM_ENV})
        during = stage.steps[0].message
        stage.carry_out(play(tasks), session=session)

    assert during == str(len(FROM_ENV))
    assert stage.steps[0].message == "0"

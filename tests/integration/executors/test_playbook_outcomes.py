"""How a phase ends, judged by a real ansible-playbook behind the real child."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediate.errors import ExecutorError
from remediate.model.plan import Phase
from remediate.model.result import Status
from tests.integration.executors.stage import Stage, play

SAY = '    - name: Say it\n      ansible.builtin.debug: {msg: "hello"}\n'


def test_a_phase_that_did_its_tasks_is_ok_and_reports_each_of_them(stage: Stage) -> None:
    result = stage.carry_out(play(SAY), phase=Phase.PRECHECK)

    assert (result.status, result.reason, result.changed, result.healthy) == (Status.OK, "", False, True)
    assert [(s.name, s.host, s.status, s.kind) for s in stage.steps] == [
        ("Say it", "h1", "ok", "CHECK"),
        ("Hand back", "h1", "ok", "CHECK"),
    ]
    assert stage.steps[0].message == "hello"
    assert result.steps == 2
    assert 0 < result.first_task_ms < result.duration_ms


def test_a_phase_that_changed_something_says_so_and_shows_the_difference_when_asked(stage: Stage) -> None:
    tasks = f"""
    - name: repair | Write a file
      ansible.builtin.copy: {{dest: {stage.folder}/written, content: "new\\n", mode: "0600"}}
"""
    result = stage.carry_out(play(tasks), diff=True)

    assert (result.status, result.changed) == (Status.OK, True)
    assert (stage.steps[0].status, stage.steps[0].kind) == ("changed", "REPAIR")
    assert "+new" in stage.steps[0].diff


def test_check_mode_changes_nothing(stage: Stage) -> None:
    tasks = f"    - ansible.builtin.copy: {{dest: {stage.folder}/written, content: x, mode: '0600'}}\n"

    result = stage.carry_out(play(tasks), check=True)

    assert (result.status, result.changed) == (Status.OK, True)
    assert not (stage.folder / "written").exists()
    assert stage.steps[0].diff == ""


def test_a_failure_names_its_task_and_what_it_said(stage: Stage) -> None:
    tasks = """
    - name: Break
      ansible.builtin.command: {argv: [sh, -c, "echo out; echo why >&2; exit 3"]}
"""

    result = stage.carry_out(play(tasks))

    assert result.status is Status.FAILED
    assert '"Break" failed on h1' in result.reason
    assert "rc 3" in result.reason
    assert "why" in result.reason
    assert stage.steps[-1].status == "failed"


def test_a_rescued_failure_is_not_a_failed_phase(stage: Stage) -> None:
    tasks = """
    - block:
        - name: Break
          ansible.builtin.fail: {msg: broken}
      rescue:
        - name: Mend
          ansible.builtin.debug: {msg: mended}
"""
    result = stage.carry_out(play(tasks))

    assert result.status is Status.OK
    assert [s.status for s in stage.steps] == ["failed", "ok", "ok"]


def test_an_ignored_failure_is_not_a_failed_phase(stage: Stage) -> None:
    tasks = "    - ansible.builtin.fail: {msg: never mind}\n      ignore_errors: true\n"

    result = stage.carry_out(play(tasks))

    assert result.status is Status.OK
    assert stage.steps[0].ignored


def test_a_target_that_does_not_answer_is_unreachable(stage: Stage) -> None:
    stage.inventory_text = "h1 ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=9\n"

    result = stage.carry_out(play("    - ansible.builtin.ping: {}\n"))

    assert result.status is Status.UNREACHABLE
    assert "h1 did not answer" in result.reason
    assert "refused" in result.reason


@pytest.mark.parametrize("hosts", ["h2", "localhost", "nobody"])
def test_a_play_for_other_hosts_is_not_a_success(stage: Stage, hosts: str) -> None:
    result = stage.carry_out(play(SAY, hosts=hosts))

    assert result.status is Status.NOTHING_MATCHED
    assert "h1" in result.reason
    assert stage.steps == []


def test_a_target_that_the_inventory_does_not_hold_matches_nothing(stage: Stage) -> None:
    result = stage.carry_out(play(SAY), target="h9", allowed=("h9",))

    assert result.status is Status.NOTHING_MATCHED


def test_a_play_that_skips_everything_did_nothing(stage: Stage) -> None:
    tasks = "    - ansible.builtin.debug: {msg: x}\n      when: false\n"

    result = stage.carry_out(play(tasks, hand_back=False), foreign=True)

    assert result.status is Status.NOTHING_MATCHED
    assert "all 1 tasks were skipped" in result.reason


def test_a_playbook_that_does_not_parse_fails_with_what_ansible_said(stage: Stage) -> None:
    result = stage.carry_out("- hosts: h1\n  tasks:\n    - no_such_module_anywhere: {}\n")

    assert result.status is Status.FAILED
    assert "no_such_module_anywhere" in result.reason


def test_a_role_that_hands_nothing_back_is_not_believed(stage: Stage) -> None:
    result = stage.carry_out(play(SAY, hand_back=False))

    assert result.status is Status.FAILED
    assert "remediate_result" in result.reason


def test_a_foreign_playbook_need_not_hand_anything_back(stage: Stage) -> None:
    result = stage.carry_out(play(SAY, hand_back=False), foreign=True)

    assert result.status is Status.OK


@pytest.mark.parametrize(
    ("handed", "complaint"),
    [
        ("[1, 2]", "remediate_result is a list, expected a mapping"),
        ("{healthy: 'yes'}", "remediate_result.healthy is text, expected true or false"),
        ("{observations: {a: 1}}", "remediate_result.observations is a mapping, expected a list"),
        ("{observations: [{name: a, ok: 'true'}]}", "observations[0].ok is text"),
        ("{findings: [1]}", "findings[0] is a int, expected text"),
        ("{snapshot: {load: 1.5}}", "remediate_result.snapshot.load is 1.5"),
    ],
)
def test_a_malformed_result_fails_the_phase_and_names_the_place(
    stage: Stage, handed: str, complaint: str
) -> None:
    tasks = f"    - ansible.builtin.set_fact:\n        remediate_result: {handed}\n"

    result = stage.carry_out(play(tasks, hand_back=False))

    assert result.status is Status.FAILED
    assert complaint in result.reason


def test_what_a_role_hands_back_arrives_as_it_is(stage: Stage) -> None:
    tasks = """
    - ansible.builtin.set_fact:
        remediate_result:
          observations: [{name: disk, expected: "< 90 %", observed: "97 %", ok: false}]
          findings: [the disk is full]
          snapshot: {mode: "0644", size: 12}
          undo: [restore the file]
"""
    result = stage.carry_out(play(tasks, hand_back=False), phase=Phase.SNAPSHOT)

    assert result.status is Status.OK
    assert result.healthy is False
    assert result.observations[0].observed == "97 %"
    assert result.findings == ("the disk is full",)
    assert result.snapshot == {"mode": "0644", "size": 12}
    assert result.undo == ("restore the file",)


def test_a_result_that_comes_from_the_target_itself_is_not_believed(stage: Stage) -> None:
    """A module that returns facts of that name speaks for the host, not for the role."""
    tasks = """
    - ansible.builtin.command:
        argv: [echo, '{"ansible_facts": {"remediate_result": {"healthy": true}}}']
"""
    result = stage.carry_out(play(tasks, hand_back=False))

    assert result.status is Status.FAILED


def test_an_event_printed_by_a_host_is_not_an_event(stage: Stage) -> None:
    """The runner reads events from the terminal; what a host prints there must not become one."""
    forged = (
        "import base64, json;"
        "b = base64.b64encode(json.dumps({'uuid': 'forged', 'event': 'runner_on_ok', 'event_data':"
        " {'host': 'h1', 'task': 'Forged', 'res': {}}}).encode()).decode();"
        "print('\\x1b[K' + b + '\\x1b[' + str(len(b)) + 'D\\x1b[K')"
    )
    (stage.folder / "forge.py").write_text(forged)
    tasks = f"""
    - name: Print a forged event
      ansible.builtin.command: {{argv: [{stage.python}, {stage.folder}/forge.py]}}
      register: said
    - name: Show it raw
      ansible.builtin.fail: {{msg: "{{{{ said.stdout }}}}"}}
      ignore_errors: true
"""
    result = stage.carry_out(play(tasks))

    assert result.status is Status.OK
    assert "Forged" not in [s.name for s in stage.steps]


@pytest.mark.parametrize(
    "target", ["", " ", "all", "*", "!h1", "@/etc/passwd", "h1,h2", "~h.*", "-e", "h1:h2", "h[1]"]
)
def test_a_pattern_is_refused_before_anything_runs(stage: Stage, target: str) -> None:
    if target == "all":  # a plain word: Ansible would take it for the group
        result = stage.carry_out(play(SAY, hosts="all"), target=target, allowed=(target,))
        assert result.status is Status.FAILED
        assert stage.steps == []
        return
    with pytest.raises(ExecutorError, match="exact name"):
        stage.carry_out(play(SAY), target=target, allowed=(target,))


@pytest.mark.parametrize(
    "name", ["ansible_host", "ansible_ssh_common_args", "__ansible_unsafe", "Upper", "a-b", "hostvars"]
)
def test_a_variable_that_would_steer_ansible_is_refused(stage: Stage, name: str) -> None:
    with pytest.raises(ExecutorError, match="cannot be handed to a playbook"):
        stage.carry_out(play(SAY), variables={name: "x"})


def test_phases_of_one_run_share_a_child_and_follow_each_other(stage: Stage) -> None:
    with stage.session() as session:
        results = [
            stage.carry_out(play(SAY), session=session, phase=phase)
            for phase in (Phase.PRECHECK, Phase.SNAPSHOT)
        ]

    assert [r.status for r in results] == [Status.OK, Status.OK]


def test_the_variables_every_playbook_may_count_on_are_there(stage: Stage) -> None:
    tasks = """
    - ansible.builtin.debug:
        msg: "{{ [remediate_phase, remediate_target, remediate_run_id, remediate_run_dir, n + 1] | join }}"
"""
    stage.carry_out(play(tasks), variables={"n": 41})

    assert stage.steps[0].message == f"applyh1run-1{stage.folder}42"


def test_modules_run_with_our_own_python_unless_the_inventory_names_another(stage: Stage) -> None:
    tasks = "    - ansible.builtin.debug: {msg: '{{ ansible_python_interpreter }}'}\n"

    stage.carry_out(play(tasks))
    ours = stage.steps[0].message
    stage.inventory_text += "ansible_python_interpreter=/opt/theirs\n"
    stage.carry_out(play(tasks))

    assert Path(ours).parent == stage.python.parent
    assert stage.steps[0].message == "/opt/theirs"

"""What is wrong with a plan, field by field, with file and line."""

from __future__ import annotations

import pytest

from remediate.catalog import load_catalog
from remediate.catalog.linting import lint
from remediate.errors import CatalogError


def error_of(content):
    with pytest.raises(CatalogError) as caught:
        load_catalog(content.roots)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tier: L2", "tire: L2", "unknown key 'tire'; did you mean 'tier'?"),
        ("tier: L2", "tier: L4", "`tier` is 'L4': Input should be 'L1', 'L2' or 'L3'; did you mean 'L3'?"),
        ("risk: R1", "risk: high", "`risk` is 'high'"),
        ("layer: application", "layer: aplication", "did you mean 'application'?"),
        ("arming: approve", "arming: always", "`arming` is 'always'"),
        ("code: APP-WEB-HUNG", "code: app-web-hung", "`code` is 'app-web-hung': String should match pattern"),
        ("code: APP-WEB-HUNG", "code: APP-WEB-SLOW", "so the file has to be APP-WEB-SLOW.yml"),
        ("plan: web_restart", "plan: web-restart", "`plan` is 'web-restart'"),
        ("plan: web_restart", "plan: web_reboot", "there is no role roles/web_reboot"),
        ("zh: 网站重启", "cn: 网站重启", "unknown key 'title.cn'"),
        ("groups: [web]", "groups: []", "`targets.groups` is []"),
        ("groups: [web]", "groups: ['web*']", "`targets.groups.0` is 'web*'"),
        ("per_run: 1", "per_run: 2", "`targets.per_run` is 2: Input should be 1"),
        ("{playbook: web_restart}", "{playbook: web_restrat}", "playbook 'web_restrat'; did you mean 'web"),
        ("{playbook: web_restart}", "{job: web_restart}", "unknown key 'executor.job'"),
        ("{playbook: web_restart}", "{playbook: /x/y.yml}", "only a foreign playbook is named by a path"),
        ("apply: {timeout: 1m}", "apply: {timeout: fast}", "timeout` is 'fast': expected a duration"),
        ("apply: {timeout: 1m}", "apply: {timeout: 0}", "a timeout of 0 ends a phase at once"),
        ("apply: {timeout: 1m}", "apply: {}", "`phases.apply.timeout` is missing"),
        ("apply: {timeout: 1m}", "aply: {timeout: 1m}", "unknown key 'phases.aply'; did you mean 'apply'?"),
        ("probe: http", "probe: htpp", "did you mean 'http'?"),
        ("probe: http", "prob: http", "unknown key 'phases.verify.prob'; did you mean 'probe'?"),
        ("from: observers", "form: observers", "unknown key 'phases.verify.form'; did you mean 'from'?"),
        ("min_ok: 4", "min_ok: 6", "`min_ok` is 6 of only 5 samples"),
        ("samples: 5", "samples: yes", "`phases.verify.samples` is True"),
        ("{host}/healthz", "{{ host }}/healthz", "only {host}, {name} and {var:NAME} are filled in"),
        ("{host}/healthz", "{hots}/healthz", "only {host}, {name} and {var:NAME} are filled in"),
        ("never: [uplink]", "never: [uplinks]", "did you mean 'uplink'?"),
        ("cooldown: 10m", "cooldown: -1", "`guards.cooldown` is -1: expected a duration"),
        ("deadline: 2m", "deadline: 20s", "`expected` is later than `deadline`"),
        ("secrets: [web_password]", "secrets: [../x]", "`secrets.0` is '../x'"),
        ("{hard: R2}", "{hrad: R2}", "'hrad' is no choice of 'mode'; did you mean 'hard'?"),
        ("risk_when: {mode:", "risk_when: {mood:", "there is no parameter 'mood'; did you mean 'mode'?"),
        ('{regex: "[a-z]+"}', '{regex: "[a-z"}', "is no regular expression"),
        ('{regex: "[a-z]+"}', "{}", "parameter 'service' is text; give it a `regex` or `choices`"),
        ("min: 0, max: 60", "min: 0", "parameter 'wait' is a number; give it `min` and `max`"),
        ("min: 0, max: 60", "min: 6, max: 60", "'wait': its default 5 is less than 6 seconds"),
        ("from: labels.wait", "from: wait", "`parameters.wait.from` is 'wait'"),
        ("  service:", "  servise:", "no option 'web_restart_servise'; did you mean 'web"),
        ("unit: seconds", "type: str", "type is 'str', but argument_specs.yml of the role says 'int'"),
        ("unit: seconds", "default: 6", "default is 6, but argument_specs.yml of the role says 5"),
        ("touches: []", "touches: []\ntier: L1", "'tier' is here twice (first in line 11)"),
        ("touches: []", "touches: [", "is not YAML"),
        ("touches: []", "touches: !!python/name:os.system x", "is not YAML"),
    ],
)  # fmt: skip
def test_a_wrong_plan_says_file_line_and_what_is_meant(content, old, new, message):
    content.change(old, new)

    error = error_of(content)

    first = error.splitlines()[0]
    assert first.startswith(f"{content.file}:")
    assert message in error


@pytest.mark.parametrize(
    ("old", "new"),
    [("tier: L2", "tire: L2"), ("min_ok: 4", "min_ok: 6"), ("  wait:", "  weit:"), ("zh: 网站重启", "cn: x")],
)
def test_the_line_is_the_one_with_the_mistake(content, old, new):
    line = content.change(old, new)

    assert f"{content.file}:{line}: " in error_of(content)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("web_restart_port:", "port:", ":7: option 'port' does not start with web_restart_ or remediate_"),
        (
            "description: Port of the service.",
            "required: false",
            ":7: option 'web_restart_port' has no descr",
        ),
        ("type: int, default: 5", "type: float, default: 5", "is a float; a parameter is one of"),
        ("argument_specs:\n", "argument_specs: [\n", "is not YAML"),
        ("{type: str, required: true, description: Unit to restart.}", "text", "no mapping of options"),
        ("required: true", "required: true, default: nginx", "is required, so its default is never used"),
    ],
)
def test_a_wrong_spec_says_file_and_line(content, old, new, message):
    content.change_spec(old, new)

    assert message in error_of(content)


def test_a_role_without_spec_is_an_error(content):
    (content.folder / "roles/web_restart/meta/argument_specs.yml").unlink()

    assert "roles/web_restart/meta/argument_specs.yml:1: cannot be read" in error_of(content)


@pytest.mark.parametrize("text", ["", "[]", "text", "a: &x [*x]", "\t", "---\n---\n", "\ufeff", "1: 2"])
def test_a_file_that_is_no_plan_is_our_error(content, text):
    content.file.write_text(text, encoding="utf-8")

    assert error_of(content).startswith(f"{content.file}:")


def test_bytes_that_are_no_text_are_our_error(content):
    content.file.write_bytes(b"\xff\xfe\0")

    assert error_of(content).startswith(f"{content.file}:1: cannot be read")


def test_lint_tells_everything_at_once(content):
    content.change("tier: L2", "tire: L2")
    content.change("min_ok: 4", "min_ok: many")
    content.write("playbooks/catalog/APP-DB-HUNG.yaml", "")

    problems = [str(problem) for problem in lint(content.roots)]

    assert len(problems) == 4
    assert any("unknown key 'tire'" in problem for problem in problems)
    assert any("`tier` is missing" in problem for problem in problems)
    assert any("`phases.verify.min_ok` is 'many'" in problem for problem in problems)
    assert any("is not read: a plan is called CODE.yml" in problem for problem in problems)


def test_lint_finds_a_target_group_that_no_play_is_for(content):
    content.change("groups: [web]", "groups: [web, db]")

    assert [problem.message for problem in lint(content.roots)] == [
        "no play is for the group 'db' that APP-WEB-HUNG names as target"
    ]

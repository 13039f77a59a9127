"""A playbook that an operator already has becomes a plan."""

from __future__ import annotations

import json
from textwrap import dedent

import jsonschema
import pytest
import yaml

from remediate.catalog import load_catalog
from remediate.catalog.parameters import validate_params
from remediate.catalog.schema import PUBLISHED
from remediate.catalog.wrapping import new_plan
from remediate.content import ContentRoots
from remediate.errors import UsageError
from remediate.model.plan import Arming, Phase, Risk

#: Name -> the playbook, and the groups it is for.
ORDINARY = {
    "all_hosts": (
        """\
        - hosts: all
          tasks:
            - name: Restart
              service: name=nginx state=restarted
        """,
        ("all",),
    ),
    "one_group": (
        """\
        ---
        - name: Restart the web tier
          hosts: web
          gather_facts: false
          tasks:
            - ansible.builtin.systemd_service: {name: nginx, state: restarted}
        """,
        ("web",),
    ),
    "roles": (
        """\
        - hosts: web:db
          roles:
            - common
            - role: nginx
              vars: {nginx_port: 8080}
              tags: [nginx]
        """,
        ("db", "web"),
    ),
    "vars_and_become": (
        """\
        - name: Roll out
          hosts: [web, db]
          become: true
          become_user: root
          vars:
            release: "{{ version | default('1.0') }}"
            password: !vault |
              $ANSIBLE_VAULT;1.1;AES256
              6162
          vars_files: [vars/main.yml]
          serial: 1
          tasks:
            - command: /opt/app/install {{ release }}
              when: ansible_os_family == 'Debian'
        """,
        ("db", "web"),
    ),
    "handlers": (
        """\
        - hosts: web
          tasks:
            - template: {src: nginx.conf.j2, dest: /etc/nginx/nginx.conf}
              notify: reload nginx
          handlers:
            - name: reload nginx
              service: {name: nginx, state: reloaded}
        """,
        ("web",),
    ),
    "several_plays": (
        """\
        - hosts: web
          pre_tasks: [{ping: }]
          post_tasks:
            - block: [{fail: {msg: x}}]
              rescue: [{debug: }]
              always: [{debug: }]
        - hosts: db
          strategy: free
          tasks: []
        """,
        ("db", "web"),
    ),
}


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def playbook(tmp_path):
    file = tmp_path / "ops" / "mine.yml"
    file.parent.mkdir()
    file.write_text("- hosts: web\n  tasks: []\n", encoding="utf-8")
    return file


def wrap(playbook, project, probe="ping", code="APP-WEB-HUNG", **options):
    file = new_plan(code, playbook, probe, directory=project, **options)
    return file, load_catalog(ContentRoots((project,))).plan(code)


@pytest.mark.parametrize("style", ORDINARY)
def test_a_playbook_in_any_ordinary_style_is_wrapped_and_loads(project, playbook, style):
    text, groups = ORDINARY[style]
    playbook.write_text(dedent(text), encoding="utf-8")

    file, plan = wrap(playbook, project)

    assert plan.groups == groups
    assert plan.foreign
    assert (plan.risk, plan.arming) == (Risk.R2, Arming.APPROVE)
    assert set(plan.phases) == {Phase.APPLY, Phase.VERIFY}
    assert load_catalog(ContentRoots((project,))).playbook(plan) == playbook
    assert playbook.read_text(encoding="utf-8") == dedent(text)
    schema = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    jsonschema.validate(yaml.safe_load(file.read_text(encoding="utf-8")), schema)
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 20


@pytest.mark.parametrize(
    ("probe", "kind", "address"),
    [
        ("http:https://{host}/healthz", "http", "https://{host}/healthz"),
        ("tcp:{host}:22", "tcp", "{host}:22"),
        ("tcp:{name}:{var:web_port}", "tcp", "{name}:{var:web_port}"),
        ("ping", "ping", "{host}"),
        ("segment:https://{host}/live.m3u8", "segment", "https://{host}/live.m3u8"),
    ],
)
def test_the_probe_decides_what_recovered_means(project, playbook, probe, kind, address):
    _, plan = wrap(playbook, project, probe)

    assert (plan.verify.probe, plan.verify.address) == (kind, address)


@pytest.mark.parametrize("name", ["mine.yml", "playbooks/mine.yml", "ops/deep/mine.yml"])
def test_a_playbook_inside_moves_with_the_project(project, tmp_path, name):
    inside = project / name
    inside.parent.mkdir(parents=True, exist_ok=True)
    inside.write_text("- hosts: web\n  tasks: []\n", encoding="utf-8")
    _, plan = wrap(inside, project)

    moved = project.rename(tmp_path / "moved")

    catalog = load_catalog(ContentRoots((moved,)))
    assert catalog.playbook(catalog.plan(plan.code)) == moved / name
    assert catalog.plan(plan.code).digest == plan.digest


def test_parameters_keep_their_own_names_and_are_checked(project, playbook):
    _, plan = wrap(
        playbook, project, parameters=["version", "count:int", "hard:bool", "nodes:list"], risk="R3"
    )

    values = validate_params(plan, {"version": "1.2", "count": "3", "hard": "no", "nodes": "a,b"})

    assert {plan.variable(name): value for name, value in values.items()} == {
        "version": "1.2",
        "count": 3,
        "hard": False,
        "nodes": ["a", "b"],
    }
    with pytest.raises(UsageError, match="does not match"):
        validate_params(plan, {"version": "1; id", "count": "3", "hard": "no", "nodes": "a"})


def test_titles_group_and_time_may_be_given(project, playbook):
    playbook.write_text("- hosts: '{{ where }}'\n  name: 'x: {{ y }}'\n", encoding="utf-8")

    _, plan = wrap(
        playbook, project, groups=["web", "db"], title='Say "hi": #1', title_zh="重启", timeout="90s"
    )

    assert plan.groups == ("web", "db")
    assert (plan.title.en, plan.title.zh) == ('Say "hi": #1', "重启")
    assert plan.phases[Phase.APPLY].timeout == 90


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"code": "web"}, "'web' is no fault code"),
        ({"risk": "R0"}, "risk R0 is for plans that can be taken back"),
        ({"risk": "R1"}, "so R2 or R3"),
        ({"risk": "high"}, "risk 'high' is not one of R0, R1, R2, R3"),
        ({"tier": "L9"}, "tier 'L9' is not one of L1, L2, L3"),
        ({"probe": "htpp:x"}, "did you mean 'http'?"),
        ({"probe": "http"}, "names no address"),
        ({"probe": "tcp:{{ host }}"}, "no plan was written"),
        ({"probe": "playbook:/nowhere/check.yml"}, "/nowhere/check.yml: there is no such playbook"),
        ({"parameters": ["ansible_user:str"]}, "is a name that Ansible or the toolkit keeps"),
        ({"parameters": ["remediate_phase:str"]}, "is a name that Ansible or the toolkit keeps"),
        ({"parameters": ["hostvars"]}, "is a name that Ansible or the toolkit keeps"),
        ({"parameters": ["x:strr"]}, "parameter type 'strr' is not one of str, list, int, bool"),
        ({"parameters": ["x", "x"]}, "'x' is here twice"),
        ({"parameters": ["a b"]}, "no plan was written"),
        ({"groups": ["web*"]}, "no plan was written"),
        ({"layer": "cloud"}, "no plan was written"),
        ({"timeout": "soon"}, "timeout: expected a duration"),
        ({"timeout": "1m}\nrisk: R0 #"}, "timeout: expected a duration"),
    ],
)
def test_what_cannot_be_wrapped_leaves_nothing_behind(project, playbook, options, message):
    with pytest.raises(UsageError) as caught:
        wrap(playbook, project, **options)

    assert message in str(caught.value)
    assert not list(project.rglob("*.yml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hosts: web\n", "is no playbook: expected a list of plays"),
        ("- hosts: [\n", "is not YAML"),
        ("- hosts: localhost\n", "it runs on localhost, and a run is limited to its target"),
        ("- hosts: '{{ where }}'\n", "do not say which groups it is for; give `--group`"),
        ("- hosts: 'web-*'\n", "do not say which groups it is for"),
        ("- import_playbook: other.yml\n", "do not say which groups it is for"),
        ("- hosts: web\n  vars_prompt: [{name: x}]\n", "mine.yml:2: `vars_prompt` asks a person"),
    ],
)
def test_a_playbook_that_cannot_run_here_says_why(project, playbook, text, message):
    playbook.write_text(text, encoding="utf-8")

    with pytest.raises(UsageError) as caught:
        wrap(playbook, project)

    assert message in str(caught.value)


def test_a_plan_that_is_there_is_not_overwritten(project, playbook):
    wrap(playbook, project)

    with pytest.raises(UsageError, match="is already there; change it, or choose another code"):
        wrap(playbook, project)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("risk: R2", "risk: R1", "cannot be taken back, so its risk is R2 or R3, not R1"),
        ("arming: approve", "arming: auto", "starts at observe or approve"),
        ("  apply:", "  rollback: {timeout: 1m}\n  apply:", "has no phases, so no `rollback` either"),
        ("  apply:", "  precheck: {timeout: 1m}\n  apply:", "has no phases, so no `precheck` either"),
        ("probe: ping", "probe: playbook", "a check playbook looks once: `samples` and `min_ok` are 1"),
        (
            "probe: ping",
            "probe: playbook, address: ./gone.yml",
            "which is no playbook; name the one that looks",
        ),
    ],
)
def test_a_wrapped_plan_stays_within_its_bounds(project, playbook, old, new, message):
    file, _ = wrap(playbook, project)
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    with pytest.raises(UsageError, match=f"{file.name}:[0-9]+: .*{message}"):
        load_catalog(ContentRoots((project,)))

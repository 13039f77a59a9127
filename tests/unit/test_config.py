"""Settings: where they come from, and what is said about a wrong one."""

from __future__ import annotations

import os
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediate.config import (
    SETTINGS,
    EnvironmentSecrets,
    Quota,
    Secret,
    Settings,
    find_project,
    load_settings,
)
from remediate.errors import ConfigError, ExitCode
from remediate.model.duration import format_duration, parse_duration

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    (folder / "deep" / "below").mkdir(parents=True)
    monkeypatch.chdir(folder / "deep" / "below")
    return folder


def write(project, text):
    file = project / "remediate.toml"
    file.write_text(text, encoding="utf-8")
    return file


def error_of(file=None, environ=None, flags=None):
    with pytest.raises(ConfigError) as caught:
        load_settings(file, environ or {}, flags or {})
    assert caught.value.exit_code is ExitCode.USAGE
    return str(caught.value)


def test_the_table_and_the_fields_are_the_same_settings():
    assert {field.name for field in fields(Settings)} == {s.name for s in SETTINGS} | {"project", "sources"}


def test_a_flag_wins_over_the_environment_and_that_over_the_file(project):
    write(project, 'lang = "zh"\nretention_days = 500\nlog_level = "debug"\n')

    settings = load_settings(None, {"REMEDIATE_RETENTION_DAYS": "600"}, {"log_level": "error", "home": None})

    assert (settings.lang, settings.retention_days, settings.log_level) == ("zh", 600, "error")
    sources = {row["name"]: row["source"] for row in settings.describe()}
    assert sources["lang"] == "file"
    assert sources["retention_days"] == "environment"
    assert sources["log_level"] == "flag"
    assert sources["home"] == "default"


def test_the_project_is_found_from_below_and_holds_the_state(project):
    write(project, "")

    settings = load_settings(None, {}, {})

    assert settings.project == project
    assert settings.home == project / ".remediate"
    assert settings.content == (project,)
    assert settings.token_file is None
    local = f"file:{project}/.remediate/anchors"
    assert settings.anchors == ((local, "syslog:/dev/log") if Path("/dev/log").exists() else (local,))
    assert settings.inventory == REPOSITORY / "inventories" / "example"


def test_a_projects_own_inventory_and_ansible_configuration_are_used(project):
    write(project, "")
    (project / "inventory").mkdir()
    (project / "ansible.cfg").touch()

    settings = load_settings(None, {}, {})

    assert settings.inventory == project / "inventory"
    assert settings.ansible_cfg == project / "ansible.cfg"


def test_outside_a_project_the_state_is_the_users(project, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    assert load_settings(None, {}, {}).home == Path("/home/somebody/.local/state/remediate")
    assert load_settings(None, {"XDG_STATE_HOME": "/x"}, {}).home == Path("/x/remediate")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert load_settings(None, {}, {}).home == Path("/var/lib/remediate")


def test_a_relative_path_starts_from_where_it_was_written(project):
    file = write(project, 'home = "state"\n')

    assert load_settings(file, {}, {}).home == project / "state"
    assert load_settings(file, {"REMEDIATE_HOME": "state"}, {}).home == Path.cwd() / "state"
    assert load_settings(file, {}, {"home": Path("/srv/state")}).home == Path("/srv/state")


def test_the_file_can_be_named_by_the_environment(project, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "prod.toml").write_text('lang = "zh"', encoding="utf-8")

    settings = load_settings(None, {"REMEDIATE_CONFIG": str(other / "prod.toml")}, {})

    assert settings.lang == "zh"
    assert settings.project == other


def test_an_unknown_key_names_the_nearest_one(project):
    file = write(project, "retension_days = 500\n")

    assert error_of(file) == f"{file}: unknown setting 'retension_days'; did you mean 'retention_days'?"


def test_an_unknown_variable_names_the_nearest_one():
    assert error_of(environ={"REMEDIATE_INVENTROY": "x"}) == (
        "unknown environment variable REMEDIATE_INVENTROY; did you mean 'REMEDIATE_INVENTORY'?"
    )


def test_variables_that_are_no_settings_are_left_alone():
    ours = {"REMEDIATE_SECRET_X": "1", "REMEDIATE_CRASH_AT": "p", "REMEDIATE_TOKEN": "t"}

    assert load_settings(None, ours, {}).sources == {}


def test_an_unknown_flag_is_an_error():
    assert error_of(flags={"langg": "en"}) == "unknown setting 'langg'; did you mean 'lang'?"


WRONG = [
    ("home = 3", "home is 3, expected a path"),
    ('home = ""', "home is '', expected a path"),
    ("content = '/x'", "content is '/x', expected a list of directories"),
    ("retention_days = 182", "retention_days is 182, expected a number of days from 183 to 36500"),
    ('retention_days = "400"', "retention_days is '400', expected a number of days"),
    ("retention_days = true", "retention_days is True, expected a number of days"),
    ('approval_expiry = "15 minutes"', "approval_expiry is '15 minutes', expected a duration like"),
    ("approval_expiry = 0", "approval_expiry is 0, expected a duration"),
    ('lang = "fr"', "lang is 'fr', expected one of en, zh"),
    ("max_runs = {L4 = 1}", "max_runs is {'L4': 1} ('L4' is not a tier), expected counts"),
    ("max_runs = {L1 = 0}", "max_runs is {'L1': 0} (L1 is 0), expected counts"),
    ("max_runs = 3", "max_runs is 3, expected counts"),
    ("storm_percent = 0", "storm_percent is 0, expected a percentage from 1 to 100"),
    ("max_targets_per_hour_percent = 101", "is 101, expected a percentage from 1 to 100"),
    ('attempts = "2/6h"', "attempts is '2/6h', expected \"COUNT in DURATION\""),
    ('breaker_code = "0 in 6h"', "breaker_code is '0 in 6h', expected"),
    ("breaker_target = 2", "breaker_target is 2, expected"),
    ('anchors = ["git:x"]', "anchors is ['git:x'] ('git:x' is not an anchor), expected a list of"),
    ('anchors = ["syslog:h:70000"]', "names port 70000"),
    ('log_level = "loud"', "log_level is 'loud', expected one of debug, info"),
    ("freeze = 3", "freeze, expected an array of tables"),
]


@pytest.mark.parametrize(("line", "message"), WRONG)
def test_a_wrong_value_says_where_what_and_what_was_expected(project, line, message):
    file = write(project, line)

    error = error_of(file)

    assert error.startswith(f"{file}: ")
    assert message in error


def test_a_wrong_variable_and_a_wrong_flag_are_named_as_they_were_given():
    assert error_of(environ={"REMEDIATE_STORM_PERCENT": "many"}).startswith(
        "REMEDIATE_STORM_PERCENT is 'many'"
    )
    assert error_of(flags={"log_level": "x"}).startswith("--log-level is 'x'")
    assert error_of(environ={"REMEDIATE_FREEZE": "now"}) == (
        "REMEDIATE_FREEZE: this setting can only be written in remediate.toml"
    )


def test_what_is_not_toml_names_line_and_column(project):
    file = write(project, "lang = \n")

    assert "line 1, column 8" in error_of(file)


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    assert error_of(tmp_path / "no.toml") == f"{tmp_path}/no.toml: there is no such settings file"


def test_lists_counts_and_quotas_are_read_from_the_environment():
    settings = load_settings(
        None,
        {
            "REMEDIATE_CONTENT": "/a, /b",
            "REMEDIATE_MAX_RUNS": "L2=9",
            "REMEDIATE_ATTEMPTS": "3 in 1d",
            "REMEDIATE_ANCHORS": "file:/mnt/worm,syslog:log.example:514",
        },
        {},
    )

    assert settings.content == (Path("/a"), Path("/b"))
    assert settings.max_runs == {"L1": 8, "L2": 9, "L3": 2}
    assert settings.attempts == Quota(3, 86400)
    assert settings.anchors == ("file:/mnt/worm", "syslog:log.example:514")


def test_a_settings_file_somebody_else_could_have_written_is_refused(project):
    file = write(project, "")
    file.chmod(0o666)

    with pytest.raises(ConfigError, match="can be written by anybody"):
        find_project(project)


def test_a_settings_file_of_another_user_is_refused_unless_it_is_named(project, monkeypatch):
    file = write(project, 'lang = "zh"')
    if os.geteuid() == 0:  # everybody trusts root's files, root trusts nobody else's
        os.chown(file, 4242, 4242)
    else:
        monkeypatch.setattr("os.geteuid", lambda: 4242)

    assert "belongs to another user" in error_of()
    assert load_settings(file, {}, {}).lang == "zh"


# --- freezes ---

WEEKLY = """
[[freeze]]
reason = "rush hour"
days = ["fri"]
start = "22:00"
end = "06:00"
timezone = "Asia/Shanghai"
groups = ["central"]
"""


def test_a_weekly_freeze_runs_over_midnight_in_its_own_zone(project):
    (freeze,) = load_settings(write(project, WEEKLY), {}, {}).freeze

    def forbidden(*when, groups=("central",)):
        return freeze.forbids(datetime(*when, tzinfo=UTC), code="NET-VLAN-STORM", groups=groups)

    assert forbidden(2026, 1, 2, 14)  # Friday 22:00 in Shanghai
    assert forbidden(2026, 1, 2, 21, 59)  # Saturday 05:59
    assert not forbidden(2026, 1, 2, 13, 59)
    assert not forbidden(2026, 1, 2, 22)
    assert not forbidden(2026, 1, 3, 14)
    assert not forbidden(2026, 1, 2, 14, groups=("edge",))


def test_a_freeze_from_one_moment_to_another_names_its_codes(project):
    text = '[[freeze]]\nreason = "fair"\nfrom = 2026-05-01T00:00:00+08:00\nto = 2026-05-05T00:00:00+08:00\n'
    (freeze,) = load_settings(write(project, text + 'codes = ["STO-POOL-DEGR"]\n'), {}, {}).freeze

    inside = datetime(2026, 5, 1, tzinfo=UTC)

    assert freeze.forbids(inside, code="STO-POOL-DEGR", groups=())
    assert not freeze.forbids(inside, code="NET-VLAN-STORM", groups=())
    assert not freeze.forbids(datetime(2026, 5, 4, 16, tzinfo=UTC), code="STO-POOL-DEGR", groups=())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('from = 2026-05-01T00:00:00Z\nto = 2026-05-02T00:00:00Z\nreason = ""', "`reason` is missing"),
        ('reason = "x"\nform = 2026-05-01T00:00:00Z', "unknown key 'form'; did you mean 'from'?"),
        ('reason = "x"\nfrom = 2026-05-01T00:00:00Z', "`to` is None, expected a date and time"),
        ('reason = "x"\nfrom = 2026-05-01T00:00:00\nto = 2026-05-02T00:00:00', "`from` has no offset"),
        ('reason = "x"\nfrom = 2026-05-02T00:00:00Z\nto = 2026-05-01T00:00:00Z', "`to` is not after `from`"),
        ('reason = "x"\nfrom = "soon"\nto = "late"', "`from` is 'soon', expected a date and time"),
        ('reason = "x"\nfrom = 2026-05-02T00:00:00Z\ndays = ["fri"]', "`days` does not go with"),
        ('reason = "x"\nstart = "1:00"\nend = "02:00"', "a weekly freeze needs `timezone`"),
        (
            'reason = "x"\nstart = "1:00"\nend = "02:00"\ntimezone = "UTC"',
            "`start` is '1:00', expected a time",
        ),
        ('reason = "x"\nstart = "01:00"\nend = "02:00"\ntimezone = "Mars/Base"', "not a known time zone"),
        (
            'reason = "x"\nstart = "01:00"\nend = "02:00"\ntimezone = "UTC"\ndays = ["Freitag"]',
            "holds 'Freitag'",
        ),
        ('reason = "x"\ngroups = "central"', "`groups` is 'central', expected a list of words"),
    ],
)
def test_a_wrong_freeze_names_its_number_and_key(project, text, message):
    file = write(project, "[[freeze]]\n" + text)

    error = error_of(file)

    assert error.startswith(f"{file}: freeze (number 1: ")
    assert message in error


# --- durations ---


@given(st.integers(min_value=0, max_value=10**8))
def test_a_duration_reads_back_as_it_was_written(seconds):
    assert parse_duration(format_duration(seconds)) == parse_duration(seconds) == seconds


@pytest.mark.parametrize("text", ["", " ", "m", "10x", "1.5h", "-5s", "5m1h", "१०s", None, 1.5, True, -1, []])
def test_what_is_no_duration_is_a_value_error(text):
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


# --- secrets ---


def test_a_secret_does_not_show_itself():
    secret = Secret("hunter2")

    assert "hunter2" not in f"{secret} {secret!r} {secret:>20} {[secret]} {secret!s} %s" % secret
    assert secret.reveal() == "hunter2"
    assert type(secret.reveal()) is str


@pytest.fixture
def secrets(tmp_path):
    folder = tmp_path / "secrets"
    folder.mkdir()
    settings = load_settings(None, {}, {"secrets_dir": folder})
    return EnvironmentSecrets(settings, {"REMEDIATE_SECRET_TOKEN": "from the environment"}), folder


def test_a_secret_comes_from_the_environment_then_from_its_file(secrets):
    source, folder = secrets
    for name in ("token", "password"):
        (folder / name).write_text("from the file\n", encoding="utf-8")
        (folder / name).chmod(0o600)

    assert source.get("token").reveal() == "from the environment"
    assert source.get("password").reveal() == "from the file"
    assert source.get("other") is None


def test_a_secret_others_may_read_is_refused(secrets):
    source, folder = secrets
    (folder / "password").write_text("x", encoding="utf-8")
    (folder / "password").chmod(0o640)

    with pytest.raises(ConfigError, match=r"mode 0640\); mend it with `chmod 600"):
        source.get("password")


@pytest.mark.parametrize("name", ["../tokens", "A", "a/b", "", "a-b", "a\n"])
def test_a_secrets_name_is_no_path(secrets, name):
    with pytest.raises(ConfigError, match="is no name for a secret"):
        secrets[0].get(name)


# --- documentation ---


def test_every_setting_is_in_the_reference():
    page = (REPOSITORY / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")

    for setting in SETTINGS:
        row = f"| `{setting.name}` | {setting.form.expected} | {setting.default_text} | {setting.help} |"
        assert row in page

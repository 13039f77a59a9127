"""Settings: file, then environment, then flags; whatever is not understood is an error.

`SETTINGS` is the one table: it drives reading, `Settings.describe()` and the reference page.
The file is `remediate.toml`; the directory that holds it is the project. No Pydantic in here: every
command reads its settings first, and importing it costs more than the rest of the start.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from remediate.errors import ConfigError
from remediate.model.duration import DURATION_FORM, format_duration, parse_duration
from remediate.model.secret import Secret
from remediate.model.spelling import nearest

if TYPE_CHECKING:
    from remediate.model.freeze import Freeze

__all__ = [
    "SETTINGS",
    "EnvironmentSecrets",
    "Quota",
    "Secret",
    "Setting",
    "Settings",
    "find_project",
    "load_settings",
    "nearest",
    "packaged_content",
    "parse_duration",
]

FILE_NAME = "remediate.toml"
PREFIX = "REMEDIATE_"
#: Variables with our prefix that are not settings.
_NOT_SETTINGS = frozenset({"REMEDIATE_CONFIG", "REMEDIATE_CRASH_AT", "REMEDIATE_LONG", "REMEDIATE_TOKEN"})
_NOT_SETTINGS_PREFIXES = ("REMEDIATE_SECRET_", "REMEDIATE_TEST_", "REMEDIATE_BENCH_")
#: Cybersecurity Law, art. 21: logs are kept for at least six months.
SHORTEST_RETENTION = 183
_FORM_OF_NAME = r"[a-z][a-z0-9_]{0,63}"
_ANCHOR = r"file:(?P<dir>.+)|syslog:(?P<device>/.+)|syslog:(?P<host>[^/:\s]+):(?P<port>\d{1,5})"


@dataclass(frozen=True, slots=True)
class Quota:
    """So many within so long."""

    count: int
    #: Seconds.
    window: int

    def __str__(self) -> str:
        return f"{self.count} in {format_duration(self.window)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a deployment may decide; `SETTINGS` says what each one means."""

    home: Path
    #: Directory that holds `remediate.toml`; None outside a project.
    project: Path | None
    inventory: Path
    content: tuple[Path, ...]
    ansible_cfg: Path | None
    vault_password_file: Path | None
    token_file: Path | None
    secrets_dir: Path
    anchors: tuple[str, ...]
    retention_days: int
    approval_expiry: int
    lang: str
    max_runs: Mapping[str, int]
    max_targets_per_hour_percent: int
    storm_percent: int
    attempts: Quota
    breaker_target: Quota
    breaker_code: Quota
    freeze: tuple[Freeze, ...]
    kill_switch: Path
    log_level: str
    #: Setting -> `default`, `file`, `environment` or `flag`.
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def describe(self) -> list[dict[str, str]]:
        """One row per setting: its name, its value, where that came from and what it means."""
        return [
            {
                "name": setting.name,
                "value": _shown(getattr(self, setting.name), setting),
                "source": self.sources.get(setting.name, "default"),
                "help": setting.help,
            }
            for setting in SETTINGS
        ]


# The tables below are named tuples: a frozen dataclass costs a millisecond of every command's start.


class Surroundings(NamedTuple):
    """What defaults depend on."""

    project: Path | None
    home: Path
    environ: Mapping[str, str]


class Form(NamedTuple):
    """What a setting's value looks like: `read` takes it as TOML gives it, `split` text before that."""

    expected: str
    #: Value and the directory relative paths start from; ValueError when it is not as expected.
    read: Callable[[Any, Path], Any]
    #: Turns the text of a variable or flag into what TOML would give; None: only the file can say it.
    split: Callable[[str], Any] | None = str


class Setting(NamedTuple):
    """One row of the table."""

    name: str
    form: Form
    #: The default as people read it; also what is parsed, unless `default` computes it.
    default_text: str
    help: str
    default: Callable[[Surroundings], Any] | None = None

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The command line flag's spelling, for errors."""
        return "--" + self.name.replace("_", "-")


# --- forms -------------------------------------------------------------------------------------


def _whole(low: int, high: int, what: str) -> Form:
    def read(value: Any, _: Path) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError
        return value

    return Form(expected=f"{what} from {low} to {high}", read=read, split=_number)


def _number(text: str) -> int | str:
    """The number a text holds; other text stays as it is, so that the error can show it."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text.strip()) else text


def _one_of(*words: str) -> Form:
    def read(value: Any, _: Path) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return Form(expected="one of " + ", ".join(words), read=read)


def _path(value: Any, base: Path) -> Path:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError
    try:
        return Path(os.path.normpath(base / Path(value).expanduser()))
    except RuntimeError as error:  # `~name` of nobody
        raise ValueError(str(error)) from error


def _words(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) and word.strip() for word in value):
        raise ValueError
    return value


def _paths(value: Any, base: Path) -> tuple[Path, ...]:
    return tuple(_path(word, base) for word in _words(value))


def _by_comma(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _anchors(value: Any, base: Path) -> tuple[str, ...]:
    return tuple(_anchor(word, base) for word in _words(value))


def _anchor(text: str, base: Path) -> str:
    found = re.fullmatch(_ANCHOR, text)
    if found is None:
        raise ValueError(f"{text!r} is not an anchor")
    if directory := found["dir"]:
        return f"file:{_path(directory, base)}"
    if found["port"] and not 0 < int(found["port"]) < 65536:
        raise ValueError(f"{text!r} names port {found['port']}")
    return text


def _duration(value: Any, _: Path) -> int:
    seconds = parse_duration(value)
    if not seconds:
        raise ValueError
    return seconds


def _quota(value: Any, _: Path) -> Quota:
    found = re.fullmatch(r"([0-9]{1,6})\s+in\s+(\w+)", value) if isinstance(value, str) else None
    if found is None or not int(found[1]):
        raise ValueError
    return Quota(int(found[1]), _duration(found[2], Path()))


def _tiers(value: Any, _: Path) -> Mapping[str, int]:
    counts = dict(_TIER_RUNS)
    if not isinstance(value, dict) or not value:
        raise ValueError
    for tier, count in value.items():
        if tier not in counts:
            raise ValueError(f"{tier!r} is not a tier")
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 1000:
            raise ValueError(f"{tier} is {count!r}")
        counts[tier] = count
    return MappingProxyType(counts)


def _by_equals(text: str) -> dict[str, int | str]:
    pairs = (word.partition("=") for word in _by_comma(text))
    return {tier.strip(): _number(count) for tier, _, count in pairs}


def _freezes(value: Any, _: Path) -> tuple[Freeze, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError
    return tuple(_nth_freeze(number, entry) for number, entry in enumerate(value, start=1))


def _nth_freeze(number: int, entry: Mapping[str, Any]) -> Freeze:
    from remediate.model.freeze import Freeze  # few files have one, and start-up counts

    try:
        return Freeze.from_table(entry)
    except ValueError as error:
        raise ValueError(f"number {number}: {error}") from error


_TIER_RUNS: Mapping[str, int] = {"L1": 8, "L2": 4, "L3": 2}
_PATH = Form(expected="a path", read=_path)
_PATHS = Form(expected="a list of directories", read=_paths, split=_by_comma)
_DURATION = Form(expected=DURATION_FORM + ", not zero", read=_duration)
_QUOTA = Form(expected='"COUNT in DURATION", like "2 in 6h"', read=_quota)
_PERCENT = _whole(1, 100, "a percentage")


# --- the table ---------------------------------------------------------------------------------


def packaged_content() -> Path:
    """Where our own playbooks, roles and inventories are: in a checkout its top level, else the wheel's."""
    package = Path(__file__).resolve().parent
    in_wheel = package / "_content"
    return in_wheel if in_wheel.is_dir() else package.parent


def _default_home(around: Surroundings) -> Path:
    if around.project is not None:
        return around.project / ".remediate"
    if state := around.environ.get("XDG_STATE_HOME"):
        return Path(state) / "remediate"
    if os.geteuid() == 0:
        return Path("/var/lib/remediate")
    return Path.home() / ".local" / "state" / "remediate"


def _default_inventory(around: Surroundings) -> Path:
    if around.project is not None and (own := around.project / "inventory").exists():
        return own
    return packaged_content() / "inventories" / "example"


def _default_ansible_cfg(around: Surroundings) -> Path | None:
    own = around.project / "ansible.cfg" if around.project is not None else None
    return own if own is not None and own.is_file() else None


def _default_anchors(home: Path) -> tuple[str, ...]:
    """Two anchors where the system has a log; naming one that is not there would only fail every hour."""
    local = f"file:{home / 'anchors'}"
    return (local, "syslog:/dev/log") if Path("/dev/log").exists() else (local,)


SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="home",
        form=_PATH,
        default_text="`PROJECT/.remediate`; outside a project `$XDG_STATE_HOME/remediate`, for root "
        "`/var/lib/remediate`, else `~/.local/state/remediate`",
        default=_default_home,
        help="State directory: trail, runs, keys, locks.",
    ),
    Setting(
        name="inventory",
        form=_PATH,
        default_text="`PROJECT/inventory` if it exists, else the packaged example",
        default=_default_inventory,
        help="The one inventory: a file, a directory or a script, as `ansible-inventory -i` takes it.",
    ),
    Setting(
        name="content",
        form=_PATHS,
        default_text="the project directory",
        default=lambda around: () if around.project is None else (around.project,),
        help="Directories with your own `playbooks/`, `roles/` and `plugins/`; they are looked through in "
        "this order, before the packaged ones.",
    ),
    Setting(
        name="ansible_cfg",
        form=_PATH,
        default_text="`PROJECT/ansible.cfg` if it exists",
        default=_default_ansible_cfg,
        help="Configuration file that Ansible is started with.",
    ),
    Setting(
        name="vault_password_file",
        form=_PATH,
        default_text="none",
        default=lambda _: None,
        help="File (or executable) that gives the password of Ansible Vault.",
    ),
    Setting(
        name="token_file",
        form=_PATH,
        default_text="none",
        default=lambda _: None,
        help="File whose first line is your own token, readable by nobody else (0600); `REMEDIATE_TOKEN` "
        "comes first.",
    ),
    Setting(
        name="secrets_dir",
        form=_PATH,
        default_text="`HOME/secrets`",
        default=lambda around: around.home / "secrets",
        help="Directory with one file per secret, named like it and readable by nobody else (0600); "
        "`REMEDIATE_SECRET_<NAME>` comes first.",
    ),
    Setting(
        name="anchors",
        form=Form(
            expected='a list of "file:DIR", "syslog:/dev/log" or "syslog:HOST:PORT"',
            read=_anchors,
            split=_by_comma,
        ),
        default_text="`file:HOME/anchors`, and `syslog:/dev/log` where there is one",
        default=lambda around: _default_anchors(around.home),
        help="Where copies of signed checkpoints go. Only one that is not on this machine helps against "
        "somebody who holds the signing key.",
    ),
    Setting(
        name="retention_days",
        form=_whole(SHORTEST_RETENTION, 36500, "a number of days"),
        default_text="400",
        help="How long the trail is kept.",
    ),
    Setting(
        name="approval_expiry",
        form=_DURATION,
        default_text="15m",
        help="A question that nobody answered for so long counts as no.",
    ),
    Setting(name="lang", form=_one_of("en", "zh"), default_text="en", help="Language of text for people."),
    Setting(
        name="max_runs",
        form=Form(expected='counts from 1 to 1000 per tier, like "L1=8,L2=4"', read=_tiers, split=_by_equals),
        default_text=",".join(f"{tier}={count}" for tier, count in _TIER_RUNS.items()),
        help="Runs under way at once, per tier; a tier that is not named keeps its default.",
    ),
    Setting(
        name="max_targets_per_hour_percent",
        form=_PERCENT,
        default_text="5",
        help="Blast radius: share of all hosts that may be acted on within an hour; one host always may.",
    ),
    Setting(
        name="storm_percent",
        form=_PERCENT,
        default_text="20",
        help="When so many of all hosts are diagnosed as root targets at once, nothing starts by itself.",
    ),
    Setting(
        name="attempts",
        form=_QUOTA,
        default_text="2 in 6h",
        help="Runs allowed for one fault code on one target.",
    ),
    Setting(
        name="breaker_target",
        form=_QUOTA,
        default_text="2 in 1h",
        help="Failed runs of one plan on one target that block it.",
    ),
    Setting(
        name="breaker_code",
        form=_QUOTA,
        default_text="3 in 1h",
        help="Failed runs of one fault code anywhere that block it everywhere.",
    ),
    Setting(
        name="freeze",
        form=Form(expected="an array of tables `[[freeze]]`", read=_freezes, split=None),
        default_text="none",
        default=lambda _: (),
        help="Times in which nothing may be changed; only the file can say them.",
    ),
    Setting(
        name="kill_switch",
        form=_PATH,
        default_text="`HOME/pause`",
        default=lambda around: around.home / "pause",
        help="While this file exists nothing new starts and a run stops before its next task.",
    ),
    Setting(
        name="log_level",
        form=_one_of("debug", "info", "warning", "error"),
        default_text="warning",
        help="How much of its own working a command that may act tells on standard error.",
    ),
)
_BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}


# --- reading -----------------------------------------------------------------------------------


class _Given(NamedTuple):
    """A value somebody gave, and where."""

    value: Any
    source: str
    #: What an error calls it, e.g. `/srv/x/remediate.toml: retention_days`.
    place: str
    base: Path


def load_settings(
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from file, environment and flags, the later ones winning; ConfigError says what is wrong.

    Without `config` (or `REMEDIATE_CONFIG`) the file is looked for in the current directory and its
    parents. A flag that is None was not given.
    """
    environ = os.environ if environ is None else environ
    if config is None and (named := environ.get("REMEDIATE_CONFIG")):
        config = Path(named)
    project = _project_of(config) if config is not None else find_project(Path.cwd())
    file = config if config is not None else project and project / FILE_NAME
    given = _from_file(file) if file is not None else {}
    given |= _from_environment(environ)
    given |= _from_flags(flags or {})
    return _build(given, project.resolve() if project is not None else None, environ)


def find_project(start: Path) -> Path | None:
    """The nearest directory from `start` upwards that holds `remediate.toml`.

    Whoever writes that file decides what we execute, so one that others could have put there is refused.
    """
    for directory in (start, *start.parents):
        file = directory / FILE_NAME
        if file.is_file():
            _refuse_if_foreign(file)
            return directory
    return None


def _project_of(config: Path) -> Path:
    if not config.is_file():
        raise ConfigError(f"{config}: there is no such settings file")
    return config.absolute().parent


def _refuse_if_foreign(file: Path) -> None:
    for path in (file, file.parent):
        found = path.stat()
        if found.st_uid not in (os.geteuid(), 0):
            raise ConfigError(
                f"{path} belongs to another user (uid {found.st_uid}) and was not asked for; "
                f"name it with `--config {file}` if you trust it"
            )
        if found.st_mode & stat.S_IWOTH:
            raise ConfigError(f"{path} can be written by anybody; take that away with `chmod o-w {path}`")


def _from_file(file: Path) -> dict[str, _Given]:
    import tomllib  # most commands outside a project never need it

    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: is not TOML: {error}") from error
    for key in data:
        if key not in _BY_NAME:
            raise ConfigError(f"{file}: unknown setting {key!r}{nearest(key, _BY_NAME)}")
    base = file.absolute().parent
    return {key: _Given(value, "file", f"{file}: {key}", base) for key, value in data.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    given = {}
    known = {setting.variable: setting for setting in SETTINGS}
    for variable in sorted(environ):
        if setting := known.get(variable):
            value = _split(setting, environ[variable], variable)
            given[setting.name] = _Given(value, "environment", variable, Path.cwd())
        elif variable.startswith(PREFIX) and not _is_no_setting(variable):
            raise ConfigError(f"unknown environment variable {variable}{nearest(variable, known)}")
    return given


def _is_no_setting(variable: str) -> bool:
    return variable in _NOT_SETTINGS or variable.startswith(_NOT_SETTINGS_PREFIXES)


def _from_flags(flags: Mapping[str, Any]) -> dict[str, _Given]:
    given = {}
    for name, value in flags.items():
        if value is None:
            continue
        if name not in _BY_NAME:
            raise ConfigError(f"unknown setting {name!r}{nearest(name, _BY_NAME)}")
        setting = _BY_NAME[name]
        value = os.fspath(value) if isinstance(value, Path) else value
        if isinstance(value, str):
            value = _split(setting, value, setting.flag)
        given[name] = _Given(value, "flag", setting.flag, Path.cwd())
    return given


def _split(setting: Setting, text: str, place: str) -> Any:
    if setting.form.split is None:
        raise ConfigError(f"{place}: this setting can only be written in {FILE_NAME}")
    return setting.form.split(text)


def _build(given: Mapping[str, _Given], project: Path | None, environ: Mapping[str, str]) -> Settings:
    around = Surroundings(project=project, home=Path(), environ=environ)
    values: dict[str, Any] = {}
    for setting in SETTINGS:  # `home` is the first, the defaults of others depend on it
        values[setting.name] = _value(setting, given.get(setting.name), around)
        if setting.name == "home":
            around = Surroundings(project=project, home=values["home"], environ=environ)
    sources = {name: one.source for name, one in given.items()}
    return Settings(project=project, sources=MappingProxyType(sources), **values)


def _value(setting: Setting, given: _Given | None, around: Surroundings) -> Any:
    if given is not None:
        return _read(setting, given)
    if setting.default is not None:
        return setting.default(around)
    split = setting.form.split or str
    return setting.form.read(split(setting.default_text), Path())


def _read(setting: Setting, given: _Given) -> Any:
    try:
        return setting.form.read(given.value, given.base)
    except ValueError as error:
        detail = f" ({error})" if str(error) and not str(error).startswith("expected") else ""
        # A freeze is a page of text; its own error says which key is meant.
        shown = "" if setting.form.split is None else f" is {given.value!r}"
        raise ConfigError(f"{given.place}{shown}{detail}, expected {setting.form.expected}") from error


def _shown(value: Any, setting: Setting) -> str:
    """A value as it could be written in the environment."""
    if value is None or value == ():
        return "none"
    if setting.form is _DURATION:
        return format_duration(value)
    if isinstance(value, Mapping):
        return ",".join(f"{key}={one}" for key, one in value.items())
    if isinstance(value, tuple):
        return ",".join(getattr(one, "reason", str(one)) for one in value)
    return str(value)


# --- secrets -----------------------------------------------------------------------------------


class EnvironmentSecrets:
    """Secrets from `REMEDIATE_SECRET_<NAME>`, else from the file of that name in `secrets_dir`."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._directory = settings.secrets_dir
        self._environ = environ

    def get(self, name: str) -> Secret | None:
        """The value, or None when nobody gave one; ConfigError when its file is not private."""
        if not re.fullmatch(_FORM_OF_NAME, name):
            raise ConfigError(f"{name!r} is no name for a secret: lower case letters, digits and `_` only")
        if value := self._environ.get(f"{PREFIX}SECRET_{name.upper()}"):
            return Secret(value)
        return self._from_file(self._directory / name)

    @staticmethod
    def _from_file(file: Path) -> Secret | None:
        try:
            with file.open(encoding="utf-8") as stream:
                # The open file is checked, not its name: the name may point elsewhere a moment later.
                _refuse_if_shared(file, os.fstat(stream.fileno()))
                return Secret(stream.read().removesuffix("\n"))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: the secret cannot be read: {error}") from error


def _refuse_if_shared(file: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{file}: a secret has to be a regular file")
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise ConfigError(
            f"{file}: others may read this secret (mode {mode:04o}); mend it with `chmod 600 {file}`"
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"{file}: this secret belongs to another user (uid {found.st_uid})")

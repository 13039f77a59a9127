"""The environment of a phase: an allow-list of what the worker has, plus what we pin. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

#: What may pass from the worker's environment into a child; everything else stays behind.
PASSED_ON = (
    "HOME",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LOGNAME",
    "PATH",
    "SSH_AUTH_SOCK",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
)
GATE = "remediate_gate"
#: Environment variable that names the file with the gate's rules.
GATE_RULES = "REMEDIATE_GATE"

#: Settings that point at content, and the folder below a root's `plugins/` (or the root) they mean.
_CONTENT = {
    "ANSIBLE_ROLES_PATH": "roles",
    "ANSIBLE_LIBRARY": "plugins/modules",
    "ANSIBLE_ACTION_PLUGINS": "plugins/action",
    "ANSIBLE_FILTER_PLUGINS": "plugins/filter",
    "ANSIBLE_MODULE_UTILS": "plugins/module_utils",
    "ANSIBLE_CALLBACK_PLUGINS": "plugins/callback",
}


def base(environ: Mapping[str, str], *, python: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The child's own environment; the folder of its interpreter leads PATH, for `ansible-playbook`."""
    env = {name: environ[name] for name in PASSED_ON if name in environ}
    env["PATH"] = f"{python.parent}:{env.get('PATH', '/usr/local/bin:/usr/bin:/bin')}"
    env["PYTHONUTF8"] = "1"
    return env | dict(extra)


def pinned(
    *,
    roots: Sequence[Path],
    gate_dir: Path,
    private: Path,
    config: Path,
    control_dir: Path | None,
    vault_password_file: Path | None,
    foreign: bool,
) -> dict[str, str]:
    """Ansible's settings for one phase."""
    env = {name: _search_path(roots, folder) for name, folder in _CONTENT.items()}
    env |= {
        # The gate comes from the content that travels with us: no other root may shadow it.
        "ANSIBLE_CALLBACK_PLUGINS": f"{gate_dir}:{env['ANSIBLE_CALLBACK_PLUGINS']}",
        "ANSIBLE_CALLBACKS_ENABLED": GATE,
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_FORCE_COLOR": "False",
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        "ANSIBLE_LOCAL_TEMP": str(private / "tmp"),
        "ANSIBLE_LOG_PATH": "/dev/null",
        "ANSIBLE_NOCOLOR": "True",
        "ANSIBLE_NOCOWS": "True",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "_ANSIBLE_TEMPLAR_UNTRUSTED_TEMPLATE_BEHAVIOR": "warning",
        "MAX_EVENT_RES": "4000000",
        GATE_RULES: str(private / "gate.json"),
    }
    if not foreign:  # a playbook written for other purposes may count on facts
        env["ANSIBLE_GATHERING"] = "explicit"
    if control_dir is not None:
        env["ANSIBLE_SSH_CONTROL_PATH_DIR"] = str(control_dir)
    if vault_password_file is not None:
        env["ANSIBLE_VAULT_PASSWORD_FILE"] = str(vault_password_file)
    return env


def _search_path(roots: Sequence[Path], folder: str) -> str:
    return ":".join(str(root / folder) for root in roots)

"""Entry point: options that every command has, and the one place where errors become exit codes."""

from __future__ import annotations

import errno
import os
import sys
from typing import NoReturn

import click

from remediate import __version__
from remediate.cli.lazy import LazyGroup, terminal_columns
from remediate.cli.session import Session
from remediate.errors import ExitCode, RemediateError

#: What the shell sees when somebody pressed Ctrl-C (128 + SIGINT).
INTERRUPTED = 130

COMMANDS = {
    "run": (
        "remediate.cli.run:run",
        "Run the plan for a fault code on one target, and follow it to its outcome.",
    ),
    "explain": ("remediate.cli.explain:explain", "Show what each guard would say; nothing runs."),
    "runs": ("remediate.cli.runs:runs", "List, show, follow or cancel runs."),
    "approvals": ("remediate.cli.approvals:approvals", "Decide as a second person."),
    "catalog": ("remediate.cli.catalog:catalog", "The plans there are; wrap a playbook of your own."),
    "pause": ("remediate.cli.switch:pause", "Engage the kill switch: nothing starts, what runs stops."),
    "resume": ("remediate.cli.switch:resume", "Release the kill switch."),
    "tokens": ("remediate.cli.tokens:tokens", "Named identities and their roles."),
    "audit": ("remediate.cli.audit:audit", "Read, verify, export and seal the audit trail."),
    "init": ("remediate.cli.init:init", "Make a project directory."),
    "doctor": ("remediate.cli.doctor:doctor", "Say what this machine lacks and which command mends it."),
    "demo": ("remediate.cli.demo:demo", "Show the whole loop on this machine, without root, in a minute."),
}


@click.group(
    cls=LazyGroup,
    commands_at=COMMANDS,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "terminal_width": min(terminal_columns(100), 100),
    },
)
@click.option(
    "--config",
    metavar="FILE",
    help="Settings file; otherwise remediate.toml here or in a directory above.",
)
@click.version_option(__version__, prog_name="remediate")
@click.pass_context
def cli(ctx: click.Context, config: str | None) -> None:
    """Bring a broken service back, and prove it.

    A fault CODE says what is wrong (SEC-SESS-STALE), a TARGET is one exact host of your inventory.
    A RUN carries out the plan for that code on that target: guards first, then a look, the remedy, and
    a verification from somewhere else; a remedy that does not help is taken back. Every run ends with
    one OUTCOME: recovered, self_healed, rolled_back, failed, refused, unknown, dry_run or cancelled.

    \b
    remediate explain SEC-SESS-STALE --target iam1    what would happen, and why not
    remediate run SEC-SESS-STALE --target iam1        do it, and follow it live
    remediate runs show last                          what was done, seen and signed
    """
    ctx.obj = Session(config)
    ctx.color = _wanted_colour()


def _wanted_colour() -> bool | None:
    """What NO_COLOR and FORCE_COLOR ask for; None: colour on a terminal, none elsewhere."""
    if os.environ.get("NO_COLOR"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def main() -> NoReturn:
    """Run the command line and end with its exit code."""
    code = call(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass  # whoever read our output has left (`| head`); nobody is there to be told
    except OSError:  # the output is not whole, so it did not succeed
        code = code or int(ExitCode.INTERNAL)
    # Not `sys.exit`: all that has to be durable is, and every lock is given back; what is left out is
    # the interpreter's tidying, a sixth of the time of a short command.
    os._exit(code)


def call(arguments: list[str]) -> int:
    """The exit code of one command line."""
    try:
        answer = cli.main(arguments, prog_name="remediate", standalone_mode=False)
    except RemediateError as error:
        click.echo(f"error: {error}", err=True)
        return int(error.exit_code)
    except click.ClickException as error:
        _explain_usage(error)
        return int(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except SystemExit:  # how click ends when whoever reads our output has left (`| head`)
        return int(ExitCode.OK)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        click.echo(f"error: there is no space left ({error}); free some, then run it again", err=True)
        return int(ExitCode.INTERNAL)
    return int(answer or 0)


def _explain_usage(error: click.ClickException) -> None:
    if error.format_message().startswith("Usage:"):  # a group without a command: its help is the answer
        click.echo(error.format_message())
        return
    click.echo(f"error: {error.format_message()}", err=True)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(f"`{error.ctx.command_path} --help` shows what it takes", err=True)

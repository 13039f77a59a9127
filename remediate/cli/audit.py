"""`audit`: the trail. Verifying needs only the verifier, neither store nor engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remediate.cli.lazy import LazyGroup
from remediate.cli.output import clipped, output_option, show, show_table
from remediate.cli.session import Session
from remediate.errors import ExitCode, UsageError
from remediate.model.entry import Entry, Kind

if TYPE_CHECKING:
    from remediate.config import Settings

COMMANDS = {
    "list": ("remediate.cli.audit:list_entries", "Entries, newest last."),
    "show": ("remediate.cli.audit:show_entry", "One entry, as it was hashed."),
    "verify": ("remediate.cli.audit:verify", "Check bytes, chain, tree, signatures, anchors and meaning."),
    "export": ("remediate.cli.audit:export", "Write the trail, or the evidence of one run, for elsewhere."),
    "checkpoint": ("remediate.cli.audit:checkpoint", "Sign the head now and hand it to the anchors."),
    "keys": ("remediate.cli.audit:keys", "Signing keys: list, rotate, revoke."),
    "prune": ("remediate.cli.audit:prune", "Export and remove what is older than the retention."),
}
KEY_COMMANDS = {
    "list": ("remediate.cli.audit:list_keys", "The public keys, oldest first; publish these."),
    "rotate": ("remediate.cli.audit:rotate_key", "Put a new signing key to use; the old one is destroyed."),
    "revoke": ("remediate.cli.audit:revoke_key", "The key was stolen: it proves nothing from a size on."),
}


@click.group(cls=LazyGroup, commands_at=COMMANDS)
def audit() -> None:
    """Read, verify, export and seal the audit trail.

    \b
    Example:
      remediate audit verify --strict
    """


@click.command("list")
@click.option("--run", "run_id", metavar="ID", help="Only entries of this run; `last` is the newest one.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([kind.value for kind in Kind]),
    metavar="KIND",
    help="Only entries of this kind, like run.end; may be repeated.",
)
@click.option(
    "--since", type=click.IntRange(0), default=0, metavar="SEQ", help="Only entries from this number on."
)
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="The newest so many."
)
@output_option
@click.pass_obj
def list_entries(
    session: Session, run_id: str | None, kinds: tuple[str, ...], since: int, limit: int, output: str
) -> None:
    """Entries, newest last.

    \b
    Example:
      remediate audit list --kind operator.command
    """
    from remediate.cli.trail import find_run, reading
    from remediate.guard.identity import Action

    session.require(Action.READ)
    with reading(session.settings) as ledger:
        run = find_run(ledger, run_id).id if run_id else None
        wanted = [Kind(kind) for kind in kinds]
        found = list(ledger.entries(run_id=run, kinds=wanted, since=since, limit=limit, newest_first=True))
    found.reverse()
    show_table(
        [json.loads(entry.body) for entry in found],
        output,
        ("seq", "time", "kind", "by", "target", "data"),
        [_row(entry) for entry in found],
        empty="no entries",
    )


def _row(entry: Entry) -> tuple[str, ...]:
    data = json.dumps(dict(entry.data), ensure_ascii=False)
    moment = entry.ts[:19] + "Z"
    return str(entry.seq), moment, entry.kind.value, entry.actor.id, entry.target, clipped(data, 160)


@click.command("show")
@click.argument("seq", type=click.IntRange(0))
@output_option
@click.pass_obj
def show_entry(session: Session, seq: int, output: str) -> None:
    """One entry, as it was hashed.

    \b
    Example:
      remediate audit show 0
    """
    import hashlib

    from remediate.cli.trail import reading
    from remediate.guard.identity import Action

    session.require(Action.READ)
    with reading(session.settings) as ledger:
        size = ledger.store.size()
        if seq >= size:
            raise UsageError(f"there is no entry {seq}; the trail holds {size}, numbered from 0")
        entry = ledger.store.entry(seq)
    data = json.loads(entry.body)
    digest = hashlib.sha256(entry.body).hexdigest()
    show(
        {**data, "sha256": digest},
        output,
        lines=lambda: [json.dumps(data, ensure_ascii=False, indent=2), f"sha256 {digest}"],
    )


@click.command()
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Check this copy, export or evidence bundle instead of the trail in use.",
)
@click.option(
    "--anchors",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory with anchored checkpoints; otherwise the one in the setting `anchors`.",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Public keys as they were published; otherwise, without --file, those of this machine.",
)
@click.option("--strict", is_flag=True, help="An open or unanchored tail counts as well.")
@output_option
@click.pass_obj
def verify(
    session: Session, file: Path | None, anchors: Path | None, keys: Path | None, strict: bool, output: str
) -> int:
    """Check bytes, chain, tree, signatures, anchors and meaning; 0 if it verifies, else 8.

    \b
    Example:
      remediate audit verify --file trail.jsonl --anchors /mnt/anchors --keys vkeys
    """
    from remediate.audit.verify import verify as check

    settings = session.settings
    path = file or settings.home / "audit.db"
    if not path.exists():
        hint = (
            "name an existing one"
            if file
            else "nothing is recorded here yet; REMEDIATE_HOME names another place"
        )
        raise UsageError(f"{path} is not there; {hint}")
    for given in (anchors, keys):
        if given is not None and not given.exists():
            raise UsageError(f"{given} is not there; name the directory of the anchors, the file of the keys")
    own_keys = settings.home / "keys" / "vkeys"
    trusted = keys or (own_keys if file is None and own_keys.is_file() else None)
    report = check(path, anchors=anchors or anchor_directory(settings), keys=trusted, strict=strict)
    show(report.as_json(), output, lines=report.summary_lines)
    return int(ExitCode.OK if report.ok else ExitCode.AUDIT)


def anchor_directory(settings: Settings) -> Path | None:
    """The first directory that the settings name for anchored checkpoints and that is there."""
    named = (Path(one.removeprefix("file:")) for one in settings.anchors if one.startswith("file:"))
    return next((directory for directory in named if directory.is_dir()), None)


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--run", "run_id", metavar="ID", help="Only the evidence of this run: a directory or .tar.gz.")
@click.pass_obj
def export(session: Session, path: Path, run_id: str | None) -> None:
    """Write the trail (PATH.jsonl with its proof), or the evidence of one run, for another machine.

    \b
    Example:
      remediate audit export trail.jsonl
      remediate audit export evidence.tar.gz --run last
    """
    from remediate.audit.export import evidence_bundle, export_jsonl
    from remediate.cli.trail import find_run, note_command, recording
    from remediate.guard.identity import Action

    identity = session.require(Action.EXPORT)
    if not path.absolute().parent.is_dir() or path.exists():
        raise UsageError(f"{path}: name a new file in a directory that is there")
    with recording(session.settings) as ledger:
        run = find_run(ledger, run_id).id if run_id else ""
        note_command(ledger, identity, "audit export", path=str(path.absolute()), run=run)
        ledger.checkpoint("export")
        if run:
            evidence_bundle(ledger.store, run, path)
            click.echo(
                f"evidence of run {run} in {path}; check it with `remediate audit verify --file {path}`"
            )
            return
        written = export_jsonl(ledger.store, path)
    click.echo(f"{written.size - written.start} entries in {written.path}, their proof in {written.sidecar}")
    click.echo(f"sha256 {written.sha256}")


@click.command()
@click.pass_obj
def checkpoint(session: Session) -> None:
    """Sign the head now and hand it to the anchors.

    \b
    Example:
      remediate audit checkpoint
    """
    from remediate.cli.trail import note_command, recording
    from remediate.guard.identity import Action

    identity = session.require(Action.VERIFY)
    with recording(session.settings) as ledger:
        note_command(ledger, identity, "audit checkpoint")
        signed = ledger.checkpoint("operator command")
        states = ledger.store.anchor_states()
    click.echo(f"signed at size {signed.size}")
    for state in states:
        click.echo(f"{state.name}: {state.error or f'holds size {state.size}'}")


@click.group(cls=LazyGroup, commands_at=KEY_COMMANDS, invoke_without_command=True)
@click.pass_context
def keys(ctx: click.Context) -> None:
    """Signing keys: list, rotate, revoke; alone it lists them.

    \b
    Example:
      remediate audit keys list > vkeys
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_keys, output="table")


@click.command("list")
@output_option
@click.pass_obj
def list_keys(session: Session, output: str) -> None:
    """The public keys, oldest first; publish these, and verify with them elsewhere.

    \b
    Example:
      remediate audit keys list > vkeys
    """
    from remediate.audit.keys import KeyRing
    from remediate.guard.identity import Action

    session.require(Action.READ)
    known = [str(key) for key in KeyRing(session.settings.home / "keys").public_keys()]
    show(known, output, lines=lambda: known)


@click.command("rotate")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the audit trail.")
@click.pass_obj
def rotate_key(session: Session, reason: str) -> None:
    """Put a new signing key to use; the private part of the old one is destroyed.

    \b
    Example:
      remediate audit keys rotate --reason "yearly"
    """
    from remediate.app import open_store
    from remediate.guard.identity import Action

    identity = session.require(Action.CONFIG)
    with open_store(session.settings) as store:
        entry = store.rotate_key(actor=identity.actor(), reason=reason)
    click.echo(f"entry {entry.seq}: a new key signs from now on; publish `remediate audit keys list` again")


@click.command("revoke")
@click.option(
    "--from-size",
    type=click.IntRange(0),
    required=True,
    metavar="SIZE",
    help="The stolen key proves nothing for trails of this size and above.",
)
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the audit trail.")
@click.pass_obj
def revoke_key(session: Session, from_size: int, reason: str) -> None:
    """The key in use was stolen: rotate, and let it prove nothing from a size on.

    \b
    Example:
      remediate audit keys revoke --from-size 1200 --reason "backup tape lost"
    """
    from remediate.app import open_store
    from remediate.guard.identity import Action

    identity = session.require(Action.CONFIG)
    with open_store(session.settings) as store:
        if from_size > store.size():
            raise UsageError(f"--from-size {from_size}: the trail holds only {store.size()} entries")
        entry = store.revoke_key(from_size, reason=reason, actor=identity.actor())
    click.echo(f"entry {entry.seq}: the old key proves nothing from size {from_size} on; a new key signs now")


@click.command()
@click.option(
    "--export-to",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Where what goes is kept; it is verified before anything is removed.",
)
@click.option(
    "--days", type=int, metavar="DAYS", help="Keep so many days; otherwise the setting `retention_days`."
)
@click.pass_obj
def prune(session: Session, export_to: Path, days: int | None) -> None:
    """Export and remove the entries that are older than the retention; the rest still verifies.

    \b
    Example:
      remediate audit prune --export-to /archive/2026.jsonl
    """
    from remediate.app import open_store
    from remediate.audit.prune import prune as remove
    from remediate.guard.identity import Action

    identity = session.require(Action.CONFIG)
    if not export_to.absolute().parent.is_dir() or export_to.exists():
        raise UsageError(f"{export_to}: name a new file in a directory that is there")
    kept: Any = session.settings.retention_days if days is None else days
    with open_store(session.settings) as store:
        pruned = remove(store, export_to, retention_days=kept, actor=identity.actor())
    if pruned is None:
        click.echo(f"nothing is older than {kept} days; nothing was removed")
        return
    click.echo(
        f"entry {pruned.entry.seq}: {pruned.export.size - pruned.export.start} entries moved to {export_to}"
    )

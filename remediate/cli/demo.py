"""`demo`: the whole loop on this machine."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Make the demo project in DIR and leave it there; otherwise it is removed at the end.",
)
@click.option(
    "--pace",
    type=click.FloatRange(0, 10),
    default=0.0,
    metavar="SECONDS",
    help="Pause after each step, for showing it to people.",
)
def demo(keep: Path | None, pace: float) -> int:
    """Show the whole loop: a fault, its recovery, a refusal, a rollback, and a trail that tells.

    Needs no root and no network; starts a small token service and a recorder on 127.0.0.1, and stops
    them at the end.

    \b
    Example:
      remediate demo --keep ./remediate-demo
    """
    from remediate.demo import play

    return play(keep, pace=pace)

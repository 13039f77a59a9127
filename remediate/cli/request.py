"""A request as it is typed: code, target and `-e name=value`, read the same way by `run` and `explain`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from remediate.errors import UsageError
from remediate.guard.identity import Identity
from remediate.model.run import Request

F = TypeVar("F", bound=Callable[..., Any])


def request_arguments(command: F) -> F:
    """CODE, --target and -e."""
    command = click.option(
        "-e",
        "--param",
        "pairs",
        multiple=True,
        metavar="NAME=VALUE",
        help="A parameter of the plan; may be repeated. `catalog show CODE` lists them.",
    )(command)
    command = click.option(
        "-t",
        "--target",
        required=True,
        metavar="HOST",
        help="One exact host of the inventory; never a pattern.",
    )(command)
    return click.argument("code")(command)


def read_request(identity: Identity, code: str, target: str, pairs: tuple[str, ...], **more: Any) -> Request:
    """The request that was typed; a plan is found by its code in any case."""
    return Request(
        code=code.strip().upper(),
        target=target,
        params=read_pairs(pairs),
        actor=identity.actor(),
        trigger="operator",
        **more,
    )


def read_pairs(pairs: tuple[str, ...]) -> Mapping[str, str]:
    """`name=value` texts as a mapping; the plan decides what they may be."""
    params: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise UsageError(f"-e {pair!r}: expected NAME=VALUE, like `-e reason=suspect`")
        if name in params:
            raise UsageError(f"-e {name}: given twice; give each parameter once")
        params[name] = value
    return params

"""The desk at which people ask and decide, in this process or across `control.sock`.

`connect` gives a desk: when a worker lives, its socket; otherwise a worker embedded in this process.
Both are the same few methods, so a command need not know which one it has. On the socket the worker
establishes the identity itself: from the token that is sent, else from the peer's uid as the kernel
reports it; what a client claims to be is not asked.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol

from remediate import errors
from remediate.app import Worker, WorkerBusy, open_tokens
from remediate.config import Settings
from remediate.errors import ExitCode, RemediateError, WorkerError
from remediate.flow import people
from remediate.guard.identity import Action, Identity, Role, current_identity, read_token, require
from remediate.model.entry import Actor, Entry, Kind
from remediate.model.run import Request, Run

#: Longest line on the socket; a request is small, an answer holds at most `_ENTRIES` entries.
_LONGEST_LINE = 8 << 20
_ENTRIES = 500
#: Seconds to wait for a worker that holds the lock but does not answer yet (it is starting).
_PATIENCE = 10.0


class Desk(Protocol):
    """What a command can ask of the worker."""

    def submit(self, request: Request) -> Run:
        """Make a request durable and start it; its actor is replaced by who is really asking."""
        ...

    def run(self, run_id: str) -> Run:
        """The run as recorded."""
        ...

    def entries(self, run_id: str, since: int) -> list[Entry]:
        """A run's entries from a sequence number on."""
        ...

    def failure(self, run_id: str) -> RemediateError | None:
        """What stopped the work on a run that is still open, if anything did."""
        ...

    def approve(self, run_id: str, reason: str) -> Run:
        """Say yes as a second person."""
        ...

    def reject(self, run_id: str, reason: str) -> Run:
        """Say no."""
        ...

    def cancel(self, run_id: str, reason: str) -> Run:
        """Stop a run before its next step."""
        ...


class LocalDesk:
    """The desk of a worker in this process."""

    def __init__(self, worker: Worker, identity: Identity, *, auth: str = "") -> None:
        self._worker = worker
        self._identity = identity
        self._actor = replace(identity.actor(), auth=auth) if auth else identity.actor()

    def submit(self, request: Request) -> Run:
        """Make a request durable and start it."""
        require(self._identity, Action.RUN)
        # Whoever stands at the desk is a person: no caller may pass for a webhook or a schedule.
        asked = replace(request, actor=self._actor, trigger="operator")
        run = self._worker.dispatcher.accept(asked)
        self._worker.engine.start(run.id)
        return run

    def run(self, run_id: str) -> Run:
        """The run as recorded."""
        require(self._identity, Action.READ)
        return self._worker.parts.run(run_id)

    def entries(self, run_id: str, since: int) -> list[Entry]:
        """A run's entries from a sequence number on."""
        require(self._identity, Action.READ)
        return list(self._worker.parts.ledger.entries(run_id=run_id, since=since, limit=_ENTRIES))

    def failure(self, run_id: str) -> RemediateError | None:
        """What stopped the work on a run that is still open."""
        error = self._worker.engine.failure(run_id)
        if error is None or isinstance(error, RemediateError):
            return error
        return RemediateError(f"{type(error).__name__}: {error}")

    def approve(self, run_id: str, reason: str) -> Run:
        """Say yes as a second person."""
        require(self._identity, Action.APPROVE)
        run = people.approve(self._worker.parts, run_id, self._actor, Role.APPROVER.value, reason)
        return self._look_again(run)

    def reject(self, run_id: str, reason: str) -> Run:
        """Say no."""
        require(self._identity, Action.REJECT)
        return self._look_again(people.reject(self._worker.parts, run_id, self._actor, reason))

    def cancel(self, run_id: str, reason: str) -> Run:
        """Stop a run before its next step."""
        require(self._identity, Action.CANCEL)
        return self._look_again(people.cancel(self._worker.parts, run_id, self._actor, reason))

    def _look_again(self, run: Run) -> Run:
        if not run.state.under_way:
            self._worker.engine.start(run.id)
        return run


class RemoteDesk:
    """The desk of a worker in another process; a vanished worker is a WorkerError."""

    def __init__(self, address: Path, token: str | None) -> None:
        self._address = address
        self._token = token

    def submit(self, request: Request) -> Run:
        """Make a request durable and start it."""
        return Run.from_json(self._ask("submit", request=request.as_json()))

    def run(self, run_id: str) -> Run:
        """The run as recorded."""
        return Run.from_json(self._ask("run", run_id=run_id))

    def entries(self, run_id: str, since: int) -> list[Entry]:
        """A run's entries from a sequence number on."""
        return [_entry(item) for item in self._ask("entries", run_id=run_id, since=since)]

    def failure(self, run_id: str) -> RemediateError | None:
        """What stopped the work on a run that is still open."""
        answer = self._ask("failure", run_id=run_id)
        return None if answer is None else _error(answer)

    def approve(self, run_id: str, reason: str) -> Run:
        """Say yes as a second person."""
        return Run.from_json(self._ask("approve", run_id=run_id, reason=reason))

    def reject(self, run_id: str, reason: str) -> Run:
        """Say no."""
        return Run.from_json(self._ask("reject", run_id=run_id, reason=reason))

    def cancel(self, run_id: str, reason: str) -> Run:
        """Stop a run before its next step."""
        return Run.from_json(self._ask("cancel", run_id=run_id, reason=reason))

    def _ask(self, call: str, **arguments: Any) -> Any:
        question = json.dumps({"call": call, "token": self._token, "arguments": arguments}).encode() + b"\n"
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(self._address))
                connection.sendall(question)
                with connection.makefile("rb") as answers:
                    line = answers.readline(_LONGEST_LINE)
        except OSError as error:
            raise WorkerGone(
                f"the worker behind {self._address} does not answer ({error.strerror})"
            ) from error
        if not line:
            raise WorkerGone(f"the worker behind {self._address} ended before it answered")
        answer = json.loads(line)
        if "error" in answer:
            raise _error(answer["error"])
        return answer["value"]


class WorkerGone(WorkerError):
    """The worker vanished; whoever asks may become the worker."""


# --- the worker's side of the socket -----------------------------------------------------------------

_CALLS: Mapping[str, Callable[[LocalDesk, Mapping[str, Any]], Any]] = {
    "submit": lambda desk, a: desk.submit(_request(a["request"])).as_json(),
    "run": lambda desk, a: desk.run(_text(a["run_id"])).as_json(),
    "entries": lambda desk, a: [_entry_json(e) for e in desk.entries(_text(a["run_id"]), int(a["since"]))],
    "failure": lambda desk, a: _failure_json(desk.failure(_text(a["run_id"]))),
    "approve": lambda desk, a: desk.approve(_text(a["run_id"]), _text(a["reason"])).as_json(),
    "reject": lambda desk, a: desk.reject(_text(a["run_id"]), _text(a["reason"])).as_json(),
    "cancel": lambda desk, a: desk.cancel(_text(a["run_id"]), _text(a["reason"])).as_json(),
}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _request(data: Mapping[str, Any]) -> Request:
    """A request of a client, each field of the type it has to have; its values are checked at intake."""
    given = {field.name: data[field.name] for field in fields(Request)}
    kinds = {bool: ("check", "diff", "break_glass"), dict: ("params", "actor")}
    expected = {name: kind for kind, names in kinds.items() for name in names}
    for name, value in given.items():
        if not isinstance(value, expected.get(name, str)):
            raise TypeError(
                f"{name}: expected {expected.get(name, str).__name__}, found {type(value).__name__}"
            )
    return Request.from_json(given)


class _Handler(socketserver.StreamRequestHandler):
    """One question, one answer."""

    server: _Server

    def handle(self) -> None:
        """Answer the question on this connection; a client that left is no error."""
        with suppress(OSError):
            self.wfile.write(json.dumps(self._answer(), default=str).encode() + b"\n")

    def _answer(self) -> dict[str, Any]:
        try:
            question = json.loads(self.rfile.readline(_LONGEST_LINE))
            desk = self._desk(_text_or_none(question["token"]))
            return {"value": _CALLS[question["call"]](desk, question["arguments"])}
        except RemediateError as error:
            return {"error": _failure_json(error)}
        except (KeyError, TypeError, ValueError) as error:
            return {"error": _failure_json(errors.UsageError(f"malformed question: {error!r}"))}

    def _desk(self, token: str | None) -> LocalDesk:
        uid = _peer_uid(self.connection)
        identity = self.server.identify(token, uid)
        return LocalDesk(self.server.worker, identity, auth="" if token else "peer")


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, address: Path, worker: Worker, settings: Settings) -> None:
        self.worker = worker
        self._tokens = open_tokens(settings)
        super().__init__(str(address), _Handler)
        address.chmod(0o600)

    def identify(self, token: str | None, uid: int) -> Identity:
        """Who is at the other end."""
        return current_identity(self._tokens, token, uid=uid, loginuid=None, tty=None)


def _peer_uid(connection: socket.socket) -> int:
    """The uid of the process at the other end, as the kernel knows it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


@contextmanager
def answering(worker: Worker, settings: Settings) -> Iterator[None]:
    """Serve the worker's desk on `control.sock` until the context ends."""
    address = socket_address(settings)
    address.unlink(missing_ok=True)  # what a killed worker left; the worker lock says nobody uses it
    with _Server(address, worker, settings) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="control", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            address.unlink(missing_ok=True)


def socket_address(settings: Settings) -> Path:
    """Where the worker answers; a Unix address is short, so a deep state directory gets one by its inode."""
    address = settings.home / "control.sock"
    if len(os.fsencode(address)) < 100:
        return address
    status = settings.home.stat()
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp"))  # noqa: S108 - the socket itself is 0600
    return runtime / f"remediate-{status.st_dev:x}-{status.st_ino:x}.sock"


# --- the client's side ---------------------------------------------------------------------------------


def own_token(settings: Settings) -> str | None:
    """The token this command was given: `REMEDIATE_TOKEN`, else the first line of `token_file`."""
    if text := os.environ.get("REMEDIATE_TOKEN"):
        return text
    return None if settings.token_file is None else read_token(settings.token_file)


def identify(settings: Settings) -> Identity:
    """Who runs this command: the token that is given, else the Unix user."""
    return current_identity(
        open_tokens(settings),
        own_token(settings),
        uid=os.getuid(),
        loginuid=_login_uid(),
        tty=_terminal(),
    )


@contextmanager
def connect(settings: Settings, *, note: Callable[[str], None] = lambda _: None) -> Iterator[Desk]:
    """A desk: of the worker that lives, else of one embedded here for as long as the context lasts.

    `note` is told what a starting worker found. An embedded worker ends only when nothing that it
    took up is under way any more.
    """
    if sys.platform != "linux":
        raise errors.UsageError(
            f"plans run on Linux only, and this is {sys.platform}: a run's processes could not be kept "
            "together here; `catalog`, `explain` and `audit verify` work"
        )
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    deadline = time.monotonic() + _PATIENCE
    with ExitStack() as stack:
        while True:
            try:
                worker = stack.enter_context(Worker.embedded(settings))
                break
            except WorkerBusy as busy:
                if _answers(settings):
                    yield RemoteDesk(socket_address(settings), own_token(settings))
                    return
                if time.monotonic() > deadline:
                    raise WorkerError(
                        f"{busy}, but it does not answer on {socket_address(settings)}; see whether the "
                        "process that holds the lock hangs (`fuser` names it) and end it"
                    ) from busy
                time.sleep(0.05)
        stack.enter_context(answering(worker, settings))
        for run in worker.resumed:
            note(
                f"taking up run {run.id} ({run.request.code} on {run.request.target}), left open in state "
                f"{run.state.value}"
            )
        try:
            yield LocalDesk(worker, identify(settings))
        finally:
            while worker.busy() and not all(
                worker.engine.failure(run.id)
                for run in worker.parts.ledger.runs(open_only=True)
                if run.state.under_way
            ):
                time.sleep(0.05)


def _answers(settings: Settings) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(socket_address(settings)))
        except OSError:
            return False
    return True


def _login_uid() -> int | None:
    with suppress(OSError, ValueError):
        return int(Path("/proc/self/loginuid").read_text())
    return None


def _terminal() -> str | None:
    with suppress(OSError):
        return os.ttyname(0)
    return None


# --- how values travel ---------------------------------------------------------------------------------


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "ts": entry.ts,
        "kind": entry.kind.value,
        "actor": entry.actor.as_json(),
        "run_id": entry.run_id,
        "case_id": entry.case_id,
        "target": entry.target,
        "fault_code": entry.fault_code,
        "data": entry.data,
        "prev": entry.prev,
        "body": entry.body.decode(),
    }


def _entry(item: Mapping[str, Any]) -> Entry:
    return Entry(
        **{
            **item,
            "kind": Kind(item["kind"]),
            "actor": Actor(**item["actor"]),
            "body": item["body"].encode(),
        }
    )


def _failure_json(error: RemediateError | None) -> dict[str, Any] | None:
    return None if error is None else {"text": str(error), "exit_code": int(error.exit_code)}


def _error(answer: Mapping[str, Any]) -> RemediateError:
    """An error of the other side with its exit code; which class it had there does not matter here."""
    error = RemediateError(str(answer["text"]))
    error.exit_code = ExitCode(answer["exit_code"])
    return error

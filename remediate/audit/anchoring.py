"""Carries checkpoints to the anchors in a thread of its own, so that a slow one delays no append."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from remediate.audit.anchors import Anchor
from remediate.audit.checkpoint import Checkpoint
from remediate.errors import AuditError

#: How long `deliver(wait=True)` waits for slow anchors before the run goes on without them.
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorState:
    """How an anchor does."""

    name: str
    #: Size of the last checkpoint it took; 0 before the first.
    size: int = 0
    #: Why it did not take the last one; empty when it did.
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Delivery:
    checkpoint: Checkpoint
    done: threading.Event


class Anchoring:
    """Publishes checkpoints to `anchors`; `changed` is told when one starts to fail or to work again."""

    def __init__(self, anchors: Sequence[Anchor], changed: Callable[[AnchorState, Checkpoint], None]) -> None:
        self._anchors = tuple(anchors)
        self._changed = changed
        self._states = {anchor.name: AnchorState(name=anchor.name) for anchor in anchors}
        self._queue: queue.SimpleQueue[_Delivery | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="audit-anchors", daemon=True)
        if self._anchors:
            self._thread.start()

    @property
    def states(self) -> tuple[AnchorState, ...]:
        """How each anchor does now."""
        return tuple(self._states.values())

    def deliver(self, checkpoint: Checkpoint, *, wait: bool = False) -> None:
        """Publish `checkpoint`; with `wait`, return when each anchor took or refused it."""
        if not self._thread.is_alive():
            return
        delivery = _Delivery(checkpoint, threading.Event())
        self._queue.put(delivery)
        if wait:
            delivery.done.wait(_PATIENCE_SECONDS)

    def close(self) -> None:
        """Publish what is queued and stop."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(_PATIENCE_SECONDS)

    def _serve(self) -> None:
        while (delivery := self._queue.get()) is not None:
            changes = [
                change for anchor in self._anchors if (change := self._publish(anchor, delivery.checkpoint))
            ]
            delivery.done.set()
            for change in changes:
                self._changed(change, delivery.checkpoint)

    def _publish(self, anchor: Anchor, checkpoint: Checkpoint) -> AnchorState | None:
        """The new state when it is worth an entry: the first failure, or the first success after one."""
        before, error = self._states[anchor.name], ""
        try:
            anchor.publish(checkpoint.note_text)
        except (OSError, AuditError) as failure:
            error = str(failure) or type(failure).__name__
        size = before.size if error else checkpoint.size
        state = self._states[anchor.name] = AnchorState(name=anchor.name, size=size, error=error)
        return state if bool(before.error) != bool(error) else None

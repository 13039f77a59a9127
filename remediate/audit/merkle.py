"""The RFC 6962 Merkle tree: hashes, the compact range a log keeps, and both kinds of proof.

Pure functions of values. A tree over n leaves is never stored: `CompactRange` keeps the at most 64
hashes that the next leaf needs, and proofs are made from the leaf hashes on demand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from remediate.errors import AuditError

EMPTY_ROOT = sha256(b"").digest()

#: Subtrees of at least this many leaves are remembered while several proofs are made.
_REMEMBER = 64


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf (RFC 6962, 2.1)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node (RFC 6962, 2.1)."""
    return sha256(b"\x01" + left + right).digest()


class CompactRange:
    """A tree that only grows: the roots of its perfect subtrees, the largest first."""

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        peaks = list(hashes)
        if len(peaks) != size.bit_count() or any(len(peak) != 32 for peak in peaks):
            raise AuditError(f"a tree of {size} leaves has {size.bit_count()} peaks of 32 bytes")
        self.size = size
        self._peaks = peaks

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """What `CompactRange(size, hashes)` continues from."""
        return tuple(self._peaks)

    def copy(self) -> CompactRange:
        """An independent tree of the same leaves."""
        return CompactRange(self.size, self._peaks)

    def append(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        merges = (~self.size & (self.size + 1)).bit_length() - 1  # trailing one bits of the size
        for _ in range(merges):
            leaf = node_hash(self._peaks.pop(), leaf)
        self._peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root over all leaves so far."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root


class ProofTree:
    """Makes proofs over leaf hashes `start..size`; what lies before `start` is known by its range only."""

    def __init__(self, leaves: Sequence[bytes], before: CompactRange | None = None) -> None:
        self._start = before.size if before else 0
        self._leaves = leaves
        self._known: dict[tuple[int, int], bytes] = dict(_spans(before)) if before else {}
        self.size = self._start + len(leaves)

    def root(self, size: int | None = None) -> bytes:
        """The root at `size` (default: all leaves)."""
        size = self.size if size is None else size
        return self._subtree(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The audit path of leaf `index` in the tree of `size` leaves (RFC 6962, 2.1.1)."""
        size = self.size if size is None else size
        if not self._start <= index < size <= self.size:
            raise AuditError(f"no proof for entry {index} in {size}: held are {self._start}..{self.size - 1}")
        low, high, path = 0, size, []
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                path.append(self._subtree(middle, high))
                high = middle
            else:
                path.append(self._subtree(low, middle))
                low = middle
        return path[::-1]

    def consistency(self, old: int, size: int | None = None) -> list[bytes]:
        """The proof that the tree of `size` continues the tree of `old` leaves (RFC 6962, 2.1.2)."""
        size = self.size if size is None else size
        if not max(1, self._start) <= old <= size <= self.size:
            raise AuditError(f"no proof from {old} to {size}: held are {self._start}..{self.size - 1}")
        low, high, whole, path = 0, size, True, []
        while old != high:
            middle = low + _split(high - low)
            if old <= middle:
                path.append(self._subtree(middle, high))
                high = middle
            else:
                path.append(self._subtree(low, middle))
                low, whole = middle, False
        if not whole:
            path.append(self._subtree(low, high))
        return path[::-1]

    def _subtree(self, low: int, high: int) -> bytes:
        known = self._known.get((low, high))
        if known is not None:
            return known
        if high - low == 1:
            return self._leaves[low - self._start]
        middle = low + _split(high - low)
        result = node_hash(self._subtree(low, middle), self._subtree(middle, high))
        if high - low >= _REMEMBER:
            self._known[low, high] = result
        return result


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `leaf` is entry `index` of the tree with this size and root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or len(leaf) != 32 or len(root) != 32:
        return False
    position, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0 or len(sibling) != 32:
            return False
        if position & 1 or position == last:
            result = node_hash(sibling, result)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and result == root


def verify_consistency(old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of `size` leaves continues the tree of `old` leaves (RFC 9162, 2.1.4.2).

    From the empty tree nothing can be proven, so `old == 0` is refused.
    """
    if not 0 < old <= size:
        return False
    if old == size:
        return not proof and old_root == root
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path or any(len(node) != 32 for node in path):
        return False
    position, last = old - 1, size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    first = second = path[0]
    for node in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            first, second = node_hash(node, first), node_hash(node, second)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            second = node_hash(second, node)
        position, last = position >> 1, last >> 1
    return last == 0 and first == old_root and second == root


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _spans(tree: CompactRange) -> Mapping[tuple[int, int], bytes]:
    """Which leaves each peak of the range stands for."""
    spans, low = {}, 0
    bits = [bit for bit in reversed(range(tree.size.bit_length())) if tree.size >> bit & 1]
    for bit, peak in zip(bits, tree.hashes, strict=True):
        spans[low, low + (1 << bit)] = peak
        low += 1 << bit
    return spans

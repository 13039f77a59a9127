"""The tree against the public RFC 6962 vectors, and against itself; both writer and verifier."""

from __future__ import annotations

import base64
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remediate.audit import verify as standalone
from remediate.audit.merkle import (
    EMPTY_ROOT,
    CompactRange,
    ProofTree,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from remediate.errors import AuditError

DATA = Path(os.environ.get("REMEDIATE_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
VECTORS = DATA / "rfc6962-vectors.tar.gz"
SIZES = range(1, 131)


def vectors(kind: str) -> Iterator[dict[str, Any]]:
    if not VECTORS.is_file():
        pytest.skip(f"{VECTORS} is not there; set REMEDIATE_TEST_DATA")
    with tarfile.open(VECTORS) as archive:
        for member in archive:
            if f"/{kind}/" in member.name and member.name.endswith(".json"):
                file = archive.extractfile(member)
                assert file is not None
                yield json.load(file)


def raw(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def test_public_vectors_of_inclusion() -> None:
    count = 0
    for vector in vectors("inclusion"):
        proof = [raw(node) for node in vector["proof"] or []]
        case = vector["leafIdx"], vector["treeSize"], raw(vector["leafHash"]), proof, raw(vector["root"])
        assert verify_inclusion(*case) is not vector["wantErr"], vector["desc"]
        assert standalone._included(*case) is not vector["wantErr"], vector["desc"]
        count += 1
    print(f"COUNT RFC 6962 inclusion vectors {count}/98")
    assert count == 98


def test_public_vectors_of_consistency() -> None:
    count = 0
    for vector in vectors("consistency"):
        proof = [raw(node) for node in vector["proof"] or []]
        case = vector["size1"], vector["size2"], raw(vector["root1"]), raw(vector["root2"]), proof
        assert verify_consistency(*case) is not vector["wantErr"], vector["desc"]
        count += 1
    print(f"COUNT RFC 6962 consistency vectors {count}/98")
    assert count == 98


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


def test_own_proofs_of_every_size() -> None:
    count = 0
    all_leaves = leaves(max(SIZES))
    tree = ProofTree(all_leaves)
    roots = {size: tree.root(size) for size in range(max(SIZES) + 1)}
    for size in SIZES:
        for index in range(size):
            proof = tree.inclusion(index, size)
            assert verify_inclusion(index, size, all_leaves[index], proof, roots[size])
            assert not verify_inclusion(index, size, EMPTY_ROOT, proof, roots[size])
            count += 1
        for old in range(1, size + 1):
            proof = tree.consistency(old, size)
            assert verify_consistency(old, size, roots[old], roots[size], proof)
            assert old == size or not verify_consistency(old, size, EMPTY_ROOT, roots[size], proof)
            count += 1
    print(f"COUNT own proofs for sizes 1..130: {count}")


def test_the_compact_range_and_the_verifier_compute_the_same_roots() -> None:
    tree, all_leaves = CompactRange(), leaves(700)
    assert tree.root() == EMPTY_ROOT
    roots = {}
    for leaf in all_leaves:
        tree.append(leaf)
        roots[tree.size] = tree.root()
    assert roots[700] == ProofTree(all_leaves).root()
    for start in (0, 1, 7, 255, 256, 300):
        assert streamed(all_leaves, start) == {size: root for size, root in roots.items() if size > start}


def streamed(all_leaves: list[bytes], start: int) -> dict[int, bytes]:
    """The roots as the verifier computes them for a log that was pruned at `start`."""
    before = CompactRange()
    for leaf in all_leaves[:start]:
        before.append(leaf)
    tree, roots = standalone.Tree(start, before.hashes), {}
    while tree.size < len(all_leaves):
        batch = all_leaves[tree.size : tree.size + tree.until_aligned()]
        roots.update(tree.extend(batch, range(tree.size + 1, tree.size + len(batch) + 1)))
    return roots


@pytest.mark.parametrize("start", [1, 5, 64, 100])
def test_proofs_need_only_the_range_of_what_was_pruned(start: int) -> None:
    all_leaves = leaves(130)
    before = CompactRange()
    for leaf in all_leaves[:start]:
        before.append(leaf)
    whole, rest = ProofTree(all_leaves), ProofTree(all_leaves[start:], before)
    assert rest.root() == whole.root()
    assert all(rest.inclusion(index) == whole.inclusion(index) for index in range(start, 130))
    assert all(rest.consistency(old) == whole.consistency(old) for old in range(start, 131))
    with pytest.raises(AuditError):
        rest.inclusion(start - 1)


def test_a_range_with_the_wrong_number_of_hashes_is_refused() -> None:
    with pytest.raises(AuditError):
        CompactRange(3, [EMPTY_ROOT])

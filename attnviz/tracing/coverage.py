"""The witness: which operations of a forward pass look like attention, and left no site."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attnviz.core.records import Site
from attnviz.instrumentation.operations import AFFINE, SLICING, TRANSPARENT
from attnviz.tracing.axis_meanings import Meaning, parts_of
from attnviz.tracing.graph import Graph, Node
from attnviz.tracing.provenance import root

_ALWAYS = frozenset({"scaled_dot_product_attention", "grid_sample", "deform_conv2d", "multi_head_attention_forward"})
_APPLY = frozenset({"mul", "matmul", "einsum"})


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """An operation that looks like attention and is no site.

    Attributes:
        operation: Its name.
        module: Path of the module that runs it.
        source: ``file:line``.
        why: What makes it look like attention.
    """

    operation: str
    module: str
    source: str
    why: str

    def __str__(self) -> str:
        return f"{self.operation} in {self.module or '(root)'} ({self.source}): {self.why}"


def unclaimed_of(graph: Graph, sites: Iterable[Site]) -> tuple[Unclaimed, ...]:
    """The attention-like operations that no site stands for, each place once, in the order of the forward pass."""
    claimed = {(site.module, site.operation, site.position) for site in sites}
    found: dict[tuple[str, str, int], Unclaimed] = {}
    for node, why in _suspects(graph, claimed):
        key = node.module, node.name, node.position
        if key not in claimed:
            found.setdefault(key, Unclaimed(node.name, node.module, node.source, why))
    return tuple(found.values())


def _suspects(graph: Graph, claimed: set[tuple[str, str, int]]) -> Iterator[tuple[Node, str]]:
    # The softmax that each value still carries, rescaled, rearranged or cut at most; a claimed use takes it away.
    carried: dict[int, Node] = {}
    for node in graph.nodes:
        if not node.depends:
            continue
        if node.name in _ALWAYS and node.parents[0].depends:
            yield node, "an operator made for attention"
        if _is_linear_attention(node):
            yield node, "linear attention: keys were summed with values first, so the map is implied and never computed"
        operands = [p for p in node.parents if p.depends]
        weights = [carried[id(p)] for p in operands if id(p) in carried]
        if node.name == "softmax":
            carried[id(node)] = node
        elif weights and node.name in _APPLY and len(operands) > 1:
            if (node.module, node.name, node.position) not in claimed:
                yield node, "weights from a softmax are multiplied with another value of the input"
        elif weights and node.name in TRANSPARENT | SLICING | AFFINE:
            carried[id(node)] = weights[0]


def _is_linear_attention(node: Node) -> bool:
    """Whether ``node`` is ``q (kᵀ v)``: a product with a product that summed over positions."""
    if node.name != "matmul" or len(node.parents) != 2 or not all(p.depends for p in node.parents):
        return False
    for inner in map(root, node.parents):
        if inner.name == "matmul" and all(p.depends for p in inner.parents):
            left = inner.parents[0]
            summed = parts_of(left, len(left.shape) - 1)
            if summed and all(part.of is Meaning.POSITIONS for part in summed):
                return True
    return False

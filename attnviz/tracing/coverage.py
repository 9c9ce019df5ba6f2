"""Coverage: operations of a forward pass that look like attention and are no site."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attnviz.core.records import Site
from attnviz.instrumentation.operations import AFFINE, SLICING, TRANSPARENT
from attnviz.tracing.axis_meanings import parts_of
from attnviz.tracing.axis_parts import Meaning
from attnviz.tracing.graph import Graph, Node
from attnviz.tracing.provenance import root

_ALWAYS = frozenset({"scaled_dot_product_attention", "grid_sample", "deform_conv2d", "multi_head_attention_forward"})
_HIDDEN = "attention inside a scripted function or another library, whose operations cannot be captured"
_APPLY = frozenset({"mul", "matmul", "einsum"})


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """An operation that looks like attention and is no site.

    Attributes:
        operation: Name of the operation.
        module: Path of the module that runs it.
        source: ``file:line``.
        why: The reason why it looks like attention or was not captured.
    """

    operation: str
    module: str
    source: str
    why: str

    def __str__(self) -> str:
        return f"{self.operation} in {self.module or '(root)'} ({self.source}): {self.why}"


def unclaimed_of(graph: Graph, sites: Iterable[Site], hidden: Iterable[Node]) -> tuple[Unclaimed, ...]:
    """The attention-like operations that are no site, each once, in the order of the forward pass.

    Args:
        graph: The forward pass.
        sites: The sites that were found.
        hidden: Attention in operations that no function mode receives.
    """
    claimed = {(site.module, site.operation, site.position) for site in sites}
    suspects = [*_suspects(graph, claimed), *((node, _HIDDEN) for node in hidden)]
    suspects += [(node, f"its values could not be described: {why}") for node, why in graph.untraceable]
    found: dict[tuple[str, str, str, int], Unclaimed] = {}
    for node, why in sorted(suspects, key=lambda suspect: suspect[0].index):
        key = node.module, node.name, node.position
        if not node.is_visible or key not in claimed:
            found.setdefault((*key[:2], node.source, key[2]), Unclaimed(node.name, node.module, node.source, why))
    return tuple(found.values())


def _suspects(graph: Graph, claimed: set[tuple[str, str, int]]) -> Iterator[tuple[Node, str]]:
    # Values that are weights of a softmax, up to rescaling, rearranging and slicing. The output of a site is none.
    weights: set[int] = set()
    for node in graph.nodes:
        if not node.depends:
            continue
        if node.name in _ALWAYS and node.parents[0].depends:
            yield node, "an attention operator"
        if _is_linear_attention(node):
            yield (node, "linear attention: keys are multiplied by values first, so its map is never computed")
        operands = [p for p in node.parents if p.depends]
        has_weights = any(id(p) in weights for p in operands)
        if node.name == "softmax":
            weights.add(id(node))
        elif has_weights and node.name in _APPLY and len(operands) > 1:
            if (node.module, node.name, node.position) not in claimed:
                yield node, "weights from a softmax are multiplied by another value that depends on the input"
        elif has_weights and node.name in TRANSPARENT | SLICING | AFFINE:
            weights.add(id(node))


def _is_linear_attention(node: Node) -> bool:
    """Whether ``node`` is ``q (kᵀ v)``: a product with a product that sums over positions."""
    if node.name != "matmul" or len(node.parents) != 2 or not all(p.depends for p in node.parents):
        return False
    for inner in map(root, node.parents):
        if inner.name == "matmul" and all(p.depends for p in inner.parents):
            left = inner.parents[0]
            summed = parts_of(left, len(left.shape) - 1)
            if summed and all(part.of is Meaning.POSITIONS for part in summed):
                return True
    return False

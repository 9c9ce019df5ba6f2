"""Coverage: operations of a forward pass that look like attention and are no site."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attnviz.core.records import Site
from attnviz.instrumentation.operations import LEARNED, PRODUCTS, keeps_positions
from attnviz.tracing.axis_meanings import parts_of
from attnviz.tracing.axis_parts import Meaning
from attnviz.tracing.graph import OUTSIDE, Graph, Node
from attnviz.tracing.provenance import Mixing, mixing_since_common, root

_OPERATORS = frozenset(
    "grid_sample grid_sampler grid_sampler_2d grid_sampler_3d deform_conv2d multi_head_attention_forward".split()
)
_PLACES = {Meaning.POSITIONS, Meaning.FRAMES, Meaning.SAMPLES, Meaning.UNKNOWN}
_HIDDEN = "attention inside a scripted function or another library, whose operations cannot be captured"


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
    """Operations that look like attention by rules that the recognisers do not use."""
    explained = _explained(graph, claimed)
    for node in graph.nodes:
        if not node.depends or id(node) in explained:
            continue
        operands = [parent for parent in dict.fromkeys(node.parents) if parent.depends]
        if _is_operator(node) and operands and (len(operands) > 1 or "grid" not in node.name):
            yield node, "an attention operator"
        elif _is_linear_attention(node):
            yield node, "linear attention: keys are multiplied by values first, so its map is never computed"
        elif node.is_opaque and len(operands) > 1:
            yield node, "several values that depend on the input enter an operation whose own operations are unknown"
        elif node.name == OUTSIDE and _is_read(graph, node):
            yield node, "a value was computed outside PyTorch from values that can depend on the input"
        elif len(operands) > 1 and node.name in PRODUCTS:
            why = _why_weighted(node)
            if why:
                yield node, why


def _is_operator(node: Node) -> bool:
    return node.name.startswith("scaled_dot_product") or node.name in _OPERATORS


def _explained(graph: Graph, claimed: set[tuple[str, str, int]]) -> set[int]:
    """The products that are steps of a found site: those that compute its ``g``, such as the scores."""
    found: set[int] = set()
    for node in graph.nodes:
        if (node.module, node.name, node.position) not in claimed or not node.is_visible:
            continue
        found.add(id(node))
        stack = list(node.parents)
        while stack:
            current = stack.pop()
            if id(current) in found or not current.depends:
                continue
            found.add(id(current))
            # The first learned operation behind a product computes queries and keys.
            if current.name in PRODUCTS or current.name not in LEARNED:
                stack.extend(current.parents if _is_inside(current) else ())
    return found


def _is_inside(node: Node) -> bool:
    """Whether the operands of ``node`` can still belong to the computation of weights."""
    return node.name not in {"add", "cat"} or len({parent.shape for parent in node.parents if parent.depends}) > 1


def _why_weighted(node: Node) -> str:
    """Why a product of two values that depend on the input looks like weights and values; empty if it does not."""
    for index, parent in enumerate(node.parents[:2]):
        other = node.parents[1 - index]
        if not (parent.depends and other.depends) or root(parent) is root(other):
            continue
        if node.name == "mul":
            is_spread = _spreads(parent, other)
            if root(parent).name == "exp":
                return (
                    "exponentials of the input multiply another value that depends on it, as weights before their sum"
                )
            if index in node.bounded and is_spread and mixing_since_common(parent, other) is not Mixing.NONE:
                return "values between 0 and 1, computed from the input, multiply another value that depends on it"
        elif index in node.bounded:
            return "weights between 0 and 1, computed from the input, are summed with another value that depends on it"
        elif _compares_positions(parent):
            return "values for pairs of positions are summed with another value that depends on the input"
    return ""


def _spreads(g: Node, x: Node) -> bool:
    """Whether ``g`` has one value for several values of ``x``."""
    return math.prod(g.shape) < math.prod(x.shape) or 0 in g.strides


def _compares_positions(node: Node) -> bool:
    """Whether both last axes run over positions."""
    if len(node.shape) < 2 or min(node.shape[-2:]) < 2:
        return False
    axes = [parts_of(node, len(node.shape) + axis) for axis in (-2, -1)]
    return all(parts and all(part.of in _PLACES for part in parts) for parts in axes)


def _is_read(graph: Graph, node: Node) -> bool:
    """Whether an operation uses the value without overwriting it."""
    overwritten = set(graph.overwrites.get(node.storage, ()))
    return any(user.index not in overwritten for user in node.users)


def _source(node: Node) -> Node:
    """The value before functions of each number, and before normalisation."""
    while node.parents and node.name != "mul" and keeps_positions(node.name):
        node = node.parents[0]
    return node


def _is_linear_attention(node: Node) -> bool:
    """Whether ``node`` is ``q (kᵀ v)``: a product with a product that sums over positions."""
    if node.name != "matmul" or len(node.parents) != 2 or not all(p.depends for p in node.parents):
        return False
    for inner in map(_source, node.parents):
        if inner.name == "matmul" and all(p.depends for p in inner.parents):
            left = inner.parents[0]
            summed = parts_of(left, len(left.shape) - 1)
            if summed and all(part.of is Meaning.POSITIONS for part in summed):
                return True
    return False

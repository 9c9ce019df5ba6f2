"""Coverage: operations of a forward pass that look like attention and are no site."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from attnviz.instrumentation.operations import LEARNED, PRODUCTS, keeps_positions
from attnviz.tracing.axis_meanings import parts_of
from attnviz.tracing.axis_parts import Meaning
from attnviz.tracing.detectors.registry import Finding
from attnviz.tracing.graph import OUTSIDE, Graph, Node
from attnviz.tracing.provenance import Mixing, is_normaliser, mixing_since_common, root, squash_of
from attnviz.tracing.weight_sources import is_comparison, mixes_heads

_OPERATORS = frozenset(
    "grid_sample grid_sampler grid_sampler_2d grid_sampler_3d deform_conv2d multi_head_attention_forward".split()
)
# Their numbers can also be equal, as at the start of training.
_BOUNDED = frozenset("sigmoid hardsigmoid softmax softmin".split())
_PLACES = {Meaning.POSITIONS, Meaning.FRAMES, Meaning.SAMPLES, Meaning.UNKNOWN}
_HIDDEN = "attention outside of any forward, or inside a scripted function or another library, cannot be captured"


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


def unclaimed_of(
    graph: Graph, findings: Sequence[tuple[Node, Finding]], hidden: Iterable[Node]
) -> tuple[Unclaimed, ...]:
    """The attention-like operations that are no site, each once, in the order of the forward pass.

    Args:
        graph: The forward pass.
        findings: The attention that was found.
        hidden: Attention in operations that no function mode receives.
    """
    claimed = {(node.module, node.name, node.position) for node, _ in findings}
    suspects = [*((node, _HIDDEN) for node in hidden), *_suspects(graph, findings)]
    suspects += [(node, f"its values could not be described: {why}") for node, why in _undescribed(graph)]
    found: dict[tuple[str, str, str, int], Unclaimed] = {}
    for node, why in sorted(suspects, key=lambda suspect: suspect[0].index):
        key = node.module, node.name, node.position
        if not node.is_visible or key not in claimed:
            found.setdefault((*key[:2], node.source, key[2]), Unclaimed(node.name, node.module, node.source, why))
    return tuple(found.values())


def _suspects(graph: Graph, findings: Sequence[tuple[Node, Finding]]) -> Iterator[tuple[Node, str]]:
    """Operations that look like attention by rules that the recognisers do not use."""
    explained = _explained(findings)
    for node in graph.nodes:
        if not node.depends:
            if _is_operator(node) or (node.name == "softmax" and any(root(p).name == "matmul" for p in _steps(node))):
                yield node, "attention among values that do not depend on the input: it is the same for every image"
            continue
        if id(node) in explained:
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


def _undescribed(graph: Graph) -> Iterator[tuple[Node, str]]:
    """Products and attention operators whose values could not be described, and the first other one of each reason."""
    seen: set[str] = set()
    for node, why in graph.untraceable:
        if why not in seen or node.name in PRODUCTS or _is_operator(node):
            seen.add(why)
            yield node, why


def _is_operator(node: Node) -> bool:
    return node.name.startswith("scaled_dot_product") or node.name in _OPERATORS


def _explained(findings: Iterable[tuple[Node, Finding]]) -> set[object]:
    """The steps of found attention: what computes ``g``, through at most one product of queries and keys."""
    found: set[object] = set()
    for node, finding in findings:
        found.add(id(node))
        values = root(finding.x)
        stack = [(operand, False) for operand in (finding.g, *finding.hidden)]
        while stack:
            current, is_compared = stack.pop()
            if not current.depends or current is values or (id(current), is_compared) in found:
                continue
            found.update({id(current), (id(current), is_compared)})
            is_product = is_comparison(current)
            if current.name in LEARNED and not (is_product or mixes_heads(current)):
                continue  # a learned operation computes queries, keys and scores
            # Behind the product are queries and keys: a sum or a concatenation there is one of features.
            if not (is_compared and (is_product or current.name in {"add", "cat"})):
                stack.extend((parent, is_compared or is_product) for parent in current.parents)
    return found


def _why_weighted(node: Node) -> str:
    """Why a product of two values that depend on the input looks like weights and values; empty if it does not."""
    pairs = itertools.permutations([(i, parent) for i, parent in enumerate(node.parents) if parent.depends], 2)
    for (index, parent), (_, other) in pairs:
        if root(parent) is root(other) or is_normaliser(parent):
            continue
        if node.name == "mul":
            is_spread = _spreads(parent, other)
            if root(parent).name == "exp":
                return "exponentials of the input multiply another value that depends on it, as unnormalised weights do"
            is_bounded = index in node.bounded or squash_of(parent) in _BOUNDED
            if is_bounded and is_spread and mixing_since_common(parent, other) is not Mixing.NONE:
                return "values between 0 and 1, computed from the input, multiply another value that depends on it"
        elif index in node.bounded or squash_of(parent) in _BOUNDED:
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


def _steps(node: Node) -> Iterator[Node]:
    """The values from which ``node`` was computed by functions of each number."""
    while node.parents:
        node = node.parents[0]
        yield node
        if not keeps_positions(node.name):
            return


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

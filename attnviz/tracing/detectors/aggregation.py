"""Recognise weighted sums: weights that a softmax normalised over an axis that is then summed.

The weights of branches can also be separate sigmoids. In a mixture of kernels, constants are weighed instead of values;
it is recognised by its use as the weight of a convolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from attnviz.core.records import Kind
from attnviz.instrumentation.operations import LEARNED
from attnviz.tracing.axis_parts import Meaning, Parts, heads_in
from attnviz.tracing.detectors.registry import RECOGNISERS, Finding
from attnviz.tracing.detectors.weighted_sum import WeightedSum
from attnviz.tracing.graph import Graph, Node
from attnviz.tracing.products import Product, multiplication, product_of, users
from attnviz.tracing.provenance import root
from attnviz.tracing.weight_sources import is_normalised, mixes_heads, softmax_axis, squash_name, squash_node


@RECOGNISERS.register("aggregation")
def recognise_weighted_sum(graph: Graph, node: Node) -> Finding | None:
    """A product with weights that sum to 1 over the summed axes, or with separate weights of branches or kernels."""
    if node.name not in {"mul", "matmul", "einsum"} or len(node.parents) < 2:
        return None
    for g_operand in (1, 0):
        g, x = node.parents[g_operand], node.parents[1 - g_operand]
        squash = squash_node(g) if g.depends else None
        if squash is not None and root(g) is not root(x):
            found = _summed(graph, node, g_operand, squash) or _separate(graph, node, g_operand, squash)
            if found is not None:
                return found
    return None


def _summed(graph: Graph, node: Node, g_operand: int, squash: Node) -> Finding | None:
    """A product that is summed over its weights, by itself or by a later operation."""
    product = product_of(graph, node, g_operand, squash)
    if product is None or not product.summed:
        return None
    # XCiT and EdgeNeXt compare vectors of unit norm. As weights, they have one number per position (SwiftFormer).
    if squash.name == "normalize" and (node.name != "mul" or {0, *product.varying} != {0, *product.summed}):
        return None
    if not product.x.depends and not _is_kernel(graph, node):
        return None
    weighted = product.summed
    if is_normalised(squash):
        dim = softmax_axis(squash)
        weighted = tuple(axis for axis in product.varying if _is_axis(product.g_parts(axis, squash), dim))
        if not weighted or not set(weighted) <= set(product.summed):
            return None
    elif product.x.depends and not all(_means(product.x_parts(axis), Meaning.BRANCHES) for axis in weighted):
        return None  # separate sigmoids weigh branches, or the kernels of CondConv
    return _finding(product, weighted)


def _finding(product: Product, weighted: tuple[int, ...]) -> Finding | None:
    batch = min(axis for axis in range(product.ndim) if axis not in weighted)
    rest = tuple(axis for axis in product.varying if axis not in {batch, *weighted})
    kind = _kind_of(product, weighted, rest)
    if kind is None:
        return None
    # Attention pooling and deformable attention keep heads in the batch axis; branches can be weighed at each token.
    parts = product.g_parts(batch)
    fold = heads_in(parts) if kind in {Kind.POOLING, Kind.PAIRWISE} else 1
    if kind is Kind.BRANCH and len(parts) > 1 and parts[0].of is Meaning.BATCH:
        fold = math.prod(part.size for part in parts[1:])
    groups: dict[Kind, tuple[tuple[int, ...], ...]] = {
        Kind.BRANCH: ((batch,), weighted, rest),
        Kind.POOLING: ((batch,), rest, weighted),
        Kind.TEMPORAL: ((batch,), weighted),
        Kind.PAIRWISE: ((batch,), (), rest, weighted),
    }
    if any(_unknown_sizes(product, group) > 1 for group in groups[kind]):
        return None
    use = WeightedSum(kind, product.operation, product.g_operand, groups[kind], product.ndim, product.shared, fold)
    return Finding(kind, use, product.g, product.x, squash_name(product.squash))


def _kind_of(product: Product, weighted: tuple[int, ...], rest: tuple[int, ...]) -> Kind | None:
    """The kind of a weighted sum; ``None`` for a comparison of queries and keys, which is pairwise attention."""
    if not product.x.depends:
        return Kind.BRANCH
    meanings = {part.of for axis in weighted for part in product.x_parts(axis)}
    sums_at_once = product.operation != "mul"
    if sums_at_once and (meanings & {Meaning.SAMPLES, Meaning.CHANNELS} or _compares(product)):
        return None
    if meanings <= {Meaning.BRANCHES, Meaning.GROUPS}:  # ResNeSt splits its branches from channels (radix)
        return Kind.BRANCH
    has_queries = not sums_at_once and any(not product.x_parts(axis) for axis in rest)
    if has_queries or Meaning.SAMPLES in meanings:  # each position weighs its neighbours (local self-attention)
        return Kind.PAIRWISE
    pooled = Kind.TEMPORAL if meanings == {Meaning.FRAMES} and not rest else Kind.POOLING
    return None if Meaning.CHANNELS in meanings else pooled


def _compares(product: Product) -> bool:
    """Whether the scores are products of queries and keys, or the product has an axis of queries (BAT)."""
    unshared = (axis for axis in product.varying if product.shared[axis] is None)
    if any(not _means(product.g_parts(axis), Meaning.CHANNELS, Meaning.GROUPS) for axis in unshared):
        return True
    stack, visited = [product.squash.parents[0]], set()
    while stack:
        node = stack.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        # A product with one constant vector scores positions; a constant matrix contains learned queries (Perceiver).
        if node.name in {"matmul", "einsum", "baddbmm"}:
            return sum(p.depends for p in node.parents) > 1 or min(node.shape[-2:]) > 1
        if node.name not in LEARNED or mixes_heads(node):
            stack.extend(p for p in node.parents if p.depends)
    return False


def _is_kernel(graph: Graph, node: Node) -> bool:
    """Whether a mixture of constants is the weight of a convolution (CondConv, DynamicConv)."""
    mixtures = [node, *(user for user in users(node) if node.name == "mul" and user.name == "sum")]
    roots = {id(root(m)) for m in mixtures}
    return any(
        user.name.startswith(("conv", "linear")) and any(id(root(p)) in roots for p in user.parents[1:])
        for mixture in mixtures
        for user in users(mixture)
    )


def _separate(graph: Graph, node: Node, g_operand: int, squash: Node) -> Finding | None:
    """Branches that are not stacked, as ``x1 * g[:, 0] + x2 * g[:, 1]``: one site per branch."""
    g, x = node.parents[g_operand], node.parents[1 - g_operand]
    if node.name != "mul" or not is_normalised(squash) or not x.depends or x.shape != node.shape:
        return None
    if math.prod(g.shape) >= math.prod(squash.shape) or not _is_added_to_sibling(graph, node, squash):
        return None
    product = multiplication(node, g_operand, (), squash)
    rest = tuple(axis for axis in product.varying if axis)
    if len(rest) > 1 or any(not _means(product.x_parts(axis), Meaning.CHANNELS, Meaning.GROUPS) for axis in rest):
        return None
    use = WeightedSum(Kind.BRANCH, "mul", g_operand, ((0,), (), rest), product.ndim, product.shared)
    return Finding(Kind.BRANCH, use, g, x, squash_name(squash))


def _is_added_to_sibling(graph: Graph, node: Node, squash: Node) -> bool:
    """Whether the product is added to another product with weights from the same softmax."""
    total: Node | None = node
    while total is not None:
        for term in _terms(total):
            if term is not node and term.name == "mul" and any(squash_node(p) is squash for p in term.parents[:2]):
                return True
        total = next((user for user in users(total) if user.name in {"add", "radd"}), None)
    return False


def _terms(total: Node) -> Iterator[Node]:
    stack = [root(total)]
    while stack:
        node = stack.pop()
        if node.name in {"add", "radd"}:
            stack.extend(root(p) for p in node.parents)
        else:
            yield node


def _is_axis(parts: Parts, axis: int | None) -> bool:
    return bool(parts) and all(isinstance(part.of, int) and part.of == axis for part in parts)


def _means(parts: Parts, *meanings: Meaning) -> bool:
    return bool(parts) and all(part.of in meanings for part in parts)


def _unknown_sizes(product: Product, group: tuple[int, ...]) -> int:
    """Number of axes of a group whose size ``x`` does not determine."""
    if len(group) < 2:
        return 0
    return sum(not product.x_parts(axis) for axis in group)

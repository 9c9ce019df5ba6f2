"""Recognise weighted sums: weights that a softmax normalised over the very axis that is then summed.

Branches may also be weighed by a sigmoid each, and kernels may take the place of branches: a mixture of constant
kernels is known by its use as the weight of a convolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnviz.core.records import Kind
from attnviz.core.uses import Operand
from attnviz.instrumentation.operations import SLICING, TRANSPARENT
from attnviz.tracing.axis_meanings import Meaning, Parts, heads_in, parts_of, reduced_axes
from attnviz.tracing.detectors.registry import RECOGNISERS, Finding
from attnviz.tracing.graph import Graph, Node
from attnviz.tracing.provenance import ancestors, is_logistic, is_normalised_exponential, root, softmax_axis


@dataclass(frozen=True, slots=True)
class _Operand:
    """A candidate for ``g``: the operands of one product, and how their axes go together.

    Attributes:
        which: Which operand is ``g``.
        g: The weights.
        x: What they are applied to.
        ndim: How many axes the operation sees ``g`` with.
        shared: For each of these, the axis of ``x`` that it goes with, from the end; ``None`` for none.
        summed: Which of these are summed, at once or later.
        operation: As in :class:`WeightedSum`.
        weigher: The squash that the weights come from.
    """

    which: int
    g: Node
    x: Node
    ndim: int
    shared: tuple[int | None, ...]
    summed: tuple[int, ...]
    operation: str
    weigher: Node

    def g_parts(self, axis: int, stop: Node | None = None) -> Parts:
        """The parts of an axis of ``g`` as the operation sees it."""
        own = axis - self.ndim + len(self.g.shape)
        return parts_of(self.g, own, stop) if own >= 0 else ()

    def x_parts(self, axis: int) -> Parts:
        """The parts of the axis of ``x`` that goes with an axis of ``g``."""
        from_end = self.shared[axis]
        own = -1 if from_end is None else from_end + len(self.x.shape)
        return parts_of(self.x, own) if own >= 0 else ()

    @property
    def varying(self) -> tuple[int, ...]:
        """The axes along which ``g`` holds more than one value."""
        pad = self.ndim - len(self.g.shape)
        sizes = zip(self.g.shape, self.g.strides, strict=True) if self.g.strides else ()
        return tuple(axis + pad for axis, (size, stride) in enumerate(sizes) if size > 1 and stride)


@RECOGNISERS.register("aggregation")
def recognise_weighted_sum(graph: Graph, node: Node) -> Finding | None:
    """A product whose weights sum to 1 over what is summed, or weigh branches or kernels one by one."""
    if node.name not in {"mul", "matmul", "einsum"} or len(node.parents) < 2:
        return None
    for which in (1, 0):
        g, x = node.parents[which], node.parents[1 - which]
        weigher = weigher_of(g) if g.depends else None
        if weigher is not None and root(g) is not root(x):
            found = _normalised(graph, node, which, weigher) or _separate(graph, node, which, weigher)
            if found is not None:
                return found
    return None


def weigher_of(node: Node) -> Node | None:
    """The bounded function that weights come from, before they were only cut, rearranged or scaled by constants."""
    while node.name not in _WEIGHERS and not is_normalised_exponential(node) and not is_logistic(node):
        inner = [p for p in node.parents if p.depends]
        if not inner or node.name not in TRANSPARENT | SLICING | {"mul", "div", "masked_fill"}:
            return None
        if node.name in {"mul", "div"} and len(inner) > 1:
            return _modulated(inner)
        node = inner[0]
    return node


def _modulated(factors: list[Node]) -> Node | None:
    """The softmax among two factors of one shape: weights that something else scales position by position."""
    if factors[0].shape != factors[1].shape:
        return None
    found = [weigher for weigher in map(weigher_of, factors) if weigher is not None and _is_normalised(weigher)]
    return found[0] if len(found) == 1 else None


_WEIGHERS = frozenset({"softmax", "softmin", "sigmoid", "hardsigmoid", "normalize"})


def _is_normalised(weigher: Node) -> bool:
    return weigher.name.startswith("soft") or weigher.name == "normalize" or is_normalised_exponential(weigher)


def _name_of(weigher: Node) -> str:
    by_hand = "softmax" if is_normalised_exponential(weigher) else "sigmoid"
    return weigher.name if weigher.name in _WEIGHERS else by_hand


def _normalised(graph: Graph, node: Node, which: int, weigher: Node) -> Finding | None:
    """The sum follows in the product, or in an operation of its own."""
    operand = _operand(graph, node, which, weigher)
    if operand is None or not operand.summed:
        return None
    # Vectors of length 1 are compared everywhere; weights of length 1 have one number for each position (SwiftFormer).
    if weigher.name == "normalize" and (node.name != "mul" or set(operand.varying) != {0, *operand.summed}):
        return None
    if not operand.x.depends and not _is_kernel(graph, node):
        return None
    weighted = operand.summed
    if _is_normalised(weigher):
        dim = softmax_axis(weigher)
        weighted = tuple(axis for axis in operand.varying if _is_axis(operand.g_parts(axis, weigher), dim))
        if not weighted or not set(weighted) <= set(operand.summed):
            return None
    elif operand.x.depends and not all(_means(operand.x_parts(axis), Meaning.BRANCHES) for axis in weighted):
        return None
    return _finding(operand, weighted)


def _finding(operand: _Operand, weighted: tuple[int, ...]) -> Finding | None:
    batch = min(axis for axis in range(operand.ndim) if axis not in weighted)
    rest = tuple(axis for axis in operand.varying if axis not in {batch, *weighted})
    kind = _kind_of(operand, weighted, rest)
    if kind is None:
        return None
    fold = 1
    if kind in {Kind.POOLING, Kind.PAIRWISE}:
        fold = heads_in(operand.g_parts(batch))
    groups: dict[Kind, tuple[tuple[int, ...], ...]] = {
        Kind.BRANCH: ((batch,), weighted, rest),
        Kind.POOLING: ((batch,), rest, weighted),
        Kind.TEMPORAL: ((batch,), weighted),
        Kind.PAIRWISE: ((batch,), (), rest, weighted),
    }
    if any(_unknown_sizes(operand, group) > 1 for group in groups[kind]):
        return None
    use = WeightedSum(kind, operand.operation, operand.which, groups[kind], operand.ndim, operand.shared, fold)
    return Finding(kind, use, operand.g, operand.x, _name_of(operand.weigher))


def _kind_of(operand: _Operand, weighted: tuple[int, ...], rest: tuple[int, ...]) -> Kind | None:
    """What the weights sum over; ``None`` where queries were compared with keys, which is pairwise attention."""
    if not operand.x.depends:
        return Kind.BRANCH
    meanings = {part.of for axis in weighted for part in operand.x_parts(axis)}
    summing = operand.operation != "mul"
    if summing and (meanings & {Meaning.SAMPLES, Meaning.CHANNELS} or _compares(operand)):
        return None
    if meanings <= {Meaning.BRANCHES, Meaning.GROUPS}:
        return Kind.BRANCH
    queries = not summing and any(not operand.x_parts(axis) for axis in rest)
    if queries or Meaning.SAMPLES in meanings:
        return Kind.PAIRWISE
    pooled = Kind.TEMPORAL if meanings == {Meaning.FRAMES} and not rest else Kind.POOLING
    return None if Meaning.CHANNELS in meanings else pooled


def _compares(operand: _Operand) -> bool:
    """Whether the scores are products of two values, or there is a query for each key."""
    keys = [operand.g.shape[axis] for axis in operand.summed]
    if any(operand.g.shape[axis] == keys[0] for axis in range(1, operand.ndim) if axis not in operand.summed):
        return True
    family = {id(a) for a in ancestors(operand.x)}
    stack, seen = [operand.weigher.parents[0]], set()
    while stack:
        node = stack.pop()
        if id(node) in seen or id(node) in family:
            continue
        seen.add(id(node))
        # A product with one constant vector only scores each position; a matrix holds queries, learned as they may be.
        if node.name in {"matmul", "einsum", "baddbmm"}:
            return sum(p.depends for p in node.parents) > 1 or min(node.shape[-2:]) > 1
        stack.extend(p for p in node.parents if p.depends)
    return False


def _operand(graph: Graph, node: Node, which: int, weigher: Node) -> _Operand | None:
    g, x = node.parents[which], node.parents[1 - which]
    if node.name == "mul":
        ndim = len(node.shape)
        shared: tuple[int | None, ...] = tuple(range(-ndim, 0))
        return _Operand(which, g, x, ndim, shared, _summed_later(graph, node), "mul", weigher)
    if node.name == "matmul":
        ndim, other = len(g.shape), len(x.shape)
        if min(ndim, other) < 2:
            return None
        summed = ndim - 2 + (which == 0)
        lead = tuple(range(-ndim, -2))
        own = (None, -2) if which == 0 else (-1, None)
        return _Operand(which, g, x, ndim, (*lead, *own), (summed,), "matmul", weigher)
    return _einsum_operand(node, which, weigher)


def _einsum_operand(node: Node, which: int, weigher: Node) -> _Operand | None:
    equation = str(node.args[0]).replace(" ", "")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if not arrow or "." in equation or len(terms) != 2 or any(len(set(t)) != len(t) for t in terms):
        return None
    mine, other = terms[which], terms[1 - which]
    shared = tuple(other.index(letter) - len(other) if letter in other else None for letter in mine)
    summed = tuple(axis for axis, letter in enumerate(mine) if letter not in result and letter in other)
    g, x = node.parents[which], node.parents[1 - which]
    return _Operand(which, g, x, len(mine), shared, summed, equation, weigher)


def _summed_later(graph: Graph, node: Node) -> tuple[int, ...]:
    """The axes of a product over which the next operation sums it."""
    for user in _users(graph, node):
        if user.name in {"sum", "mean"}:
            before = user.parents[0]
            parts = [part for axis in reduced_axes(user) for part in parts_of(before, axis, node)]
            axes = tuple(part.of for part in parts if isinstance(part.of, int))
            if len(axes) < len(node.shape):
                return axes
    return ()


def _users(graph: Graph, node: Node) -> Iterator[Node]:
    """The operations that take ``node``, perhaps rearranged."""
    same = root(node)
    for user in graph.nodes[node.index + 1 :]:
        if user.name not in TRANSPARENT and any(root(p) is same for p in user.parents):
            yield user


def _is_kernel(graph: Graph, node: Node) -> bool:
    """Whether a mixture of constants is used as the weights of a convolution."""
    mixtures = [node, *(user for user in _users(graph, node) if node.name == "mul" and user.name == "sum")]
    roots = {id(root(m)) for m in mixtures}
    return any(
        user.name.startswith(("conv", "linear")) and any(id(root(p)) in roots for p in user.parents[1:])
        for mixture in mixtures
        for user in _users(graph, mixture)
    )


def _separate(graph: Graph, node: Node, which: int, weigher: Node) -> Finding | None:
    """Branches that were never stacked: ``x1 * g[:, 0] + x2 * g[:, 1]``, one site for each."""
    g, x = node.parents[which], node.parents[1 - which]
    if node.name != "mul" or not _is_normalised(weigher) or not x.depends or x.shape != node.shape:
        return None
    if math.prod(g.shape) >= math.prod(weigher.shape) or not _added_to_its_like(graph, node, weigher):
        return None
    ndim = len(node.shape)
    operand = _Operand(which, g, x, ndim, tuple(range(-ndim, 0)), (), "mul", weigher)
    rest = tuple(axis for axis in operand.varying if axis)
    if len(rest) > 1 or any(not _means(operand.x_parts(axis), Meaning.CHANNELS, Meaning.GROUPS) for axis in rest):
        return None
    use = WeightedSum(Kind.BRANCH, "mul", which, ((0,), (), rest), ndim, operand.shared)
    return Finding(Kind.BRANCH, use, g, x, _name_of(weigher))


def _added_to_its_like(graph: Graph, node: Node, weigher: Node) -> bool:
    """Whether the product is added to another product with weights from the same softmax."""
    total: Node | None = node
    while total is not None:
        for leaf in _terms(total):
            if leaf is not node and leaf.name == "mul" and any(weigher_of(p) is weigher for p in leaf.parents[:2]):
                return True
        total = next((user for user in _users(graph, total) if user.name in {"add", "radd"}), None)
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


def _unknown_sizes(operand: _Operand, group: tuple[int, ...]) -> int:
    """How many axes of a group have sizes that ``x`` does not tell."""
    if len(group) < 2:
        return 0
    return sum(not operand.x_parts(axis) for axis in group)


@dataclass(frozen=True, slots=True)
class WeightedSum:
    """``f(g, x)``: the product of ``g`` and ``x``, summed at once by ``matmul`` and ``einsum``, or later after ``mul``.

    Attributes:
        kind: ``BRANCH``: ``g`` is ``(N, B, C)``, ``C`` being what else the weights vary over, 1 where nothing.
            ``POOLING``: ``(N, heads, HW)``, ``heads`` being every other axis. ``TEMPORAL``: ``(N, T)``.
            ``PAIRWISE``: ``(N, heads, Q, K)``, where each query weighs its own ``K`` samples or neighbours.
        operation: ``"mul"``, ``"matmul"``, or the equation of an Einstein sum.
        g_operand: Which operand is ``g``.
        groups: For each canonical axis, the axes of ``g`` that it takes, as the operation sees them.
        ndim: How many axes the operation sees ``g`` with.
        shared: For each of these axes, the axis of ``x`` that it goes with, counted from the end; ``None`` for none.
        fold: How many heads the first canonical axis holds for each image.
    """

    kind: Kind
    operation: str
    g_operand: int
    groups: tuple[tuple[int, ...], ...]
    ndim: int
    shared: tuple[int | None, ...]
    fold: int = 1

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The canonical ``g``, and ``x``, from the operands; ``g`` is a view wherever its axes allow one."""
        given = [*args, *kwargs.values()]
        if self.operation not in _FUNCTIONS:
            given = list(given[1]) if isinstance(given[1], list | tuple) else given[1:]
        g, x = given[self.g_operand], given[1 - self.g_operand]
        g = g.reshape((1,) * (self.ndim - g.ndim) + tuple(g.shape))
        for axis in self._others:
            g = g.narrow(axis, 0, 1)
        shape = [math.prod(g.shape[axis] for axis in group) for group in self.groups]
        if self.fold > 1:
            shape[:2] = shape[0] // self.fold, shape[1] * self.fold
        return g.permute(self._order).reshape(shape), x

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """The product of ``g`` and ``x`` as the operation computes it.

        Args:
            g: The weights, in the canonical axes of :attr:`kind`.
            x: What they are applied to, in the operation's own layout.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"a weighted sum has one operand, got {len(x)}")
        g = self._spread(g, x)
        operands = (g, x) if self.g_operand == 0 else (x, g)
        function = _FUNCTIONS.get(self.operation)
        return function(*operands) if function else torch.einsum(self.operation, *operands)

    def _spread(self, g: Tensor, x: Tensor) -> Tensor:
        """The canonical ``g`` in the layout of the operation's operand."""
        extents = list(g.shape)
        if self.fold > 1:
            extents[:2] = extents[0] * self.fold, extents[1] // self.fold
        sizes = [size for n, group in zip(extents, self.groups, strict=True) for size in self._split(n, group, x)]
        order = self._order
        inverse = [order.index(axis) for axis in range(self.ndim)]
        return g.reshape(*sizes, *(1 for _ in self._others)).permute(inverse)

    def _split(self, extent: int, group: tuple[int, ...], x: Tensor) -> list[int]:
        """The sizes of a group's axes: those that ``x`` has too are known, the one that it lacks is what is left."""
        if len(group) < 2:
            return [extent] * len(group)
        shared = [self.shared[axis] for axis in group]
        sizes = [1 if axis is None or x.ndim < -axis else x.shape[axis] for axis in shared]
        left = extent // math.prod(sizes)
        return [left if size == 1 else size for size in sizes] if left > 1 else sizes

    @property
    def _others(self) -> list[int]:
        """The axes along which ``g`` does not vary."""
        taken = {axis for group in self.groups for axis in group}
        return [axis for axis in range(self.ndim) if axis not in taken]

    @property
    def _order(self) -> list[int]:
        return [axis for group in self.groups for axis in group] + self._others


_FUNCTIONS = {"mul": torch.mul, "matmul": torch.matmul}

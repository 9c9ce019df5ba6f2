"""Products of weights and values, and how the axes of the two operands correspond."""

from __future__ import annotations

from dataclasses import dataclass

from attnviz.instrumentation.operations import TRANSPARENT
from attnviz.tracing.axis_meanings import parts_of
from attnviz.tracing.axis_parts import Parts
from attnviz.tracing.axis_rules import reduced_axes
from attnviz.tracing.equations import equation_of
from attnviz.tracing.graph import Graph, Node
from attnviz.tracing.provenance import root


@dataclass(frozen=True, slots=True)
class Product:
    """A product with a candidate for ``g`` as one operand. Axes are those with which the operation uses ``g``.

    Attributes:
        g_operand: The operand that is ``g``, 0 or 1.
        g: The weights.
        x: The values.
        ndim: Number of axes of ``g``.
        shared: For each axis, the corresponding axis of ``x`` counted from the end; ``None`` for none.
        summed: Axes that are summed, at once or later.
        operation: As in :class:`WeightedSum`.
        squash: The bounded function that computed the weights.
    """

    g_operand: int
    g: Node
    x: Node
    ndim: int
    shared: tuple[int | None, ...]
    summed: tuple[int, ...]
    operation: str
    squash: Node

    def g_parts(self, axis: int, stop: Node | None = None) -> Parts:
        """The parts of an axis of ``g``."""
        own = axis - self.ndim + len(self.g.shape)
        return parts_of(self.g, own, stop) if own >= 0 else ()

    def x_parts(self, axis: int) -> Parts:
        """The parts of the axis of ``x`` that corresponds to an axis of ``g``."""
        from_end = self.shared[axis]
        own = -1 if from_end is None else from_end + len(self.x.shape)
        return parts_of(self.x, own) if own >= 0 else ()

    @property
    def varying(self) -> tuple[int, ...]:
        """The axes along which ``g`` has more than one value."""
        pad = self.ndim - len(self.g.shape)
        sizes = zip(self.g.shape, self.g.strides, strict=True) if self.g.strides else ()
        return tuple(axis + pad for axis, (size, stride) in enumerate(sizes) if size > 1 and stride)


def product_of(graph: Graph, node: Node, g_operand: int, squash: Node) -> Product | None:
    """``node``, one of ``mul``, ``matmul`` and ``einsum``, as a product; ``None`` for an unsupported form."""
    g, x = node.parents[g_operand], node.parents[1 - g_operand]
    if node.name == "mul":
        return multiplication(node, g_operand, _summed_later(graph, node), squash)
    if node.name == "einsum":
        return _einsum(node, g_operand, squash)
    ndim = len(g.shape)
    if min(ndim, len(x.shape)) < 2:
        return None
    summed = ndim - 2 + (g_operand == 0)
    own = (None, -2) if g_operand == 0 else (-1, None)
    return Product(g_operand, g, x, ndim, (*range(-ndim, -2), *own), (summed,), "matmul", squash)


def multiplication(node: Node, g_operand: int, summed: tuple[int, ...], squash: Node) -> Product:
    """An elementwise product with broadcasting."""
    g, x, ndim = node.parents[g_operand], node.parents[1 - g_operand], len(node.shape)
    return Product(g_operand, g, x, ndim, tuple(range(-ndim, 0)), summed, "mul", squash)


def _einsum(node: Node, g_operand: int, squash: Node) -> Product | None:
    equation = equation_of(node)
    if equation is None or len(equation.terms) != 2:
        return None
    mine, other, result = equation.terms[g_operand], equation.terms[1 - g_operand], equation.result
    shared = tuple(other.index(letter) - len(other) if letter in other else None for letter in mine)
    summed = tuple(axis for axis, letter in enumerate(mine) if letter not in result and letter in other)
    g, x = node.parents[g_operand], node.parents[1 - g_operand]
    return Product(g_operand, g, x, len(mine), shared, summed, str(equation), squash)


def _summed_later(graph: Graph, node: Node) -> tuple[int, ...]:
    """The axes of a product over which a later operation sums or averages it."""
    for user in users(node):
        if user.name in {"sum", "mean"}:
            before = user.parents[0]
            parts = [part for axis in reduced_axes(user) for part in parts_of(before, axis, node)]
            axes = tuple(part.of for part in parts if isinstance(part.of, int))
            if len(axes) < len(node.shape):
                return axes
    return ()


def users(node: Node) -> list[Node]:
    """The operations with ``node`` as an operand, rearranged or not, in the order of the forward pass."""
    found: dict[int, Node] = {}
    stack = [root(node)]
    while stack:
        for user in stack.pop().users:
            if user.name in TRANSPARENT and root(user) is root(node):
                stack.append(user)
            else:
                found[user.index] = user
    return [found[index] for index in sorted(found) if index > node.index]

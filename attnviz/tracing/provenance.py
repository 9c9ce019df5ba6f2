"""How a value of a traced forward pass was computed: its ancestors, mixing, squash and channel axis."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from enum import Flag, auto

from attnviz.instrumentation.operations import AFFINE, LEARNED, POOLED, SLICING, SQUASHES, TRANSPARENT, channel_position
from attnviz.tracing.axis_meanings import parts_of
from attnviz.tracing.axis_parts import Meaning
from attnviz.tracing.axis_rules import permutation
from attnviz.tracing.graph import Node


class Mixing(Flag):
    """How positions or channels were mixed between one value and another."""

    NONE = 0
    POOLED = auto()
    LEARNED = auto()


def root(node: Node) -> Node:
    """The value before it was rearranged, cast or copied."""
    while node.name in TRANSPARENT and node.parents:
        node = node.parents[0]
    return node


def mixing_of(node: Node) -> Mixing:
    """How the operation that computed ``node`` mixes positions or channels of its operands."""
    if node.name in LEARNED:
        # A depthwise 1 × 1 convolution is a learned scale.
        return Mixing.NONE if _is_elementwise_conv(node) else Mixing.LEARNED
    if node.name in POOLED:
        # max(a, b) and min(a, b) of two tensors compare them elementwise.
        is_elementwise = node.name in {"max", "min"} and len(node.parents) > 1
        return Mixing.NONE if is_elementwise else Mixing.POOLED
    return Mixing.NONE


def mixing_between(x: Node, g: Node) -> Mixing | None:
    """How ``x`` was mixed on all paths to ``g``; ``None`` if ``g`` does not descend from ``x``."""
    source = root(x)
    if source is root(g):
        return None
    found: Mixing | None = None
    stack, visited = [(root(g), Mixing.NONE)], set()
    while stack:
        node, mixing = stack.pop()
        if node is source:
            found = mixing if found is None else found | mixing
            continue
        if (id(node), mixing) in visited or node.index < source.index:
            continue
        visited.add((id(node), mixing))
        stack.extend((parent, mixing | mixing_of(node)) for parent in node.parents if parent.depends)
    return found


def ancestors(node: Node) -> Iterator[Node]:
    """``node`` and every value from which it was computed that depends on the inputs, nearest first."""
    queue, visited = [node], {id(node)}
    while queue:
        current = queue.pop(0)
        yield current
        for parent in current.parents:
            if parent.depends and id(parent) not in visited:
                visited.add(id(parent))
                queue.append(parent)


def mixing_since_common(g: Node, x: Node) -> Mixing:
    """How ``g`` is mixed since the nearest common ancestors of ``g`` and ``x``.

    Both are followed back in the reverse order of the forward pass, so that the walk ends where they meet.
    """
    mixing = Mixing.NONE
    order = itertools.count()  # nodes cannot be compared
    waiting = [(-root(node).index, is_g, next(order), root(node)) for node, is_g in ((g, True), (x, False))]
    heapq.heapify(waiting)
    of_x: set[int] = set()
    visited: set[tuple[int, bool]] = set()
    pending = 1  # nodes of g that wait
    while pending:
        _, is_g, _, node = heapq.heappop(waiting)
        pending -= is_g
        if (node.index, is_g) in visited or (is_g and node.index in of_x):
            continue
        visited.add((node.index, is_g))
        if is_g:
            mixing |= mixing_of(node)
        else:
            of_x.add(node.index)
        for parent in node.parents:
            if parent.depends:
                heapq.heappush(waiting, (-parent.index, is_g, next(order), parent))
                pending += is_g
    return mixing


def descends_only(g: Node, x: Node) -> bool:
    """Whether every path from the inputs to ``g`` passes ``x``."""
    source = root(x)
    stack, visited = [g], {id(g)}
    while stack:
        node = stack.pop()
        if node is source:
            continue
        parents = [parent for parent in node.parents if parent.depends]
        if not parents or node.index < source.index:
            return False
        for parent in parents:
            if id(parent) not in visited:
                visited.add(id(parent))
                stack.append(parent)
    return True


def squash_of(node: Node) -> str | None:
    """Name of the bounded function that computed ``node``, up to rescaling and rearranging; ``None`` for none."""
    if node.name in SQUASHES:
        return node.name
    if is_logistic(node):
        return "sigmoid"
    if node.name in TRANSPARENT | SLICING:
        return squash_of(node.parents[0]) if node.parents else None
    if node.name in AFFINE:  # BAM and GCT add 1, residual attention and GhostNetV2 interpolate their sigmoid
        found = [squash_of(parent) for parent in node.parents if parent.depends]
        return found[0] if found and all(found) else None
    return None


def is_normaliser(g: Node) -> bool:
    """Whether an unbounded ``g`` is the reciprocal of a sum or of a norm, as in normalisation and linear attention."""
    while g.name in TRANSPARENT | SLICING and g.parents:
        g = g.parents[0]
    if g.name in {"reciprocal", "rsqrt"}:
        return not is_logistic(g)
    if g.name == "div":
        return not g.parents[0].depends or len(g.parents) < 2
    exponent = g.args[1] if g.name == "pow" and len(g.args) > 1 else 1
    return isinstance(exponent, int | float) and exponent < 0


def is_logistic(node: Node) -> bool:
    """Whether ``node`` is a hand-written sigmoid, ``1 / (1 + exp(-x))``."""
    if node.name not in {"div", "reciprocal"} or not node.parents:
        return False
    denominator = node.parents[-1]
    is_fixed = len(node.parents) == 1 or not node.parents[0].depends
    return is_fixed and denominator.name == "add" and any(p.name == "exp" for p in denominator.parents)


def channel_axis(node: Node) -> int | None:
    """The axis of ``node`` that holds the channels, from the operations that computed it; ``None`` if unknown."""
    while True:
        layout, ndim = channel_position(node.name), len(node.shape)
        if layout == "first":
            return 1 if ndim > 1 else None
        if layout == "last":
            return ndim - 1
        if node.name == "input":
            return _channels_by_meaning(node) if ndim in {4, 5} else None
        # FocalNet and CSATv2 gate permuted values.
        if node.name in {"permute", "transpose", "movedim", "swapaxes", "flatten"}:
            before = channel_axis(node.parents[0])
            return None if before is None else axis_moved(node, before)
        same = [p for p in node.parents if p.depends and len(p.shape) == ndim]
        if not same:
            return _channels_by_meaning(node)
        node = max(same, key=lambda p: p.shape)


def _channels_by_meaning(node: Node) -> int | None:
    """The one axis that runs over channels, followed back through changes of rank such as a sum over branches."""
    meanings = [{part.of for part in parts_of(node, axis)} for axis in range(len(node.shape))]
    found = [axis for axis, of_axis in enumerate(meanings) if of_axis == {Meaning.CHANNELS}]
    return found[0] if len(found) == 1 else None


def axis_moved(node: Node, axis: int) -> int | None:
    """The number of an operand's axis after a permutation, or after a flattening of the axes behind it."""
    if node.name == "flatten":
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0)
        return axis if axis < int(dim) % len(node.parents[0].shape) else None
    order = permutation(node)
    return None if order is None else order.index(axis)


def _is_elementwise_conv(node: Node) -> bool:
    """Whether a convolution only scales each channel: one weight per channel, no neighbours."""
    if not node.name.startswith("conv") or len(node.parents) < 2:
        return False
    weight = node.parents[1].shape
    return len(weight) > 2 and weight[1] == 1 and all(k == 1 for k in weight[2:]) and weight[0] == node.shape[1] != 1

"""What an axis of a value runs over: channels, positions, frames, branches; found by following it back.

An axis can hold several things at once, such as ``(N T)`` or ``(H W)``: it is a sequence of parts, the slowest first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from attnviz.tracing.axis_parts import Meaning, Part, Parts
from attnviz.tracing.axis_rules import RULES, Step, pointwise, unknown
from attnviz.tracing.graph import Node

_RESHAPING = frozenset("view reshape view_as reshape_as flatten unflatten squeeze unsqueeze ravel".split())


def parts_of(node: Node, axis: int, stop: Node | None = None) -> Parts:
    """The parts of one axis of ``node``, the slowest first; empty for an axis of size 1.

    Args:
        node: The value.
        axis: The axis, from 0.
        stop: A value at which the search stops; parts that come from it are axis numbers of this value.
    """
    key = axis, stop
    if key not in node.cache:
        node.cache[key] = _parts(node, axis, stop)
    cached: Parts = node.cache[key]
    return cached


def _parts(node: Node, axis: int, stop: Node | None) -> Parts:
    size = node.shape[axis]
    while size != 1:
        if node is stop:
            return (Part(axis, size),)
        step = _reshaped(node, axis, stop) if node.name in _RESHAPING else RULES.get(node.name, pointwise)(node, axis)
        if isinstance(step, tuple):
            return step
        if len(step) != 1:
            return tuple(part for parent, before in step for part in parts_of(parent, before, stop))
        (node, axis) = step[0]
        if node.shape[axis] != size:
            return _resized(parts_of(node, axis, stop), size)
    return ()


def _resized(parts: Parts, size: int) -> Parts:
    """The same meaning with another size, after slicing, padding or striding."""
    meanings = {part.of for part in parts}
    return (Part(meanings.pop() if len(meanings) == 1 else Meaning.UNKNOWN, size),)


def _reshaped(node: Node, axis: int, stop: Node | None) -> Step:
    """``view`` and similar operations, which merge axes and split them again."""
    before = node.parents[0]
    for olds, news in _blocks(before.shape, node.shape):
        if axis not in news:
            continue
        if len(olds) == len(news) == 1:
            return [(before, olds[0])]
        parts = tuple(part for old in olds for part in parts_of(before, old, stop))
        return _split(parts, [node.shape[new] for new in news], news.index(axis))
    return unknown(node, axis)


def _blocks(before: tuple[int, ...], after: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """The smallest runs of axes with equal numbers of elements before and after; axes of size 1 are left out."""
    olds, news = ([a for a, size in enumerate(shape) if size != 1] for shape in (before, after))
    while olds and news:
        left, right = [olds.pop(0)], [news.pop(0)]
        while (one := math.prod(before[a] for a in left)) != (other := math.prod(after[a] for a in right)):
            side, rest = (left, olds) if one < other else (right, news)
            if not rest:
                return
            side.append(rest.pop(0))
        yield left, right


def _split(parts: Parts, sizes: list[int], index: int) -> Parts:
    """The parts of axis ``index`` after ``parts`` were split into axes of these sizes."""
    left = list(parts)
    piece: list[Part] = []
    for size in sizes[: index + 1]:
        piece, remaining = [], size
        while remaining > 1:
            if not left:
                return (Part(Meaning.UNKNOWN, sizes[index]),)
            part = left.pop(0)
            if part.size > remaining and part.size % remaining == 0:
                left.insert(0, Part(part.of, part.size // remaining))
                # The slow part of split channels counts heads (ViT) or the radix (ResNeSt).
                part = Part(Meaning.GROUPS if part.of is Meaning.CHANNELS else part.of, remaining)
            if remaining % part.size:
                return (Part(Meaning.UNKNOWN, sizes[index]),)
            piece.append(part)
            remaining //= part.size
    return tuple(piece)

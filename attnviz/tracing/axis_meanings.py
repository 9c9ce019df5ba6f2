"""What an axis of a value stands for: channels, positions, frames, branches; found by following it back.

An axis may hold several things at once, such as ``(N T)`` or ``(H W)``: it is told as parts, the slowest first.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from attnviz.tracing.graph import Node


class Meaning(enum.Enum):
    """What an axis runs over."""

    BATCH = "images"
    CHANNELS = "channels"
    GROUPS = "groups that channels were split into: heads, radix"
    POSITIONS = "positions"
    FRAMES = "frames"
    BRANCHES = "values that were stacked"
    SAMPLES = "sampled points, or the neighbours of a position"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an axis.

    Attributes:
        of: What it runs over; a number for an axis of the value at which the search was told to stop.
        size: How many steps it has, more than 1.
    """

    of: Meaning | int
    size: int


Parts = tuple[Part, ...]
Step = Parts | list[tuple[Node, int]]
"""What one operation tells about an axis: its parts, or the axes of operands that it was made from."""


def parts_of(node: Node, axis: int, stop: Node | None = None) -> Parts:
    """The parts of one axis of ``node``, slowest first; none for an axis of size 1.

    Args:
        node: The value.
        axis: Which of its axes, from 0.
        stop: A value whose axes are told by their numbers, where the search meets it.
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
        step = _reshaped(node, axis, stop) if node.name in _RESHAPING else _STEPS.get(node.name, _pointwise)(node, axis)
        if isinstance(step, tuple):
            return step
        if len(step) != 1:
            return tuple(part for parent, before in step for part in parts_of(parent, before, stop))
        (node, axis) = step[0]
        if node.shape[axis] != size:
            return _resized(parts_of(node, axis, stop), size)
    return ()


def heads_in(parts: Parts) -> int:
    """How many heads or groups a batch axis ``(N heads)`` holds for each image; 1 where it holds anything else."""
    heads = {Meaning.GROUPS, Meaning.CHANNELS}
    if any(part.of not in heads | {Meaning.BATCH} for part in parts):
        return 1
    return math.prod(part.size for part in parts if part.of in heads)


def _one(of: Meaning, node: Node, axis: int) -> Parts:
    return (Part(of, node.shape[axis]),)


def _unknown(node: Node, axis: int) -> Parts:
    return _one(Meaning.UNKNOWN, node, axis)


def _resized(parts: Parts, size: int) -> Parts:
    """The same meaning with another size: something was cut off, padded or strided over."""
    meanings = {part.of for part in parts}
    return (Part(meanings.pop() if len(meanings) == 1 else Meaning.UNKNOWN, size),)


def _pointwise(node: Node, axis: int) -> Step:
    """The operand that has this axis, where operands are broadcast."""
    from_end = axis - len(node.shape)
    fitting = [p for p in node.parents if len(p.shape) >= -from_end and p.shape[from_end] == node.shape[axis]]
    fitting = [p for p in fitting if len(p.shape) <= len(node.shape)]
    best = max(fitting, key=lambda p: (p.depends, len(p.shape), p.shape), default=None)
    return _unknown(node, axis) if best is None else [(best, len(best.shape) + from_end)]


def _first(node: Node, axis: int) -> Step:
    return [(node.parents[0], axis)]


def _leaf(node: Node, axis: int) -> Step:
    """Axes of the model's inputs: images ``(N, C, H, W)``, clips with frames first or second, sequences."""
    ndim = len(node.shape)
    if axis == 0:
        return _one(Meaning.BATCH, node, axis)
    if ndim == 5 and axis < 3:
        channels_first = node.shape[1] in {1, 3} and node.shape[2] not in {1, 3}
        return _one(Meaning.CHANNELS if (axis == 1) == channels_first else Meaning.FRAMES, node, axis)
    if ndim == 3:
        return _one(Meaning.FRAMES if axis == 1 else Meaning.CHANNELS, node, axis)
    return _one(Meaning.POSITIONS if axis > 1 else Meaning.CHANNELS, node, axis)


def _convolution(node: Node, axis: int) -> Step:
    dims = 3 if "3d" in node.name else 2 if "2d" in node.name else 1
    if len(node.shape) != dims + 2 or axis == 0 or (dims == 1 and axis == 2):
        return [(node.parents[0], axis)]
    if axis == 1:
        return _one(Meaning.CHANNELS, node, axis)
    return _one(Meaning.FRAMES if dims == 3 and axis == 2 else Meaning.POSITIONS, node, axis)


def _linear(node: Node, axis: int) -> Step:
    last = axis == len(node.shape) - 1
    return _one(Meaning.CHANNELS, node, axis) if last else [(node.parents[0], axis)]


def _moved(node: Node, axis: int) -> Step:
    before = node.parents[0]
    ndim = len(before.shape)
    given = [*node.args[1:], *node.kwargs.values()]
    if node.name in {"movedim", "moveaxis"}:
        source, target = ([_normal(n, ndim) for n in _ints(value)] for value in given[:2])
        order = [a for a in range(ndim) if a not in source]
        for t, s in sorted(zip(target, source, strict=True)):
            order.insert(t, s)
    else:
        numbers = [_normal(n, ndim) for n in _ints(given)]
        order = list(range(ndim))
        if node.name == "permute":
            order = numbers
        elif ndim > 1:
            one, other = numbers if len(numbers) == 2 else (ndim - 2, ndim - 1)
            order[one], order[other] = order[other], order[one]
    return [(before, order[axis])] if len(order) == ndim else _unknown(node, axis)


def _reduced(node: Node, axis: int) -> Step:
    before = node.parents[0]
    if len(before.shape) == len(node.shape):
        return [(before, axis)]
    gone = set(reduced_axes(node))
    kept = [a for a in range(len(before.shape)) if a not in gone]
    return [(before, kept[axis])] if len(kept) == len(node.shape) else _unknown(node, axis)


def reduced_axes(node: Node) -> tuple[int, ...]:
    """Which axes of its operand a sum, a mean or the like runs over."""
    ndim = len(node.parents[0].shape)
    dims = node.kwargs.get("dim", node.kwargs.get("axis", node.args[1] if len(node.args) > 1 else None))
    return tuple(range(ndim)) if dims is None else tuple(_normal(d, ndim) for d in _ints(dims))


def _joined(node: Node, axis: int) -> Step:
    """``stack`` and ``cat``."""
    given = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    dim = _normal(given, len(node.shape))
    if node.name == "stack":
        return _one(Meaning.BRANCHES, node, axis) if axis == dim else [(node.parents[0], axis - (axis > dim))]
    if axis == dim and all(p.shape[dim] == 1 for p in node.parents):
        return _one(Meaning.BRANCHES, node, axis)
    largest = max(node.parents, key=lambda p: (p.depends, math.prod(p.shape)))
    return [(largest, axis)] if len(largest.shape) == len(node.shape) else _unknown(node, axis)


def _picked(node: Node, axis: int) -> Step:
    """One item of an axis: the axis is gone."""
    before = node.parents[0]
    if len(before.shape) != len(node.shape) + 1:
        return _unknown(node, axis)
    given = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    return [(before, axis + (axis >= _normal(given, len(before.shape))))]


def _indexed(node: Node, axis: int) -> Step:
    """``value[index]`` with integers, slices, ``None`` and ``...``; other indices are not followed."""
    index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    if any(isinstance(item, bool) or not (item is None or isinstance(item, int | slice | type(...))) for item in index):
        return _unknown(node, axis)
    before = node.parents[0]
    taken = sum(item is not None and item is not ... for item in index)
    rest: tuple[Any, ...] = (slice(None),) * (len(before.shape) - taken)
    at = index.index(...) if ... in index else len(index)
    origins: list[int | None] = []
    source = 0
    for item in (*index[:at], *rest, *index[at + 1 :]):
        if not isinstance(item, int):
            origins.append(None if item is None else source)
        source += item is not None
    origin = origins[axis] if axis < len(origins) else None
    return _unknown(node, axis) if origin is None else [(before, origin)]


def _product(node: Node, axis: int) -> Step:
    left, right = node.parents[:2]
    ndim = len(node.shape)
    if min(len(left.shape), len(right.shape)) < 2:
        return _unknown(node, axis)
    if axis == ndim - 1:
        return [(right, len(right.shape) - 1)]
    if axis == ndim - 2:
        return [(left, len(left.shape) - 2)]
    return _pointwise(node, axis)


def _einsum(node: Node, axis: int) -> Step:
    equation = str(node.args[0]).replace(" ", "")
    left, arrow, result = equation.partition("->")
    if not arrow or "." in equation:
        return _unknown(node, axis)
    pairs = zip(left.split(","), node.parents, strict=False)
    found = [(p, term.index(result[axis])) for term, p in pairs if result[axis] in term]
    found = [(p, a) for p, a in found if p.shape[a] == node.shape[axis]]
    return [max(found, key=lambda item: item[0].depends)] if found else _unknown(node, axis)


def _fused(node: Node, axis: int) -> Step:
    return [(node.parents[2 if axis == len(node.shape) - 1 else 0], axis)]


def _sampled(node: Node, axis: int) -> Step:
    return [(node.parents[0], axis)] if axis < 2 else _one(Meaning.SAMPLES, node, axis)


def _unfolded(node: Node, axis: int) -> Step:
    """``F.unfold`` puts neighbours beside channels; ``Tensor.unfold`` puts them last."""
    before = node.parents[0]
    if len(before.shape) == 4 and len(node.shape) == 3:
        if axis == 1:
            neighbours = node.shape[1] // before.shape[1]
            return Part(Meaning.CHANNELS, before.shape[1]), Part(Meaning.SAMPLES, neighbours)
        return _one(Meaning.POSITIONS, node, axis) if axis == 2 else [(before, 0)]
    return [(before, axis)] if axis < len(before.shape) else _one(Meaning.SAMPLES, node, axis)


def _expanded(node: Node, axis: int) -> Step:
    before = node.parents[0]
    source = axis - len(node.shape) + len(before.shape)
    same = source >= 0 and before.shape[source] == node.shape[axis]
    return [(before, source)] if same else _unknown(node, axis)


def _reshaped(node: Node, axis: int, stop: Node | None) -> Step:
    """``view`` and its like: axes are merged, and split again."""
    before = node.parents[0]
    for olds, news in _blocks(before.shape, node.shape):
        if axis not in news:
            continue
        if len(olds) == len(news) == 1:
            return [(before, olds[0])]
        parts = tuple(part for old in olds for part in parts_of(before, old, stop))
        return _cut(parts, [node.shape[new] for new in news], news.index(axis))
    return _unknown(node, axis)


def _blocks(before: tuple[int, ...], after: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """The smallest runs of axes that hold the same numbers before and after; axes of size 1 are left out."""
    olds, news = ([a for a, size in enumerate(shape) if size != 1] for shape in (before, after))
    while olds and news:
        left, right = [olds.pop(0)], [news.pop(0)]
        while (one := math.prod(before[a] for a in left)) != (other := math.prod(after[a] for a in right)):
            side, rest = (left, olds) if one < other else (right, news)
            if not rest:
                return
            side.append(rest.pop(0))
        yield left, right


def _cut(parts: Parts, sizes: list[int], which: int) -> Parts:
    """The parts of one of several axes that ``parts`` are dealt out to."""
    left = list(parts)
    piece: list[Part] = []
    for size in sizes[: which + 1]:
        piece, wanted = [], size
        while wanted > 1:
            if not left:
                return (Part(Meaning.UNKNOWN, sizes[which]),)
            part = left.pop(0)
            if part.size > wanted and part.size % wanted == 0:
                left.insert(0, Part(part.of, part.size // wanted))
                part = Part(Meaning.GROUPS if part.of is Meaning.CHANNELS else part.of, wanted)
            if wanted % part.size:
                return (Part(Meaning.UNKNOWN, sizes[which]),)
            piece.append(part)
            wanted //= part.size
    return tuple(piece)


def _normal(axis: Any, ndim: int) -> int:
    return int(axis) % ndim


def _ints(value: Any) -> list[int]:
    if isinstance(value, list | tuple):
        return [n for item in value for n in _ints(item)]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else []


_RESHAPING = frozenset("view reshape view_as reshape_as flatten unflatten squeeze unsqueeze ravel".split())

_STEPS: dict[str, Callable[[Node, int], Step]] = {
    **dict.fromkeys("permute transpose swapaxes swapdims movedim moveaxis t".split(), _moved),
    **dict.fromkeys("sum mean amax amin max min std var norm logsumexp argmax".split(), _reduced),
    **dict.fromkeys("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d".split(), _convolution),
    **dict.fromkeys("max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d interpolate".split(), _first),
    **dict.fromkeys("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d chunk split narrow".split(), _first),
    **dict.fromkeys("split_with_sizes tensor_split index_select pad roll upsample".split(), _first),
    **dict.fromkeys("stack cat concat concatenate".split(), _joined),
    **dict.fromkeys("select unbind".split(), _picked),
    **dict.fromkeys("expand expand_as broadcast_to".split(), _expanded),
    **dict.fromkeys("constant embedding repeat gather".split(), _unknown),
    "input": _leaf,
    "linear": _linear,
    "deform_conv2d": _convolution,
    "getitem": _indexed,
    "matmul": _product,
    "einsum": _einsum,
    "scaled_dot_product_attention": _fused,
    "grid_sample": _sampled,
    "unfold": _unfolded,
}

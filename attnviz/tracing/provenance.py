"""Questions about a traced forward pass: what is this value made from, and how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Flag, auto

from attnviz.instrumentation.operations import AFFINE, LEARNED, POOLED, SLICING, SQUASHES, TRANSPARENT, channel_position
from attnviz.tracing.axis_meanings import Meaning, parts_of
from attnviz.tracing.graph import Node


class Mixing(Flag):
    """How positions or channels were mixed on the way from one value to another."""

    NONE = 0
    POOLED = auto()
    LEARNED = auto()


def root(node: Node) -> Node:
    """The value itself, before it was only rearranged, cast or copied."""
    while node.name in TRANSPARENT and node.parents:
        node = node.parents[0]
    return node


def mixing_of(node: Node) -> Mixing:
    """How the operation that made ``node`` mixes positions or channels of its operands."""
    if node.name in LEARNED:
        return Mixing.NONE if _is_elementwise_conv(node) else Mixing.LEARNED
    if node.name in POOLED:
        # max(a, b) and min(a, b) of two tensors compare them elementwise.
        elementwise = node.name in {"max", "min"} and len(node.parents) > 1
        return Mixing.NONE if elementwise else Mixing.POOLED
    return Mixing.NONE


def mixing_between(x: Node, g: Node) -> Mixing | None:
    """How ``x`` was mixed on the way to ``g``; ``None`` where ``g`` does not descend from ``x``."""
    source = root(x)
    if source is root(g):
        return None
    found: Mixing | None = None
    stack, seen = [(root(g), Mixing.NONE)], set()
    while stack:
        node, mixing = stack.pop()
        if node is source:
            found = mixing if found is None else found | mixing
            continue
        if (id(node), mixing) in seen or node.index < source.index:
            continue
        seen.add((id(node), mixing))
        stack.extend((parent, mixing | mixing_of(node)) for parent in node.parents if parent.depends)
    return found


def ancestors(node: Node) -> Iterator[Node]:
    """Every value that ``node`` was computed from and that depends on the inputs, nearest first."""
    queue, seen = [node], {id(node)}
    while queue:
        current = queue.pop(0)
        yield current
        for parent in current.parents:
            if parent.depends and id(parent) not in seen:
                seen.add(id(parent))
                queue.append(parent)


def squash_of(node: Node) -> str | None:
    """The bounded function that ``node`` comes from, perhaps rescaled or rearranged; ``None`` where there is none."""
    if node.name in SQUASHES:
        return node.name
    if is_logistic(node):
        return "sigmoid"
    if node.name in TRANSPARENT | SLICING:
        return squash_of(node.parents[0]) if node.parents else None
    if node.name in AFFINE:
        found = [squash_of(parent) for parent in node.parents if parent.depends]
        return found[0] if found and all(found) else None
    return None


def is_logistic(node: Node) -> bool:
    """Whether ``node`` is a sigmoid by hand, ``1 / (1 + exp(-x))``."""
    if node.name not in {"div", "reciprocal"} or not node.parents:
        return False
    below = node.parents[-1]
    numerator_is_fixed = len(node.parents) == 1 or not node.parents[0].depends
    return numerator_is_fixed and below.name == "add" and any(p.name == "exp" for p in below.parents)


def channel_axis(node: Node) -> int | None:
    """Which axis of ``node`` holds the channels, from the operations that made it; ``None`` where they do not tell."""
    while True:
        layout, ndim = channel_position(node.name), len(node.shape)
        if layout == "first":
            return 1 if ndim > 1 else None
        if layout == "last":
            return ndim - 1
        if node.name == "input":
            return 1 if ndim in {4, 5} else None
        if node.name in {"permute", "transpose", "movedim", "swapaxes", "flatten"}:
            return _moved(node)
        same = [p for p in node.parents if p.depends and len(p.shape) == ndim]
        if not same:
            return _channels_by_meaning(node)
        node = max(same, key=lambda p: p.shape)


def _channels_by_meaning(node: Node) -> int | None:
    """The one axis that runs over channels, followed back through changes of rank such as a sum over branches."""
    parts = [parts_of(node, axis) for axis in range(len(node.shape))]
    found = [axis for axis, held in enumerate(parts) if held and all(part.of is Meaning.CHANNELS for part in held)]
    return found[0] if len(found) == 1 else None


def _moved(node: Node) -> int | None:
    before = channel_axis(node.parents[0])
    return None if before is None else _axis_moved(node, before)


def _axis_moved(node: Node, before: int) -> int | None:
    """Where an axis of the operand is after a permutation or a flattening of axes behind it."""
    ndim = len(node.parents[0].shape)
    numbers = [int(a) % ndim for a in _flat_ints(node.args[1:]) + _flat_ints(tuple(node.kwargs.values()))]
    if node.name == "permute" and len(numbers) == ndim:
        return numbers.index(before)
    if node.name in {"transpose", "swapaxes"} and len(numbers) == 2:
        return {numbers[0]: numbers[1], numbers[1]: numbers[0]}.get(before, before)
    if node.name == "movedim" and len(numbers) == 2:
        order = [axis for axis in range(ndim) if axis != numbers[0]]
        order.insert(numbers[1], numbers[0])
        return order.index(before)
    if node.name == "flatten":
        start = numbers[0] if numbers else 0
        return before if before < start else None
    return None


def _flat_ints(values: tuple[object, ...]) -> list[int]:
    flat: list[int] = []
    for value in values:
        if isinstance(value, tuple):
            flat.extend(_flat_ints(value))
        elif isinstance(value, int):
            flat.append(value)
    return flat


def _is_elementwise_conv(node: Node) -> bool:
    """Whether a convolution only scales each channel: one weight per channel, no neighbours."""
    if not node.name.startswith("conv") or len(node.parents) < 2:
        return False
    weight = node.parents[1].shape
    return len(weight) > 2 and weight[1] == 1 and all(k == 1 for k in weight[2:]) and weight[0] == node.shape[1] != 1


@dataclass(frozen=True, slots=True)
class Softmax:
    """Where a weight was normalised.

    Attributes:
        axis: Which axis of the weight sums to 1; ``None`` where the operations in between do not tell.
        node: The softmax itself.
    """

    axis: int | None
    node: Node


def softmax_of(node: Node) -> Softmax | None:
    """The softmax that ``node`` comes from, through masks, dropout, mixing of heads and rearranging; or ``None``.

    Mixing of heads (talking heads) is a linear map that leaves the number of queries and keys alone.
    """
    moves: list[Node] = []
    while node.name != "softmax" and not is_normalised_exponential(node):
        weights = [p for p in node.parents if p.depends]
        if not weights:
            return None
        if node.name in TRANSPARENT or node.name in {"masked_fill", "nan_to_num", "where"} or _is_tiled(node):
            moves.append(node)
            node = node.parents[0] if node.parents[0].depends else weights[0]
        elif node.name in {"mul", "div", "add", "sub"}:
            same = [p for p in weights if p.shape == node.shape]
            if len(same) != 1:
                return None
            node = same[0]
        elif node.name in {"linear", "conv2d", "conv1d", "einsum", "batch_norm", "instance_norm"} and _mixes_heads(
            node
        ):
            moves.append(node)
            node = weights[0]
        else:
            return None
    axis = softmax_axis(node)
    for move in reversed(moves):
        axis = _axis_after(move, axis)
    return Softmax(axis, node)


def _is_tiled(node: Node) -> bool:
    """Whether ``node`` spreads one value over a constant pattern, or puts parts of one value side by side again."""
    if node.name == "mul":
        return sum(p.depends for p in node.parents) == 1 and node.shape not in {p.shape for p in node.parents}
    return node.name == "split" or (
        node.name == "cat" and len({id(p.parents[0]) for p in node.parents if p.parents}) == 1
    )


def is_normalised_exponential(node: Node) -> bool:
    """Whether ``node`` is a softmax by hand, ``exp(x) / exp(x).sum(dim, keepdim=True)``, or so with a sigmoid."""
    if node.name != "div" or len(node.parents) != 2:
        return False
    above, below = (root(p) for p in node.parents)
    return above.name in {"exp", "sigmoid"} and below.name == "sum" and root(below.parents[0]) is above


def softmax_axis(node: Node) -> int | None:
    """Which of its axes a softmax, also one by hand, normalises; ``None`` where it was not told."""
    if node.name == "div":
        node = root(node.parents[1])
    ndim = len(node.parents[0].shape) if node.parents else len(node.shape)
    place, default = (2, 1) if node.name == "normalize" else (1, None)  # F.normalize(x, p, dim=1)
    dim = node.kwargs.get("dim", node.args[place] if len(node.args) > place else default)
    return int(dim) % ndim if isinstance(dim, int) else None


def _mixes_heads(node: Node) -> bool:
    """Whether a linear map changes one small axis only: the others keep their sizes."""
    before = node.parents[0].shape
    return sorted(before)[1:] == sorted(node.shape)[1:] or sorted(before)[-2:] == sorted(node.shape)[-2:]


def _axis_after(move: Node, axis: int | None) -> int | None:
    """Where an axis is after a rearrangement; ``None`` where that cannot be told."""
    before, after = move.parents[0].shape, move.shape
    if axis is None:
        return None
    if move.name in {"permute", "transpose", "swapaxes", "movedim", "moveaxis"}:
        return _axis_moved(move, axis)
    if len(before) == len(after):
        return axis if before[axis] == after[axis] else None
    # Axes are merged or split before or behind it: it keeps its place from the front or from the end.
    if before[: axis + 1] == after[: axis + 1]:
        return axis
    from_end = axis - len(before)
    return from_end % len(after) if before[from_end:] == after[from_end:] else None

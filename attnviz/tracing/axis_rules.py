"""Rules that map an axis of an operation's result back to axes of its operands, by the name of the operation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from attnviz.tracing.axis_parts import Meaning, Part, Parts
from attnviz.tracing.equations import equation_of
from attnviz.tracing.graph import Node

Step: TypeAlias = Parts | list[tuple[Node, int]]
"""What one operation determines about an axis: its parts, or the axes of the operands from which it was made."""


def _one(of: Meaning, node: Node, axis: int) -> Parts:
    return (Part(of, node.shape[axis]),)


def unknown(node: Node, axis: int) -> Parts:
    """One part of unknown meaning."""
    return _one(Meaning.UNKNOWN, node, axis)


def pointwise(node: Node, axis: int) -> Step:
    """The operand that has this axis, for elementwise operations with broadcasting."""
    from_end = axis - len(node.shape)
    fitting = [p for p in node.parents if len(p.shape) >= -from_end and p.shape[from_end] == node.shape[axis]]
    fitting = [p for p in fitting if len(p.shape) <= len(node.shape)]
    best = max(fitting, key=lambda p: (p.depends, len(p.shape), p.shape), default=None)
    return unknown(node, axis) if best is None else [(best, len(best.shape) + from_end)]


def _first(node: Node, axis: int) -> Step:
    return [(node.parents[0], axis)]


def _leaf(node: Node, axis: int) -> Step:
    """Axes of the model's inputs: images ``(N, C, H, W)``, clips with frames first or second, sequences."""
    ndim = len(node.shape)
    if axis == 0:
        return _one(Meaning.BATCH, node, axis)
    if ndim == 5 and axis < 3:
        # torchvision's video models take (N, C, T, H, W), those of transformers (N, T, C, H, W).
        channels_first = node.shape[1] in {1, 3} and node.shape[2] not in {1, 3}
        return _one(Meaning.CHANNELS if (axis == 1) == channels_first else Meaning.FRAMES, node, axis)
    if ndim == 3:  # tokens or a bag of instances: only a clip has frames
        return _one(Meaning.POSITIONS if axis == 1 else Meaning.CHANNELS, node, axis)
    return _one(Meaning.POSITIONS if axis > 1 else Meaning.CHANNELS, node, axis)


def _convolution(node: Node, axis: int) -> Step:
    by_name = 3 if "3d" in node.name else 2 if "2d" in node.name else 1
    dims = len(node.shape) - 2 if node.name == "convolution" else by_name
    # A 1-D convolution can run over anything, channels included (ECA): its last axis keeps its meaning.
    if len(node.shape) != dims + 2 or axis == 0 or (dims == 1 and axis == 2):
        return [(node.parents[0], axis)]
    if axis == 1:
        return _one(Meaning.CHANNELS, node, axis)
    return _one(Meaning.FRAMES if dims == 3 and axis == 2 else Meaning.POSITIONS, node, axis)


def _linear(node: Node, axis: int) -> Step:
    is_last = axis == len(node.shape) - 1
    return _one(Meaning.CHANNELS, node, axis) if is_last else [(node.parents[0], axis)]


def _addmm(node: Node, axis: int) -> Step:
    """``bias + x w``."""
    is_learned = axis == len(node.shape) - 1 and not node.parents[2].depends
    return _one(Meaning.CHANNELS, node, axis) if is_learned else _product_of(node, axis, *node.parents[1:3])


def permutation(node: Node) -> list[int] | None:
    """For each axis of ``permute``, ``transpose`` or ``movedim``, its number in the operand; ``None`` if unknown."""
    ndim = len(node.parents[0].shape)
    given = [*node.args[1:], *node.kwargs.values()]
    order = list(range(ndim))
    if node.name in {"movedim", "moveaxis"}:
        source, target = ([_normal(n, ndim) for n in _ints(value)] for value in given[:2])
        order = [a for a in range(ndim) if a not in source]
        for t, s in sorted(zip(target, source, strict=True)):
            order.insert(t, s)
    elif node.name == "permute":
        order = [_normal(n, ndim) for n in _ints(given)]
    elif ndim > 1:
        numbers = [_normal(n, ndim) for n in _ints(given)]
        one, other = numbers if len(numbers) == 2 else (ndim - 2, ndim - 1)  # x.mT gives no numbers
        order[one], order[other] = order[other], order[one]
    return order if len(order) == ndim else None


def _moved(node: Node, axis: int) -> Step:
    order = permutation(node)
    return unknown(node, axis) if order is None else [(node.parents[0], order[axis])]


def _reduced(node: Node, axis: int) -> Step:
    before = node.parents[0]
    if len(before.shape) == len(node.shape):
        return [(before, axis)]
    removed = set(reduced_axes(node))
    kept = [a for a in range(len(before.shape)) if a not in removed]
    return [(before, kept[axis])] if len(kept) == len(node.shape) else unknown(node, axis)


def reduced_axes(node: Node) -> tuple[int, ...]:
    """The axes of the operand over which a sum, a mean or a similar reduction runs."""
    ndim = len(node.parents[0].shape)
    dims = node.kwargs.get("dim", node.kwargs.get("axis", node.args[1] if len(node.args) > 1 else None))
    return tuple(range(ndim)) if dims is None else tuple(_normal(d, ndim) for d in _ints(dims))


def _joined(node: Node, axis: int) -> Step:
    """``stack`` and ``cat``."""
    dim = _normal(_dim(node), len(node.shape))
    parents = joined_parts(node)
    if node.name == "stack":
        return _one(Meaning.BRANCHES, node, axis) if axis == dim else [(node.parents[0], axis - (axis > dim))]
    # Branches can also be unsqueezed and concatenated.
    if axis == dim and all(p.shape[dim] == 1 for p in parents):
        return _one(Meaning.BRANCHES, node, axis)
    largest = max(parents, key=lambda p: (p.depends, math.prod(p.shape)))
    return [(largest, axis)] if len(largest.shape) == len(node.shape) else unknown(node, axis)


def joined_parts(node: Node) -> list[Node]:
    """The operands of a concatenation without empty ones: ``torch.cat`` ignores a tensor of shape ``(0,)``."""
    parts = [parent for parent in node.parents if parent.shape != (0,)]
    return parts or list(node.parents)


def _selected(node: Node, axis: int) -> Step:
    """``select`` and ``unbind``, which remove an axis."""
    before = node.parents[0]
    if len(before.shape) != len(node.shape) + 1:
        return unknown(node, axis)
    return [(before, axis + (axis >= _normal(_dim(node), len(before.shape))))]


def _indexed(node: Node, axis: int) -> Step:
    """``value[index]`` with integers, slices, ``None`` and ``...``; other indices are not followed."""
    index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    if any(isinstance(item, bool) or not (item is None or isinstance(item, int | slice | type(...))) for item in index):
        return unknown(node, axis)
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
    return unknown(node, axis) if origin is None else [(before, origin)]


def _product(node: Node, axis: int) -> Step:
    return _product_of(node, axis, *node.parents[:2])


def _product_of(node: Node, axis: int, left: Node, right: Node) -> Step:
    ndim = len(node.shape)
    if min(len(left.shape), len(right.shape)) < 2:
        return unknown(node, axis)
    if axis == ndim - 1:
        return [(right, len(right.shape) - 1)]
    if axis == ndim - 2:
        return [(left, len(left.shape) - 2)]
    return pointwise(node, axis)


def _einsum(node: Node, axis: int) -> Step:
    equation = equation_of(node)
    if equation is None:
        return unknown(node, axis)
    letter = equation.result[axis]
    found = [(p, t.index(letter)) for t, p in zip(equation.terms, node.parents, strict=True) if letter in t]
    found = [(p, a) for p, a in found if p.shape[a] == node.shape[axis]]
    return [max(found, key=lambda item: item[0].depends)] if found else unknown(node, axis)


def _fused(node: Node, axis: int) -> Step:
    """Channels come from the values, all other axes from the queries."""
    return [(node.parents[2 if axis == len(node.shape) - 1 else 0], axis)]


def _sampled(node: Node, axis: int) -> Step:
    return [(node.parents[0], axis)] if axis < 2 else _one(Meaning.SAMPLES, node, axis)


def _unfolded(node: Node, axis: int) -> Step:
    """``F.unfold`` merges channels and neighbours into one axis; ``Tensor.unfold`` appends an axis of neighbours."""
    before = node.parents[0]
    if len(before.shape) == 4 and len(node.shape) == 3:
        if axis == 1:
            neighbours = node.shape[1] // before.shape[1]
            return Part(Meaning.CHANNELS, before.shape[1]), Part(Meaning.SAMPLES, neighbours)
        return _one(Meaning.POSITIONS, node, axis) if axis == 2 else [(before, 0)]
    return [(before, axis)] if axis < len(before.shape) else _one(Meaning.SAMPLES, node, axis)


def _scattered(node: Node, axis: int) -> Step:
    """``scatter``: along its axis, values have other numbers than before."""
    source = node.args[3] if len(node.args) > 3 else node.kwargs.get("src")
    if axis == _normal(_dim(node), len(node.shape)) or not isinstance(source, Node):
        return unknown(node, axis)
    return [(source, axis)]


def _expanded(node: Node, axis: int) -> Step:
    before = node.parents[0]
    source = axis - len(node.shape) + len(before.shape)
    is_same = source >= 0 and before.shape[source] == node.shape[axis]
    return [(before, source)] if is_same else unknown(node, axis)


def _dim(node: Node) -> Any:
    return node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)


def _normal(axis: Any, ndim: int) -> int:
    return int(axis) % ndim


def _ints(value: Any) -> list[int]:
    if isinstance(value, list | tuple):
        return [n for item in value for n in _ints(item)]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else []


RULES: dict[str, Callable[[Node, int], Step]] = {
    **dict.fromkeys("permute transpose swapaxes swapdims movedim moveaxis t".split(), _moved),
    **dict.fromkeys("sum mean amax amin max min std var norm logsumexp argmax".split(), _reduced),
    **dict.fromkeys("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d".split(), _convolution),
    **dict.fromkeys("max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d interpolate".split(), _first),
    **dict.fromkeys("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d chunk split narrow".split(), _first),
    **dict.fromkeys("split_with_sizes tensor_split index_select pad roll upsample".split(), _first),
    **dict.fromkeys("stack cat concat concatenate".split(), _joined),
    **dict.fromkeys("select unbind".split(), _selected),
    **dict.fromkeys("expand expand_as broadcast_to".split(), _expanded),
    **dict.fromkeys("slice flip".split(), _first),
    **dict.fromkeys("constant outside vmap embedding repeat gather".split(), unknown),
    "input": _leaf,
    "linear": _linear,
    **dict.fromkeys(("addmm", "baddbmm"), _addmm),
    "convolution": _convolution,
    "deform_conv2d": _convolution,
    "getitem": _indexed,
    "matmul": _product,
    "einsum": _einsum,
    "scaled_dot_product_attention": _fused,
    "grid_sample": _sampled,
    "unfold": _unfolded,
    **dict.fromkeys("scatter scatter_add scatter_reduce index_add index_copy".split(), _scattered),
}

"""Follow every value of a forward pass back to the places of the plane that its tokens came from.

Beside each value stands a tensor of the same shape that holds places instead of numbers. What only arranges a value is
done to its places too: reshaping, permuting, rolling, cutting into windows, padding, putting class tokens in front.
What mixes channels keeps places; what strides over a plane makes a coarser one; attention gives its output the places
of the queries. What cannot be followed has no places, and nothing is guessed.

A place is one number, ``((image · T + frame) · H + row) · W + column`` of its plane, or a negative one for none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.core.token_layout import NO_POSITION, PADDING
from attnviz.tracing.axis_meanings import reduced_axes
from attnviz.tracing.graph import Graph, Node

Plane = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """The places of a value.

    Attributes:
        code: As large as the value; axes along which places do not change have stride 0 where possible.
        plane: ``(frames, rows, columns)``; ``None`` where no part of the value stands anywhere.
    """

    code: Tensor
    plane: Plane | None


class PositionTracker:
    """The places of all values of a forward pass."""

    def __init__(self, graph: Graph) -> None:
        self._found: dict[int, Positions | None] = {}
        inputs = [node for node in graph.nodes if node.name == "input"]
        self._image = next((node for node in inputs if len(node.shape) in {4, 5}), inputs[0] if inputs else None)
        for node in graph.nodes:
            if node.depends:
                self.of(node)

    def of(self, node: Node) -> Positions | None:
        """The places of ``node``; ``None`` where they could not be followed."""
        if not node.depends:
            return nowhere(node.shape)
        key = id(node)
        if key not in self._found:
            try:
                found = self._find(node)
            except (RuntimeError, IndexError, TypeError, ValueError, AttributeError, AssertionError):
                found = None  # an operation that does to places what cannot be done to them
            fits = found is not None and tuple(found.code.shape) == node.shape
            self._found[key] = compressed(found) if found is not None and fits else None
        return self._found[key]

    def _find(self, node: Node) -> Positions | None:
        if node.name == "input":
            return _plane_of_input(node) if node is self._image else nowhere(node.shape)
        if node.name in _ARRANGING:
            return self._arranged(node)
        if node.name in _RULES:
            return _RULES[node.name](self, node)
        return self._pointwise(node)

    def _pointwise(self, node: Node) -> Positions | None:
        """The first operand of this shape with places, or else the largest one that spreads to it."""
        known = [placed for placed in map(self.of, node.parents) if placed is not None]
        fitting = [p for p in known if p.plane is not None and p.code.ndim <= len(node.shape)]
        same = [p for p in fitting if tuple(p.code.shape) == node.shape]
        for placed in (*same, *sorted(fitting, key=lambda p: -p.code.numel())):
            if all(a in {1, b} for a, b in zip(placed.code.shape[::-1], node.shape[::-1], strict=False)):
                return Positions(placed.code.broadcast_to(node.shape), placed.plane)
        if fitting or len(known) < len(node.parents):
            return None
        return nowhere(node.shape)

    def _arranged(self, node: Node) -> Positions | None:
        """The same arrangement of places."""
        before = self.of(node.parents[0])
        if before is None or before.plane is None:
            return None if before is None else nowhere(node.shape)
        return Positions(self._arrange(before.code, node), before.plane)

    def _arrange(self, code: Tensor, node: Node) -> Tensor:
        name, args, kwargs = node.name, node.args[1:], node.kwargs
        if name in _RESHAPING:
            return code.reshape(node.shape)
        if name in _EXPANDING:
            return code.broadcast_to(node.shape)
        if name == "transpose" and len(args) + len(kwargs) < 2:
            return code.mT if code.ndim > 1 else code
        if name == "unfold" and len(node.shape) == 3 and code.ndim == 4:  # it pads with zeros and takes no integers
            unfolded = F.unfold((code - PADDING + 1).double(), *args, **kwargs).long() + PADDING - 1
            return unfolded.clamp_min(PADDING)
        if name == "pad":
            return _padded(code, *args, **kwargs)
        function = getattr(torch.Tensor, "__getitem__" if name == "getitem" else name)
        result = function(code, *map(_concrete, args), **{key: _concrete(value) for key, value in kwargs.items()})
        arranged: Tensor = result[node.output] if isinstance(result, list | tuple) else result
        return arranged

    def _joined(self, node: Node) -> Positions | None:
        parts = [self.of(parent) for parent in node.parents]
        placed = [part for part in parts if part is not None]
        planes = {part.plane for part in placed if part.plane is not None}
        if len(placed) < len(parts) or len(planes) > 1:
            return None
        dim = int(node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0))
        codes = [part.code for part in placed]
        if node.name != "stack" and _overlap([part for part in placed if part.plane], dim):
            return None  # several scales side by side: a plane holds each place once
        last = dim not in {-1, len(node.shape) - 1} and all(code.stride(-1) == 0 for code in codes)
        codes = [code[..., :1] for code in codes] if last else codes  # nothing is copied for every channel
        joined = torch.stack(codes, dim) if node.name == "stack" else torch.cat(codes, dim)
        return Positions(joined.broadcast_to(node.shape), next(iter(planes), None))

    def _reduced(self, node: Node) -> Positions | None:
        before = self.of(node.parents[0])
        if before is None or len(node.parents) > 1:
            return self._pointwise(node)
        axes = reduced_axes(node)
        reduced = Positions(first_places(before, axes), before.plane)
        return Positions(reduced.code.reshape(node.shape), reduced.plane)

    def _linear(self, node: Node) -> Positions | None:
        before = self.of(node.parents[0])
        if before is None:
            return None
        return Positions(first_places(before, (before.code.ndim - 1,)).broadcast_to(node.shape), before.plane)

    def _convolution(self, node: Node) -> Positions | None:
        """Neighbours are mixed: the same plane, or a coarser or finer one."""
        before = self.of(node.parents[0])
        if before is None or before.plane is None:
            return None if before is None else nowhere(node.shape)
        if node.name.startswith("adaptive") and math.prod(node.shape[2:]) == 1:
            return nowhere(node.shape)
        code = first_places(before, (1,))
        if code.shape[2:] == node.shape[2:]:
            return Positions(code.broadcast_to(node.shape), before.plane)
        return resized(code, before.plane, node.shape)

    def _product(self, node: Node) -> Positions | None:
        left, right = (self.of(parent) for parent in node.parents[-2:])
        if left is None or right is None or min(left.code.ndim, right.code.ndim) < 2:
            return None
        rows = left.code[..., :1] if is_constant(left.code, -1) else None
        columns = right.code[..., :1, :] if is_constant(right.code, -2) else None
        for code, plane in ((rows, left.plane), (columns, right.plane)):
            if code is not None and plane is not None:
                return Positions(code.broadcast_to(node.shape), plane)
        return nowhere(node.shape) if is_constant(left.code, -2) or left.plane is None else None

    def _einsum(self, node: Node) -> Positions | None:
        left, arrow, result = str(node.args[0]).replace(" ", "").partition("->")
        if not arrow or "." in left:
            return None
        terms = left.split(",")
        known = [self.of(parent) for parent in node.parents]
        if any(placed is None for placed in known):
            return None
        for term, placed in zip(terms, known, strict=True):
            gone = [axis for axis, letter in enumerate(term) if letter not in result]
            if placed is None or placed.plane is None or not all(is_constant(placed.code, axis) for axis in gone):
                continue
            return Positions(by_letters(placed.code, term, result).broadcast_to(node.shape), placed.plane)
        return nowhere(node.shape)

    def _fused(self, node: Node) -> Positions | None:
        queries = self.of(node.parents[0])
        if queries is None or not is_constant(queries.code, -1):
            return None
        return Positions(queries.code[..., :1].broadcast_to(node.shape), queries.plane)

    def _written(self, node: Node) -> Positions | None:
        """``value[index] = part``; where only a view was written to, the rest is as before."""
        whole = self.of(node.parents[0])
        if whole is None or len(node.args) < 3 or not isinstance(node.args[2], Node):
            return whole
        part = self.of(node.args[2])
        if part is None or part.plane is None or whole.plane not in {None, part.plane}:
            return whole if part is not None and part.plane is None else None
        code = whole.code.clone(memory_format=torch.contiguous_format)
        code[_concrete(node.args[1])] = part.code
        return Positions(code, part.plane)

    def _lost(self, node: Node) -> Positions | None:
        return None


def nowhere(shape: Sequence[int]) -> Positions:
    """A value no part of which stands anywhere."""
    return Positions(torch.full((), NO_POSITION, dtype=torch.int64, device="cpu").expand(tuple(shape)), None)


def is_constant(code: Tensor, axis: int) -> bool:
    """Whether places are the same all along an axis."""
    if code.shape[axis] <= 1 or code.stride(axis) == 0:
        return True
    return bool((code == code.narrow(axis, 0, 1)).all())


def first_places(placed: Positions, axes: Sequence[int]) -> Tensor:
    """Several places together, axes kept with size 1: the first place, but nowhere for all of a plane."""
    result = placed.code
    for axis in axes:
        if is_constant(result, axis):
            result = result.narrow(axis, 0, 1)
    axes, code = tuple(axis for axis in axes if result.shape[axis] > 1), result
    if axes and placed.plane is not None:
        size = math.prod(placed.plane)
        there = torch.where(code < 0, torch.iinfo(code.dtype).max, code)
        low, high = there.amin(axes, keepdim=True), code.amax(axes, keepdim=True)
        whole = (high < 0) | ((low % size == 0) & (high - low == size - 1))
        result = torch.where(whole, torch.where(high == PADDING, PADDING, NO_POSITION), low)
    return result


def resized(code: Tensor, plane: Plane, shape: Sequence[int]) -> Positions | None:
    """A plane of another size, where ``code`` ``(rows, 1, *space)`` holds one whole plane in each of its rows."""
    space, target = tuple(code.shape[2:]), tuple(shape[2:])
    frames, height, width = plane
    if len(space) < 2:
        return None
    grid = _unpadded(code.reshape(code.shape[0], *(1,) * (3 - len(space)), *space))
    local = grid % (frames * height * width) if len(space) == 3 else grid % (height * width)
    outer = grid // (frames * height * width) if len(space) == 3 else grid // (height * width)
    origin = local[:1, :1, :1, :1]
    lattice = local[:1, :, :1, :1] + local[:1, :1, :, :1] + local[:1, :1, :1, :] - 2 * origin
    if bool((grid < 0).any()) or bool((local != lattice).any()) or bool((outer != outer[:, :1, :1, :1]).any()):
        return _strided(code, plane, shape)  # windows
    new: Plane = (frames, *target) if len(space) == 2 else target  # type: ignore[assignment]  # its rank was checked
    fresh = outer[:, 0, 0, 0] * math.prod(target)
    places = fresh.view(-1, 1, *(1,) * len(target)) + torch.arange(math.prod(target), device="cpu").view(1, 1, *target)
    return Positions(places.broadcast_to(tuple(shape)), new)


def _overlap(parts: list[Positions], axis: int) -> bool:
    """Whether tokens that are put side by side, and not channels, stand at the same places."""
    if len(parts) < 2 or all(is_constant(part.code, axis) for part in parts):
        return False
    each = [part.code.unique() for part in parts]
    there = torch.cat([codes[codes >= 0] for codes in each])
    return len(there.unique()) < len(there)


def _unpadded(grid: Tensor) -> Tensor:
    """``grid`` ``(rows, T, H, W)`` without the frame of padding around it."""
    for axis in (1, 2, 3):
        inside = (grid >= 0).any(dim=tuple(a for a in range(4) if a != axis)).nonzero().flatten()
        if len(inside):
            grid = grid.narrow(axis, int(inside[0]), int(inside[-1] - inside[0]) + 1)
    return grid


def _strided(code: Tensor, plane: Plane, shape: Sequence[int]) -> Positions | None:
    """The first of each block of places, where blocks of one size make up windows of a plane."""
    space, target = tuple(code.shape[2:]), tuple(shape[2:])
    if any(size % new for size, new in zip(space, target, strict=True)):
        return None
    steps = (slice(None, None, size // new) for size, new in zip(space, target, strict=True))
    return Positions(code[(slice(None), slice(None), *steps)].broadcast_to(tuple(shape)), plane)


def by_letters(code: Tensor, term: str, result: str) -> Tensor:
    """``code`` with the axes of ``result``; axes that it lacks have size 1, and of those that go the first is taken."""
    for axis in reversed(range(len(term))):
        if term[axis] not in result:
            code = code.select(axis, 0)
    kept = [letter for letter in term if letter in result]
    code = code.permute([kept.index(letter) for letter in result if letter in kept])
    return code[tuple(slice(None) if letter in kept else None for letter in result)]


def compressed(placed: Positions) -> Positions:
    """The same places, held once for all channels."""
    code = placed.code
    if placed.plane is not None and code.numel() and int(code.amax()) < 0:
        return nowhere(code.shape) if int(code.amin()) == NO_POSITION else placed
    for axis in (code.ndim - 1, 1):
        if code.ndim > 2 and code.stride(axis) and code.shape[axis] > 1 and is_constant(code, axis):
            code = code.narrow(axis, 0, 1).contiguous().expand(code.shape)
    return Positions(code, placed.plane)


def _plane_of_input(node: Node) -> Positions:
    """Pixels of images ``(N, C, H, W)`` and of clips with frames first or second; positions of sequences."""
    shape = node.shape
    channels = {3: 2, 4: 1, 5: 1 if shape[1] in {1, 3} and shape[2:3] not in {(1,), (3,)} else 2}.get(len(shape))
    if channels is None:
        return nowhere(shape)
    spread = [1 if axis == channels else size for axis, size in enumerate(shape)]
    sizes = [size for axis, size in enumerate(shape) if axis not in {0, channels}]
    plane = (sizes[0], *sizes[1:], 1, 1)[:3] if len(shape) != 4 else (1, *sizes)
    code = torch.arange(math.prod(spread), device="cpu").view(spread).expand(shape)
    return Positions(code, (plane[0], plane[1], plane[2]))


def _padded(code: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Tensor:
    if mode == "constant":
        return F.pad(code, list(pad), value=PADDING)
    return F.pad(code.double(), list(pad), mode=mode).long()


def _concrete(value: Any) -> Any:
    """An argument with index tensors in place of their nodes."""
    if isinstance(value, Node):
        if value.value is None or value.name in _RANDOM or any(a.name in _RANDOM for a in _origins(value)):
            raise ValueError("an index that is not known, or not the same the next time")
        return value.value.cpu()
    return tuple(map(_concrete, value)) if isinstance(value, tuple) else value


def _origins(node: Node) -> Iterator[Node]:
    stack, seen = [node], {id(node)}
    while stack:
        for parent in stack.pop().parents:
            if id(parent) not in seen:
                seen.add(id(parent))
                stack.append(parent)
                yield parent


_RANDOM = frozenset("rand rand_like randn randn_like randint randperm bernoulli multinomial uniform normal".split())

_RESHAPING = frozenset("view reshape flatten unflatten squeeze unsqueeze view_as reshape_as".split())
_EXPANDING = frozenset("expand expand_as broadcast_to".split())
_ARRANGING = frozenset(
    """
    permute transpose swapaxes swapdims movedim moveaxis t repeat tile repeat_interleave roll flip getitem select narrow
    chunk split split_with_sizes tensor_split unbind index_select gather pad unfold
    """.split()
).union(_RESHAPING, _EXPANDING)

_RULES: dict[str, Callable[[PositionTracker, Node], Positions | None]] = {
    **dict.fromkeys("cat concat concatenate stack".split(), PositionTracker._joined),
    **dict.fromkeys(
        "sum mean amax amin max min std var norm logsumexp nanmean median".split(), PositionTracker._reduced
    ),
    **dict.fromkeys(
        "conv2d conv3d conv_transpose2d conv_transpose3d interpolate upsample".split(), PositionTracker._convolution
    ),
    **dict.fromkeys("max_pool2d max_pool3d avg_pool2d avg_pool3d lp_pool2d".split(), PositionTracker._convolution),
    **dict.fromkeys(
        "adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d".split(), PositionTracker._convolution
    ),
    **dict.fromkeys("deform_conv2d pixel_shuffle conv1d".split(), PositionTracker._convolution),
    **dict.fromkeys(
        "grid_sample sort topk argsort argmax argmin nonzero masked_select cumsum".split(), PositionTracker._lost
    ),
    **dict.fromkeys("matmul baddbmm".split(), PositionTracker._product),
    "linear": PositionTracker._linear,
    "einsum": PositionTracker._einsum,
    "scaled_dot_product_attention": PositionTracker._fused,
    "setitem": PositionTracker._written,
}

"""Follow every value of a forward pass back to positions on the image plane.

Each value has codes of the same shape (:mod:`attnviz.tracing.position_codes`). An operation that rearranges a value
rearranges its codes: reshaping, permuting, rolling, partition into windows, padding, concatenation of class tokens.
Mixing channels keeps positions; a stride over a plane gives a coarser plane; the output of attention has the positions
of its queries. If an operation cannot be followed, the positions of its result are unknown: nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.core.token_layout import PADDING, Layout
from attnviz.instrumentation.operations import keeps_positions
from attnviz.tracing.axis_rules import joined_parts, reduced_axes
from attnviz.tracing.equations import equation_of
from attnviz.tracing.graph import Graph, Node
from attnviz.tracing.position_codes import (
    Positions,
    by_letters,
    compressed,
    distinct,
    is_constant,
    merged,
    no_positions,
    overlap,
    positions_of_input,
    resized,
)

_RANDOM = frozenset("rand rand_like randn randn_like randint randperm bernoulli multinomial uniform normal".split())
_RESHAPING = frozenset("view reshape flatten unflatten squeeze unsqueeze view_as reshape_as".split())
_EXPANDING = frozenset("expand expand_as broadcast_to".split())
_REARRANGING = frozenset(
    """
    permute transpose swapaxes swapdims movedim moveaxis t repeat tile repeat_interleave roll flip getitem slice select
    narrow chunk split split_with_sizes tensor_split unbind index_select gather pad unfold
    """.split()
).union(_RESHAPING, _EXPANDING)


class PositionTracker:
    """The positions of all values of a forward pass.

    Args:
        graph: The forward pass.
        image: Number of the images among the tensors of the inputs; by default the first with 4 or 5 axes.

    Attributes:
        layouts: Layouts that were computed from positions, by the positions.
    """

    def __init__(self, graph: Graph, image: int | None = None) -> None:
        self.layouts: dict[Any, Layout | None] = {}
        self._found: dict[int, Positions | None] = {}
        inputs = [node for node in graph.nodes if node.name == "input"]
        first = next((node for node in inputs if len(node.shape) in {4, 5}), inputs[0] if inputs else None)
        self._image = first if image is None else inputs[image]
        for node in graph.nodes:
            if node.depends:
                self.of(node)

    def of(self, node: Node) -> Positions | None:
        """The positions of ``node``; ``None`` if they are unknown."""
        if not node.depends:
            return no_positions(node.shape)
        key = id(node)
        if key not in self._found:
            try:
                found = self._find(node)
            except (RuntimeError, IndexError, TypeError, ValueError, AttributeError, AssertionError):
                found = None  # the operation cannot be applied to codes
            if found is not None and tuple(found.code.shape) != node.shape:
                found = None
            # Positions that were passed on unchanged have been compressed.
            is_new = found is not None and all(self._found.get(id(parent)) is not found for parent in node.parents)
            self._found[key] = compressed(found) if found is not None and is_new else found
        return self._found[key]

    def _find(self, node: Node) -> Positions | None:
        if node.name == "input":
            return positions_of_input(node) if node is self._image else no_positions(node.shape)
        if node.name in _REARRANGING:
            return self._rearranged(node)
        if node.name in _RULES:
            return _RULES[node.name](self, node)
        if node.name.startswith("upsample"):
            return self._convolution(node)
        return self._pointwise(node) if keeps_positions(node.name) else None

    def _pointwise(self, node: Node) -> Positions | None:
        """The first operand of this shape with positions, or else the largest one that broadcasts to it."""
        known = [positions for positions in map(self.of, node.parents) if positions is not None]
        fitting = [p for p in known if p.plane is not None and p.code.ndim <= len(node.shape)]
        same = next((p for p in fitting if tuple(p.code.shape) == node.shape), None)
        if same is not None:
            return same
        for positions in sorted(fitting, key=lambda p: -p.code.numel()):
            if all(a in {1, b} for a, b in zip(positions.code.shape[::-1], node.shape[::-1], strict=False)):
                return Positions(positions.code.broadcast_to(node.shape), positions.plane)
        if fitting or len(known) < len(node.parents):
            return None
        return no_positions(node.shape)

    def _rearranged(self, node: Node) -> Positions | None:
        before = self.of(node.parents[0])
        if before is None or before.plane is None:
            return None if before is None else no_positions(node.shape)
        return Positions(_rearrange(before.code, node), before.plane)

    def _joined(self, node: Node) -> Positions | None:
        parts = [self.of(parent) for parent in joined_parts(node)]
        known = [part for part in parts if part is not None]
        planes = {part.plane for part in known if part.plane is not None}
        if len(known) < len(parts) or len(planes) > 1:
            return None
        dim = int(node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0))
        codes = [part.code for part in known]
        if node.name != "stack" and overlap([part for part in known if part.plane], dim):
            return None  # tokens of several scales (Mask2Former): a grid has one token per position
        joins_tokens = dim not in {-1, len(node.shape) - 1} and all(code.stride(-1) == 0 for code in codes)
        codes = [code[..., :1] for code in codes] if joins_tokens else codes  # stored once for all channels
        joined = torch.stack(codes, dim) if node.name == "stack" else torch.cat(codes, dim)
        return Positions(joined.broadcast_to(node.shape), next(iter(planes), None))

    def _reduced(self, node: Node) -> Positions | None:
        before = self.of(node.parents[0])
        if before is None or len(node.parents) > 1:  # max(a, b) of two tensors is elementwise
            return self._pointwise(node)
        return Positions(merged(before, reduced_axes(node)).reshape(node.shape), before.plane)

    def _linear(self, node: Node) -> Positions | None:
        values = node.parents[1 if node.name == "addmm" else 0]
        before = self._of_patches(values) or self.of(values)
        if before is None:
            return None
        return Positions(merged(before, (before.code.ndim - 1,)).broadcast_to(node.shape), before.plane)

    def _of_patches(self, node: Node) -> Positions | None:
        """The positions of whole patches, if ``node`` holds the pixels of each in one axis, as ``F.unfold`` gives them.

        Each patch has one cell of the grid of patches, also if patches overlap (T2T-ViT, PiT); ``None`` otherwise.
        """
        steps: list[Node] = []
        while not (node.name == "unfold" and len(node.shape) == 3 and len(node.parents[0].shape) == 4):
            if not node.parents or not (node.name in _REARRANGING or keeps_positions(node.name)):
                return None
            steps.append(node)
            node = node.parents[0]
        before = self.of(node.parents[0])
        if before is None or before.plane is None or not is_constant(before.code, 1):
            return None
        given = dict(zip(("kernel_size", "dilation", "padding", "stride"), node.args[1:], strict=False)) | node.kwargs
        options = {name: value if isinstance(value, tuple) else (value, value) for name, value in given.items()}
        size = tuple(
            (n + 2 * options.get("padding", (0, 0))[i] - options.get("dilation", (1, 1))[i] * (k - 1) - 1)
            // options.get("stride", (1, 1))[i]
            + 1
            for i, (n, k) in enumerate(zip(before.code.shape[2:], options["kernel_size"], strict=True))
        )
        coarse = resized(before.code[:, :1], before.plane, (node.shape[0], 1, *size))
        if coarse is None:
            return None
        code = coarse.code.flatten(2).broadcast_to(node.shape)
        for step in reversed(steps):
            code = _rearrange(code, step) if step.name in _REARRANGING else code
        return Positions(code, coarse.plane)

    def _convolution(self, node: Node) -> Positions | None:
        """Neighbours are mixed: the same plane, or a coarser or finer one."""
        before = self.of(node.parents[0])
        if before is None or before.plane is None:
            return None if before is None else no_positions(node.shape)
        # A global average has no position.
        if node.name.startswith("adaptive") and math.prod(node.shape[2:]) == 1:
            return no_positions(node.shape)
        groups = _groups(node)
        if groups > 1 and not is_constant(before.code, 1):
            # CondConv convolves all images at once, each with its own kernels.
            parts = before.code.unflatten(1, (groups, -1)).flatten(0, 1)
            code = merged(Positions(parts, before.plane), (1,))
            shape = (len(code), node.shape[1] // groups, *node.shape[2:])
            found = resized(code, before.plane, shape) if code.shape[2:] != shape[2:] else Positions(code, before.plane)
            return found and Positions(found.code.broadcast_to(shape).reshape(node.shape), found.plane)
        code = merged(before, (1,))
        if code.shape[2:] == node.shape[2:]:
            return Positions(code.broadcast_to(node.shape), before.plane)
        return resized(code, before.plane, node.shape)

    def _product(self, node: Node) -> Positions | None:
        """The rows of the left operand, such as queries, or the columns of the right one."""
        left, right = (self.of(parent) for parent in node.parents[-2:])
        if left is None or right is None or min(left.code.ndim, right.code.ndim) < 2:
            return None
        rows = left.code[..., :1] if is_constant(left.code, -1) else None
        columns = right.code[..., :1, :] if is_constant(right.code, -2) else None
        # Columns are those of queries where positions come last (LeViT with convolutions).
        for code, plane in ((rows, left.plane), (columns, right.plane)):
            if code is not None and plane is not None:
                return Positions(code.broadcast_to(node.shape), plane)
        # Summed over positions: attention over channels (XCiT, DaViT), or a query without position (CrossViT, VOLO).
        return no_positions(node.shape) if is_constant(left.code, -2) or left.plane is None else None

    def _einsum(self, node: Node) -> Positions | None:
        equation = equation_of(node)
        known = [positions for positions in map(self.of, node.parents) if positions is not None]
        if equation is None or len(known) < len(node.parents):
            return None
        for term, positions in zip(equation.terms, known, strict=True):
            summed = [axis for axis, letter in enumerate(term) if letter not in equation.result]
            if positions.plane is not None and all(is_constant(positions.code, axis) for axis in summed):
                code = by_letters(positions.code, term, equation.result)
                return Positions(code.broadcast_to(node.shape), positions.plane)
        return no_positions(node.shape)

    def _fused(self, node: Node) -> Positions | None:
        queries = self.of(node.parents[0])
        if queries is None or not is_constant(queries.code, -1):
            return None
        return Positions(queries.code[..., :1].broadcast_to(node.shape), queries.plane)

    def _written(self, node: Node) -> Positions | None:
        """``value[index] = part``; if it wrote to a view, the rest of the value keeps its positions.

        MViTv2 assigns scores with relative positions to the part of its map without the class token.
        """
        whole = self.of(node.parents[0])
        if whole is None or len(node.args) < 3 or not isinstance(node.args[2], Node):
            return whole
        part = self.of(node.args[2])
        if part is None or part.plane is None or whole.plane not in {None, part.plane}:
            return whole if part is not None and part.plane is None else None
        code = whole.code.clone(memory_format=torch.contiguous_format)
        code[_concrete(node.args[1])] = part.code
        return Positions(code, part.plane)

    def _unknown(self, node: Node) -> Positions | None:
        return None


def _groups(node: Node) -> int:
    """The number of groups of a convolution; 1 for other operations."""
    given = node.kwargs.get("groups", node.args[6] if len(node.args) > 6 else 1)
    return given if isinstance(given, int) and node.name.startswith("conv") and "transpose" not in node.name else 1


def _rearrange(code: Tensor, node: Node) -> Tensor:
    """Apply the operation of ``node`` to codes."""
    name, args, kwargs = node.name, node.args[1:], node.kwargs
    if name in _RESHAPING:
        return code.reshape(node.shape)
    if name in _EXPANDING:
        return code.broadcast_to(node.shape)
    if name == "transpose" and len(args) + len(kwargs) < 2:
        return code.mT if code.ndim > 1 else code
    if name == "unfold" and len(node.shape) == 3 and code.ndim == 4:  # F.unfold pads with zeros and takes no integers
        unfolded = F.unfold((code - PADDING + 1).double(), *args, **kwargs).long() + PADDING - 1
        return unfolded.clamp_min(PADDING)
    if name == "pad":
        return _padded(code, *args, **kwargs)
    function = _FUNCTIONS[name] if name in _FUNCTIONS else getattr(torch.Tensor, name)
    result = function(code, *map(_concrete, args), **{key: _concrete(value) for key, value in kwargs.items()})
    rearranged: Tensor = result[node.output] if isinstance(result, list | tuple) else result
    return rearranged


def _sliced(code: Tensor, dim: int = 0, *ends: int | None) -> Tensor:
    return code[(*(slice(None),) * (dim % code.ndim), slice(*ends) if ends else slice(None))]


_FUNCTIONS: dict[str, Callable[..., Any]] = {"getitem": torch.Tensor.__getitem__, "slice": _sliced}


def _padded(code: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Tensor:
    if mode == "constant":
        padded = {code.ndim - 1 - index // 2 for index, size in enumerate(pad) if size}
        code_once = distinct(code, padded)  # once for all channels
        sizes = [-1 if axis in padded else size for axis, size in enumerate(code.shape)]
        return F.pad(code_once, list(pad), value=PADDING).expand(sizes)
    return F.pad(code.double(), list(pad), mode=mode).long()  # other modes take no integers


def _concrete(value: Any) -> Any:
    """An argument with index tensors in place of their nodes.

    Raises:
        ValueError: an index has no known value, or is random.
    """
    if isinstance(value, Node):
        # Random indices, such as the masking of MAE, and tokens that are kept by score differ in the next call.
        is_random = value.name in _RANDOM or any(origin.name in _RANDOM for origin in _origins(value))
        if value.value is None or value.depends or is_random:
            raise ValueError("the index is unknown, random or depends on the data")
        return value.value.cpu()
    return tuple(map(_concrete, value)) if isinstance(value, tuple) else value


def _origins(node: Node) -> Iterator[Node]:
    stack, visited = [node], {id(node)}
    while stack:
        for parent in stack.pop().parents:
            if id(parent) not in visited:
                visited.add(id(parent))
                stack.append(parent)
                yield parent


_REDUCTIONS = "sum mean amax amin max min std var norm logsumexp nanmean median".split()
_CONVOLUTIONS = """
    conv1d conv2d conv3d conv_transpose2d conv_transpose3d deform_conv2d convolution interpolate pixel_shuffle
    pixel_unshuffle max_pool2d max_pool3d avg_pool2d avg_pool3d lp_pool2d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool2d
""".split()
_UNKNOWN = "grid_sample sort topk argsort argmax argmin nonzero masked_select cumsum".split()

_RULES: dict[str, Callable[[PositionTracker, Node], Positions | None]] = {
    **dict.fromkeys("cat concat concatenate stack".split(), PositionTracker._joined),
    **dict.fromkeys(_REDUCTIONS, PositionTracker._reduced),
    **dict.fromkeys(_CONVOLUTIONS, PositionTracker._convolution),
    **dict.fromkeys(_UNKNOWN, PositionTracker._unknown),
    **dict.fromkeys("matmul baddbmm".split(), PositionTracker._product),
    "linear": PositionTracker._linear,
    "addmm": PositionTracker._linear,
    "einsum": PositionTracker._einsum,
    "scaled_dot_product_attention": PositionTracker._fused,
    "setitem": PositionTracker._written,
}

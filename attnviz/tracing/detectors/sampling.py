r"""Sampling: :math:`y = \sum_s m_s\, x(g_s)`, where ``x`` is read between pixels at points that were predicted from it.

``g`` is always the points themselves, in pixels of the sampled map, ``(x, y)`` with (0, 0) the centre of the upper left
pixel. What else takes part, such as the modulation mask of deformable convolution v2, belongs to ``x``. Points are kept
one precision wider than the model has them (float64 for float32), so that they lead back to the model's own offsets or
grid without rounding: ``f(g, x)`` is the model's ``y`` bit for bit. (Apple's MPS has no float64: there the rounding is
that of float32 pixels.)

Source: STN (Jaderberg et al., NeurIPS 2015), deformable convolution (Dai et al., ICCV 2017; Zhu et al., CVPR 2019),
Deformable DETR (Zhu et al., ICLR 2021), DAT (Xia et al., CVPR 2022).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.core.records import Kind
from attnviz.core.uses import Operand
from attnviz.errors import CaptureError
from attnviz.instrumentation.operations import LEARNED, TRANSPARENT
from attnviz.tracing.axis_meanings import heads_in, parts_of
from attnviz.tracing.detectors.registry import RECOGNISERS, Finding
from attnviz.tracing.graph import Graph, Node


def _wider(t: Tensor) -> Tensor:
    if t.dtype in {torch.float16, torch.bfloat16}:
        return t.float()
    return t if t.device.type == "mps" else t.double()


def _several(x: Operand, count: int) -> tuple[Tensor, ...]:
    given = (x,) if isinstance(x, Tensor) else tuple(x)
    if len(given) != count:
        raise TypeError(f"this sampling has {count} operands, got {len(given)}")
    return given


def _extent(size: Sequence[int], like: Tensor) -> Tensor:
    """``(width, height)`` from ``(…, height, width)``."""
    return torch.tensor([size[-1], size[-2]], dtype=like.dtype, device=like.device)


@dataclass(frozen=True, slots=True)
class GridSampling:
    """``grid_sample``: ``g`` is ``(N, S, H, W, 2)``, ``H W`` the axes of the grid, ``x`` the map that is sampled.

    ``S`` is 1, or the number of heads or groups that the model keeps in its batch axis. In the levels of multi-scale
    deformable attention, ``H`` are the queries and ``W`` the points of each.

    Attributes:
        mode: As in ``grid_sample``.
        padding_mode: As in ``grid_sample``.
        align_corners: As in ``grid_sample``.
        fold: How many heads or groups the batch axis holds for each image.
    """

    mode: str
    padding_mode: str
    align_corners: bool
    fold: int = 1

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The grid in pixels, and the map."""
        x, grid = [*args, *(kwargs[k] for k in ("input", "grid") if k in kwargs)][:2]
        size = _extent(x.shape, grid := _wider(grid))
        points = (grid + 1) * (size - 1) / 2 if self.align_corners else ((grid + 1) * size - 1) / 2
        return points.unflatten(0, (-1, self.fold)), x

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """``x`` at the points ``g``."""
        (x,) = _several(x, 1)
        points = g.flatten(0, 1)
        size = _extent(x.shape, points)
        # A map of one pixel with aligned corners is the same everywhere.
        grid = 2 * points / (size - 1).clamp_min(1) - 1 if self.align_corners else (2 * points + 1) / size - 1
        # A float64 grid was float32 in the model, beside a map that autocast may have left in half precision.
        dtype = torch.promote_types(x.dtype, torch.float32) if g.dtype == torch.float64 else x.dtype
        return F.grid_sample(x.to(dtype), grid.to(dtype), self.mode, self.padding_mode, self.align_corners)


@dataclass(frozen=True, slots=True)
class DeformableSampling:
    """Deformable convolution, or its sampling alone: ``g`` is ``(N, S, H, W, 2)``, ``S`` offset groups times taps.

    ``x`` is the map that is sampled, then the weights and the bias of a convolution, then the modulation mask: those
    that there are. ``H W`` are the axes of the result.

    Attributes:
        operation: ``"torchvision.deform_conv2d"``, ``"attnviz.deform_conv2d"`` or ``"attnviz.deform_sample"``.
        kernel: Height and width of the kernel, in taps.
        stride: Along height and width.
        padding: Along height and width.
        dilation: Along height and width.
        parts: What ``x`` is made of: some of ``input``, ``weight``, ``bias``, ``mask``, in this order.
    """

    operation: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    parts: tuple[str, ...]

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The points that are sampled, taps and offsets together; and what is sampled and how it is summed."""
        given = {**dict(zip(_OPERANDS[self.operation], args, strict=False)), **kwargs}
        offset = _wider(given["offset"]).unflatten(1, (-1, 2)).flip(2).permute(0, 1, 3, 4, 2)
        return offset + self._taps(offset), tuple(given[name] for name in self.parts)

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """The operation with the offsets that lead to the points ``g``."""
        given = dict(zip(self.parts, _several(x, len(self.parts)), strict=True))
        source = given["input"]
        offset = (g - self._taps(g)).permute(0, 1, 4, 2, 3).flip(2).flatten(1, 2).to(source.dtype).contiguous()
        weight, bias, mask = given.get("weight"), given.get("bias"), given.get("mask")
        window = (*self.stride, *self.padding, *self.dilation)
        operator = _operator(self.operation)
        if self.operation == "torchvision.deform_conv2d":
            shared = source.shape[1] // given["weight"].shape[1]
            groups = g.shape[1] // (self.kernel[0] * self.kernel[1])
            unused = mask is None
            mask = source.new_zeros(source.shape[0], 1) if mask is None else mask
            y: Tensor = operator(source, weight, offset, mask, bias, *window, shared, groups, not unused)
            return y
        pairs = (list(self.stride), list(self.padding), list(self.dilation))
        if self.operation == "attnviz.deform_conv2d":
            y = operator(source, offset, weight, bias, *pairs, mask)
        else:
            y = operator(source, offset, mask, list(self.kernel), *pairs)
        return y

    def _taps(self, like: Tensor) -> Tensor:
        """Where a convolution without offsets samples: ``(1, S, H, W, 2)``."""
        h, w = like.shape[2:4]
        ys, xs = (
            (torch.arange(k) * d)[:, None] + torch.arange(n) * s - p
            for k, d, n, s, p in zip(self.kernel, self.dilation, (h, w), self.stride, self.padding, strict=True)
        )
        taps = torch.stack(
            [
                xs[None, :, None, :].expand(self.kernel[0], -1, h, -1),
                ys[:, None, :, None].expand(-1, self.kernel[1], -1, w),
            ],
            dim=-1,
        )
        taps = taps.flatten(0, 1).to(like)
        return taps.repeat(like.shape[1] // taps.shape[0], 1, 1, 1)[None]


@dataclass(frozen=True, slots=True)
class MultiScaleSampling:
    """Multi-scale deformable attention in one operation: ``g`` is ``(N, S, H, W, 2)``.

    ``S`` are heads times levels times points, ``H`` the queries and ``W`` is 1; each point is in pixels of its own
    level. ``x`` is the values, the levels'
    sizes, where each level starts, and the attention weights ``(N, Q, heads, levels, points)``.

    Attributes:
        heads: How many heads there are.
        levels: How many maps are sampled.
    """

    heads: int
    levels: int

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The points that are sampled, and what is sampled and how it is summed."""
        names = ("value", "spatial_shapes", "level_start_index", "locations", "weights")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        locations = _wider(given["locations"])
        points = locations * self._sizes(given["spatial_shapes"], locations) - 0.5
        return points.permute(0, 2, 3, 4, 1, 5).flatten(1, 3).unsqueeze(3), tuple(
            given[name] for name in names if name != "locations"
        )

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """The operation at the points ``g``."""
        value, sizes, starts, weights = _several(x, 4)
        points = g.squeeze(3).unflatten(1, (self.heads, self.levels, -1)).permute(0, 4, 1, 2, 3, 5)
        locations = ((points + 0.5) / self._sizes(sizes, points)).to(value.dtype).contiguous()
        y: Tensor = _operator("attnviz.ms_deform_attn")(value, sizes, starts, locations, weights)
        return y

    @staticmethod
    def _sizes(spatial_shapes: Tensor, like: Tensor) -> Tensor:
        return spatial_shapes.flip(-1).to(like)[:, None]


_OPERANDS = {
    "torchvision.deform_conv2d": ("input", "weight", "offset", "mask", "bias"),
    "attnviz.deform_conv2d": ("input", "offset", "weight", "bias", "stride", "padding", "dilation", "mask"),
    "attnviz.deform_sample": ("input", "offset", "mask", "kernel_size", "stride", "padding", "dilation"),
}


def _operator(operation: str) -> Any:
    """A registered operator; the library that brings it is imported where that has not happened yet."""
    library, name = operation.split(".")
    try:
        importlib.import_module({"attnviz": "attnviz.ops"}.get(library, library))
        return getattr(getattr(torch.ops, library), name)
    except (ImportError, AttributeError) as error:
        raise CaptureError(f"{operation}: to rebuild what it computed, its library must be installed") from error


@RECOGNISERS.register("grid-sampling")
def recognise_grid(graph: Graph, node: Node) -> Finding | None:
    """``grid_sample`` at a grid that was predicted; a grid that only resizes is not attention."""
    if node.name not in {"grid_sample", "grid_sampler", "grid_sampler_2d"} or len(node.shape) != 4:
        return None
    x, grid = node.parents[:2]
    names = ("mode", "padding_mode", "align_corners")
    given = {**dict(zip(names, node.args[2:], strict=False)), **node.kwargs}
    mode = _named(given.get("mode", "bilinear"), ("bilinear", "nearest", "bicubic"))
    padding = _named(given.get("padding_mode", "zeros"), ("zeros", "border", "reflection"))
    if not x.depends or mode == "nearest" or not is_predicted(grid):
        return None
    use = GridSampling(mode, padding, bool(given.get("align_corners")), heads_in(parts_of(x, 0)))
    return Finding(Kind.SAMPLING, use, grid, x)


def _named(value: str | int, names: tuple[str, ...]) -> str:
    return value if isinstance(value, str) else names[value]


@RECOGNISERS.register("deformable-sampling")
def recognise_deformable(graph: Graph, node: Node) -> Finding | None:
    """Deformable convolution, v1 and v2, and deformable sampling, at offsets that were predicted."""
    if node.name not in {"deform_conv2d", "deform_sample"}:
        return None
    operation = f"torchvision.{node.name}" if len(node.args) == 14 else f"attnviz.{node.name}"
    given = {**dict(zip(_OPERANDS[operation], node.args, strict=False)), **node.kwargs}
    x, offset = given["input"], given["offset"]
    if not x.depends or not is_predicted(offset):
        return None
    if operation.startswith("torchvision"):
        stride, padding, dilation = (tuple(node.args[i : i + 2]) for i in (5, 7, 9))
        given["mask"] = given["mask"] if node.args[13] else None
    else:
        stride, padding, dilation = (tuple(given[name]) for name in ("stride", "padding", "dilation"))
    kernel = tuple(given["kernel_size"]) if "kernel_size" in given else given["weight"].shape[-2:]
    parts = tuple(name for name in ("input", "weight", "bias", "mask") if given.get(name) is not None)
    return Finding(Kind.SAMPLING, DeformableSampling(operation, kernel, stride, padding, dilation, parts), offset, x)


@RECOGNISERS.register("multi-scale-sampling")
def recognise_multi_scale(graph: Graph, node: Node) -> Finding | None:
    """Multi-scale deformable attention as one operation."""
    if node.name != "ms_deform_attn" or len(node.parents) < 5:
        return None
    x, locations = node.parents[0], node.parents[3]
    if not x.depends or not is_predicted(locations):
        return None
    return Finding(Kind.SAMPLING, MultiScaleSampling(locations.shape[2], locations.shape[3]), locations, x)


# The value of the operand plays no part: only its shape, type or device does.
_SHAPE_ONLY = frozenset(
    """
    zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty new_tensor
    """.split()
)


def is_predicted(node: Node) -> bool:
    """Whether a value was computed from the inputs by something that learns, and not only from their shape."""
    stack, seen = [node], set()
    while stack:
        current = stack.pop()
        if id(current) in seen or not current.depends or current.name in _SHAPE_ONLY:
            continue
        seen.add(id(current))
        if current.name in LEARNED:
            return True
        stack.extend(current.parents[:1] if current.name in TRANSPARENT else current.parents)
    return False

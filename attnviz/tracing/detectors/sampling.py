r"""Sampling: :math:`y = \sum_s m_s\, x(g_s)`, where ``x`` is sampled between pixels at points predicted from it.

``g`` are the points, in pixels of the sampled map: ``(x, y)``, with (0, 0) at the centre of the upper left pixel. Other
operands, such as the modulation mask of deformable convolution v2, belong to ``x``. Points are stored in the next wider
floating-point type (float64 for float32), so that the model's own offsets or grid are recovered without rounding, and
``f(g, x)`` equals the model's ``y`` bit for bit. Apple's MPS has no float64: points have the rounding of float32 there.

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
from attnviz.tracing.axis_meanings import parts_of
from attnviz.tracing.axis_parts import heads_in
from attnviz.tracing.detectors.registry import RECOGNISERS, Finding
from attnviz.tracing.graph import Graph, Node


def _wider(t: Tensor) -> Tensor:
    if t.dtype in {torch.float16, torch.bfloat16}:
        return t.float()
    return t if t.device.type == "mps" else t.double()


def _several(x: Operand, count: int) -> tuple[Tensor, ...]:
    operands = (x,) if isinstance(x, Tensor) else tuple(x)
    if len(operands) != count:
        raise TypeError(f"this sampling has {count} operands, got {len(operands)}")
    return operands


def _extent(size: Sequence[int], like: Tensor) -> Tensor:
    """``(width, height)`` from ``(…, height, width)``."""
    return torch.tensor([size[-1], size[-2]], dtype=like.dtype, device=like.device)


@dataclass(frozen=True, slots=True)
class GridSampling:
    """``grid_sample``: ``g`` is ``(N, S, H, W, 2)``, with the axes ``H W`` of the grid; ``x`` is the sampled map.

    ``S`` is 1, or the number of heads or groups in the batch axis. In multi-scale deformable attention, ``H`` are the
    queries and ``W`` the points per query.

    Attributes:
        mode: As in ``grid_sample``.
        padding_mode: As in ``grid_sample``.
        align_corners: As in ``grid_sample``.
        fold: Number of heads or groups per image in the batch axis.
    """

    mode: str
    padding_mode: str
    align_corners: bool
    fold: int = 1

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The grid in pixels, and the sampled map."""
        x, grid = [*args, *(kwargs[k] for k in ("input", "grid") if k in kwargs)][:2]
        size = _extent(x.shape, grid := _wider(grid))
        points = (grid + 1) * (size - 1) / 2 if self.align_corners else ((grid + 1) * size - 1) / 2
        return points.unflatten(0, (-1, self.fold)), x

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """Sample ``x`` at the points ``g``."""
        (x,) = _several(x, 1)
        points = g.flatten(0, 1)
        size = _extent(x.shape, points)
        # With aligned corners, a map of one pixel has an extent of 0.
        grid = 2 * points / (size - 1).clamp_min(1) - 1 if self.align_corners else (2 * points + 1) / size - 1
        # A float64 grid was float32 in the model; under autocast the map can be in half precision.
        dtype = torch.promote_types(x.dtype, torch.float32) if g.dtype == torch.float64 else x.dtype
        return F.grid_sample(x.to(dtype), grid.to(dtype), self.mode, self.padding_mode, self.align_corners)


@dataclass(frozen=True, slots=True)
class DeformableSampling:
    """Deformable convolution, or only its sampling: ``g`` is ``(N, S, H, W, 2)``, ``S`` offset groups times taps.

    ``x`` is the tuple of the tensors named in ``parts``. ``H W`` are the axes of the result.

    Attributes:
        operation: ``"torchvision.deform_conv2d"``, ``"attnviz.deform_conv2d"`` or ``"attnviz.deform_sample"``.
        kernel: Height and width of the kernel, in taps.
        stride: Stride along height and width.
        padding: Padding along height and width.
        dilation: Dilation along height and width.
        parts: Names of the operands of ``x``: a subset of ``input``, ``weight``, ``bias``, ``mask``, in this order.
    """

    operation: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    parts: tuple[str, ...]

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The sampled points, taps plus offsets; and the other operands."""
        operands = {**dict(zip(_OPERANDS[self.operation], args, strict=False)), **kwargs}
        offset = _wider(operands["offset"]).unflatten(1, (-1, 2)).flip(2).permute(0, 1, 3, 4, 2)
        return offset + self._taps(offset), tuple(operands[name] for name in self.parts)

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """Run the operation with the offsets that give the points ``g``."""
        operands = dict(zip(self.parts, _several(x, len(self.parts)), strict=True))
        source = operands["input"]
        offset = (g - self._taps(g)).permute(0, 1, 4, 2, 3).flip(2).flatten(1, 2).to(source.dtype).contiguous()
        weight, bias, mask = operands.get("weight"), operands.get("bias"), operands.get("mask")
        window = (*self.stride, *self.padding, *self.dilation)
        operator = _operator(self.operation)
        if self.operation == "torchvision.deform_conv2d":
            groups = source.shape[1] // operands["weight"].shape[1]
            offset_groups = g.shape[1] // (self.kernel[0] * self.kernel[1])
            has_mask = mask is not None
            mask = source.new_zeros(source.shape[0], 1) if mask is None else mask
            y: Tensor = operator(source, weight, offset, mask, bias, *window, groups, offset_groups, has_mask)
            return y
        pairs = (list(self.stride), list(self.padding), list(self.dilation))
        if self.operation == "attnviz.deform_conv2d":
            y = operator(source, offset, weight, bias, *pairs, mask)
        else:
            y = operator(source, offset, mask, list(self.kernel), *pairs)
        return y

    def _taps(self, like: Tensor) -> Tensor:
        """The points that a convolution without offsets samples, ``(1, S, H, W, 2)``."""
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

    ``S`` is heads times levels times points, ``H`` are the queries and ``W`` is 1; each point is in pixels of its
    level. ``x`` are the values, the sizes and start indices of the levels, and the attention weights
    ``(N, Q, heads, levels, points)``.

    Attributes:
        heads: Number of heads.
        levels: Number of sampled maps.
    """

    heads: int
    levels: int

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The sampled points, and the other operands."""
        names = ("value", "spatial_shapes", "level_start_index", "locations", "weights")
        operands = {**dict(zip(names, args, strict=False)), **kwargs}
        locations = _wider(operands["locations"])
        points = locations * self._sizes(operands["spatial_shapes"], locations) - 0.5
        others = tuple(operands[name] for name in names if name != "locations")
        return points.permute(0, 2, 3, 4, 1, 5).flatten(1, 3).unsqueeze(3), others

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """Run the operation at the points ``g``."""
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
    """A registered operator; its library is imported if needed.

    Raises:
        CaptureError: the library is not installed.
    """
    library, name = operation.split(".")
    try:
        importlib.import_module({"attnviz": "attnviz.ops"}.get(library, library))
        return getattr(getattr(torch.ops, library), name)
    except (ImportError, AttributeError) as error:
        raise CaptureError(f"{operation}: to reconstruct its output, its library must be installed") from error


@RECOGNISERS.register("grid-sampling")
def recognise_grid(graph: Graph, node: Node) -> Finding | None:
    """``grid_sample`` at a predicted grid; a grid that only resizes is not attention."""
    if node.name not in {"grid_sample", "grid_sampler", "grid_sampler_2d"} or len(node.shape) != 4:
        return None
    x, grid = node.parents[:2]
    names = ("mode", "padding_mode", "align_corners")
    options = {**dict(zip(names, node.args[2:], strict=False)), **node.kwargs}
    mode = _named(options.get("mode", "bilinear"), ("bilinear", "nearest", "bicubic"))
    padding = _named(options.get("padding_mode", "zeros"), ("zeros", "border", "reflection"))
    if not x.depends or mode == "nearest" or not is_predicted(grid):
        return None
    use = GridSampling(mode, padding, bool(options.get("align_corners")), heads_in(parts_of(x, 0)))
    return Finding(Kind.SAMPLING, use, grid, x)


def _named(value: str | int, names: tuple[str, ...]) -> str:
    """An option as text; ``torch.grid_sampler`` takes numbers."""
    return value if isinstance(value, str) else names[value]


@RECOGNISERS.register("deformable-sampling")
def recognise_deformable(graph: Graph, node: Node) -> Finding | None:
    """Deformable convolution, v1 and v2, and deformable sampling at predicted offsets."""
    if node.name not in {"deform_conv2d", "deform_sample"}:
        return None
    operation = f"torchvision.{node.name}" if len(node.args) == 14 else f"attnviz.{node.name}"
    operands = {**dict(zip(_OPERANDS[operation], node.args, strict=False)), **node.kwargs}
    x, offset = operands["input"], operands["offset"]
    if not x.depends or not is_predicted(offset):
        return None
    if operation.startswith("torchvision"):
        stride, padding, dilation = (tuple(node.args[i : i + 2]) for i in (5, 7, 9))
        operands["mask"] = operands["mask"] if node.args[13] else None  # without a mask it is given an empty one
    else:
        stride, padding, dilation = (tuple(operands[name]) for name in ("stride", "padding", "dilation"))
    kernel = tuple(operands["kernel_size"]) if "kernel_size" in operands else operands["weight"].shape[-2:]
    parts = tuple(name for name in ("input", "weight", "bias", "mask") if operands.get(name) is not None)
    return Finding(Kind.SAMPLING, DeformableSampling(operation, kernel, stride, padding, dilation, parts), offset, x)


@RECOGNISERS.register("multi-scale-sampling")
def recognise_multi_scale(graph: Graph, node: Node) -> Finding | None:
    """Multi-scale deformable attention in one operation."""
    if node.name != "ms_deform_attn" or len(node.parents) < 5:
        return None
    x, locations = node.parents[0], node.parents[3]
    if not x.depends or not is_predicted(locations):
        return None
    return Finding(Kind.SAMPLING, MultiScaleSampling(locations.shape[2], locations.shape[3]), locations, x)


def is_predicted(node: Node) -> bool:
    """Whether a learned operation computed the value from the inputs."""
    stack, visited = [node], set()
    while stack:
        current = stack.pop()
        if id(current) in visited or not current.depends:
            continue
        visited.add(id(current))
        if current.name in LEARNED:
            return True
        # expand_as(other) and type_as(other) use only the shape or type of other.
        stack.extend(current.parents[:1] if current.name in TRANSPARENT else current.parents)
    return False

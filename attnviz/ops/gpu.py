"""The operators on CUDA and ROCm: memory, sizes and launches for the Triton kernels.

The functions take any tensors that the kernels can reach: under Triton's interpreter also those of the CPU, which is
how they are tested where there is no GPU. Without Triton the reference runs.
"""

import importlib.util
import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attnviz.ops import cpu
from attnviz.ops.geometry import Window, computing_dtype, conv_window, levels, window

POSITIONS, CHANNELS = 128, 8  # of a program that gathers
SCATTER_POSITIONS = 64  # more would spill registers on sm_80
QUERIES, DEPTH = 16, 32


def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _kernels() -> Any:
    from attnviz.ops import triton_kernels

    return triton_kernels


def _wide(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype).contiguous()


def _geometry(w: Window) -> tuple[int, ...]:
    return (
        w.height, w.width, w.taps, w.kernel[1], w.positions, w.out_width, *w.stride, *w.padding, *w.dilation
    )  # fmt: skip


def _say_not_deterministic(name: str) -> None:
    """What torch does for its own operators whose sums have no fixed order."""
    if not torch.are_deterministic_algorithms_enabled():
        return
    text = f"{name} on a GPU adds up with atomics: wanted a deterministic algorithm, there is none"
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(text)
    warnings.warn(text, stacklevel=3)


def _gather(w: Window, x: Tensor, offset: Tensor, mask: Tensor | None, out: Tensor, *, total: bool) -> None:
    """Samples of (B, C/G) images into ``out``: of each tap, or their total."""
    channels, images = w.channels // w.offset_groups, w.batch * w.offset_groups
    blocks, channel_blocks = math.ceil(w.positions / POSITIONS), math.ceil(channels / CHANNELS)
    grid = (blocks * channel_blocks * images * (1 if total else w.taps),)
    _kernels().window_gather[grid](
        x, offset, offset if mask is None else mask, out, blocks, channel_blocks, channels, *_geometry(w),
        HAS_MASK=mask is not None, SUM=total, POSITIONS=POSITIONS, CHANNELS=CHANNELS,
    )  # fmt: skip


def _scatter(
    w: Window, grad: Tensor, strides: tuple[int, int, int], x: Tensor, offset: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of image, offset and mask (empty without one)."""
    images_grad, offset_grad = torch.zeros_like(x), torch.empty_like(offset)
    mask_grad = offset.new_empty(0) if mask is None else torch.empty_like(mask)
    blocks = math.ceil(w.positions / SCATTER_POSITIONS)
    _kernels().window_scatter[(blocks * w.taps * w.batch * w.offset_groups,)](
        grad, *strides, x, offset, offset if mask is None else mask, images_grad, offset_grad, mask_grad,
        blocks, w.channels // w.offset_groups, *_geometry(w),
        HAS_MASK=mask is not None, POSITIONS=SCATTER_POSITIONS, CHANNELS=CHANNELS,
    )  # fmt: skip
    return images_grad, offset_grad, mask_grad


def deform_conv2d(image: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    """``attnviz::deform_conv2d``: columns by Triton, their product with the weights by torch."""
    mask: Tensor | None = rest[-1]
    w = conv_window(image, offset, weight, bias, *rest)
    if w.is_empty or not _has_triton():
        return cpu.deform_conv2d(image, offset, weight, bias, *rest)
    dtype = computing_dtype(image.dtype)
    x, offset, weight = (_wide(t, dtype) for t in (image, offset, weight))
    columns = x.new_empty(w.batch, w.channels * w.taps, w.positions)
    _gather(w, x, offset, None if mask is None else _wide(mask, dtype), columns, total=False)
    columns = columns.reshape(w.batch, w.groups, -1, w.positions)
    out = weight.reshape(w.groups, w.out_channels // w.groups, -1) @ columns
    out = out.reshape(w.batch, w.out_channels, w.out_height, w.out_width)
    return (out if bias is None else out + bias[:, None, None].to(dtype)).to(image.dtype)


def deform_conv2d_backward(
    grad: Tensor, image: Tensor, offset: Tensor, weight: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    """``attnviz::deform_conv2d_backward``."""
    _say_not_deterministic("deform_conv2d_backward")
    mask: Tensor | None = rest[-1]
    w = conv_window(image, offset, weight, None, *rest)
    if w.is_empty or not _has_triton():
        return cpu.deform_conv2d_backward(grad, image, offset, weight, *rest)
    dtype = computing_dtype(image.dtype)
    grad, x, offset, weight = (_wide(t, dtype) for t in (grad, image, offset, weight))
    mask = None if mask is None else _wide(mask, dtype)
    grad = grad.reshape(w.batch, w.groups, w.out_channels // w.groups, w.positions)
    columns = x.new_empty(w.batch, w.channels * w.taps, w.positions)
    _gather(w, x, offset, mask, columns, total=False)
    weight_grad = (grad @ columns.reshape(w.batch, w.groups, -1, w.positions).transpose(2, 3)).sum(0)
    columns = (weight.reshape(w.groups, w.out_channels // w.groups, -1).transpose(1, 2) @ grad).contiguous()
    strides = (w.channels // w.offset_groups * w.taps * w.positions, w.taps * w.positions, w.positions)
    grads = *_scatter(w, columns, strides, x, offset, mask), weight_grad.reshape(weight.shape)
    return tuple(g.to(image.dtype) for g in grads)


def deform_sample(image: Tensor, offset: Tensor, mask: Tensor | None, *geometry: Sequence[int]) -> Tensor:
    """``attnviz::deform_sample``."""
    w = window(image, offset, mask, *geometry)
    if w.is_empty or not _has_triton():
        return cpu.deform_sample(image, offset, mask, *geometry)
    dtype = computing_dtype(image.dtype)
    x, offset = _wide(image, dtype), _wide(offset, dtype)
    out = x.new_empty(w.batch, w.channels, w.out_height, w.out_width)
    _gather(w, x, offset, None if mask is None else _wide(mask, dtype), out, total=True)
    return out.to(image.dtype)


def deform_sample_backward(
    grad: Tensor, image: Tensor, offset: Tensor, mask: Tensor | None, *geometry: Sequence[int]
) -> tuple[Tensor, ...]:
    """``attnviz::deform_sample_backward``."""
    _say_not_deterministic("deform_sample_backward")
    w = window(image, offset, mask, *geometry)
    if w.is_empty or not _has_triton():
        return cpu.deform_sample_backward(grad, image, offset, mask, *geometry)
    dtype = computing_dtype(image.dtype)
    grad, x, offset = (_wide(t, dtype) for t in (grad, image, offset))
    strides = (w.channels // w.offset_groups * w.positions, w.positions, 0)
    grads = _scatter(w, grad, strides, x, offset, None if mask is None else _wide(mask, dtype))
    return tuple(g.to(image.dtype) for g in grads)


def ms_deform_attn(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """``attnviz::ms_deform_attn``; sizes of levels stay on the GPU, rows beyond ``value`` are ignored."""
    s = levels(value, shapes, starts, locations, weights)
    if s.is_empty or not _has_triton():
        return cpu.ms_deform_attn(value, shapes, starts, locations, weights)
    dtype = computing_dtype(value.dtype)
    out = torch.empty(s.batch, s.queries, s.heads * s.depth, dtype=dtype, device=value.device)
    blocks, depth_blocks = math.ceil(s.queries / QUERIES), math.ceil(s.depth / DEPTH)
    _kernels().attention_gather[(blocks * depth_blocks * s.heads * s.batch,)](
        _wide(value, dtype), shapes.contiguous(), starts.contiguous(), _wide(locations, dtype), _wide(weights, dtype),
        out, blocks, depth_blocks, s.rows, s.heads, s.depth, s.queries, s.levels, s.points,
        QUERIES=QUERIES, DEPTH=DEPTH,
    )  # fmt: skip
    return out.to(value.dtype)


def ms_deform_attn_backward(
    grad: Tensor, value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor
) -> tuple[Tensor, ...]:
    """``attnviz::ms_deform_attn_backward``."""
    _say_not_deterministic("ms_deform_attn_backward")
    s = levels(value, shapes, starts, locations, weights)
    if s.is_empty or not _has_triton():
        return cpu.ms_deform_attn_backward(grad, value, shapes, starts, locations, weights)
    dtype = computing_dtype(value.dtype)
    wide = [_wide(t, dtype) for t in (grad, value, locations, weights)]
    outs = torch.zeros_like(wide[1]), torch.empty_like(wide[2]), torch.empty_like(wide[3])
    blocks = math.ceil(s.queries / QUERIES)
    _kernels().attention_scatter[(blocks * s.levels * s.points * s.heads * s.batch,)](
        wide[0], wide[1], shapes.contiguous(), starts.contiguous(), wide[2], wide[3], *outs,
        blocks, s.rows, s.heads, s.depth, s.queries, s.levels, s.points, QUERIES=QUERIES, DEPTH=DEPTH,
    )  # fmt: skip
    return tuple(t.to(value.dtype) for t in outs)

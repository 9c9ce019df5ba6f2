"""The operators on the CPU: memory and sizes for the compiled kernels, else the reference."""

from collections.abc import Sequence

import torch
from torch import Tensor

from attnviz.ops import native, reference
from attnviz.ops.geometry import Window, computing_dtype, conv_window, level_table, levels, window


def _is_reference(tensor: Tensor) -> bool:
    return tensor.device.type != "cpu" or native.live() == native.REFERENCE


def _ready(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """The tensor itself where it is fit already: calls into torch cost more than these questions."""
    if tensor is None or (tensor.dtype is dtype and tensor.is_contiguous()):
        return tensor
    return tensor.to(dtype).contiguous()


def _ready_image(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, tuple[int, int, int]]:
    """The image as it is if it is planes or channels-last, else as planes; with its strides for N, C and pixel."""
    x = x if x.dtype is dtype else x.to(dtype)
    _, c, h, w = x.shape
    if x.is_contiguous():
        return x, (c * h * w, h * w, 1)
    if x.is_contiguous(memory_format=torch.channels_last):
        return x, (c * h * w, 1, c)
    return x.contiguous(), (c * h * w, h * w, 1)


def _sizes(w: Window, strides: tuple[int, int, int]) -> tuple[int, ...]:
    """In the order of ``Window`` in csrc/image.hpp."""
    return (
        w.batch, w.channels, w.height, w.width, w.out_channels, *w.kernel, w.out_height, w.out_width,
        *w.stride, *w.padding, *w.dilation, w.groups, w.offset_groups, *strides,
    )  # fmt: skip


def _cast(tensors: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    return tuple(t if t.dtype is dtype else t.to(dtype) for t in tensors)


def deform_conv2d(
    input: Tensor,  # noqa: A002 - torch's name
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    mask: Tensor | None,
) -> Tensor:
    """``attnviz::deform_conv2d``."""
    w = conv_window(input, offset, weight, bias, stride, padding, dilation, mask)
    if _is_reference(input) or w.is_empty:
        return reference.deform_conv2d(w, input, offset, weight, bias, mask)
    dtype = computing_dtype(input.dtype)
    x, strides = _ready_image(input, dtype)
    out = torch.empty(w.batch, w.out_channels, w.out_height, w.out_width, dtype=dtype)
    tensors = x, _ready(offset, dtype), _ready(mask, dtype), _ready(weight, dtype), _ready(bias, dtype), out
    native.run(native.CONV_FORWARD, _sizes(w, strides), tensors)
    return out.to(input.dtype)


def deform_conv2d_backward(
    grad: Tensor,
    input: Tensor,  # noqa: A002 - torch's name
    offset: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    mask: Tensor | None,
) -> tuple[Tensor, ...]:
    """``attnviz::deform_conv2d_backward``: gradients of input, offset, mask (empty without one) and weight."""
    w = conv_window(input, offset, weight, None, stride, padding, dilation, mask)
    dtype = computing_dtype(input.dtype)
    if _is_reference(input) or w.is_empty:
        grads = reference.deform_conv2d_backward(w, grad, input, offset, weight, mask)
        return _cast((*grads[:2], grads[2] if mask is not None else grads[2].new_empty(0), grads[3]), input.dtype)
    x, strides = _ready_image(input, dtype)
    outs = [torch.empty(t.shape, dtype=dtype) for t in (input, offset, weight)]
    mask_grad = None if mask is None else torch.empty(mask.shape, dtype=dtype)
    tensors = _ready(grad, dtype), x, _ready(offset, dtype), _ready(mask, dtype), _ready(weight, dtype)
    native.run(native.CONV_BACKWARD, _sizes(w, strides), (*tensors, outs[0], outs[1], mask_grad, outs[2]))
    return _cast((outs[0], outs[1], input.new_empty(0) if mask_grad is None else mask_grad, outs[2]), input.dtype)


def deform_sample(
    input: Tensor,  # noqa: A002 - torch's name
    offset: Tensor,
    mask: Tensor | None,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """``attnviz::deform_sample``."""
    w = window(input, offset, mask, kernel_size, stride, padding, dilation)
    if _is_reference(input) or w.is_empty:
        return reference.deform_sample(w, input, offset, mask)
    dtype = computing_dtype(input.dtype)
    x, strides = _ready_image(input, dtype)
    out = torch.empty(w.batch, w.channels, w.out_height, w.out_width, dtype=dtype)
    native.run(native.SAMPLE_FORWARD, _sizes(w, strides), (x, _ready(offset, dtype), _ready(mask, dtype), out))
    return out.to(input.dtype)


def deform_sample_backward(
    grad: Tensor,
    input: Tensor,  # noqa: A002 - torch's name
    offset: Tensor,
    mask: Tensor | None,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[Tensor, ...]:
    """``attnviz::deform_sample_backward``: gradients of input, offset and mask (empty without one)."""
    w = window(input, offset, mask, kernel_size, stride, padding, dilation)
    dtype = computing_dtype(input.dtype)
    if _is_reference(input) or w.is_empty:
        grads = reference.deform_sample_backward(w, grad, input, offset, mask)
        return _cast((*grads[:2], grads[2] if mask is not None else grads[2].new_empty(0)), input.dtype)
    x, strides = _ready_image(input, dtype)
    input_grad, offset_grad = (torch.empty(t.shape, dtype=dtype) for t in (input, offset))
    mask_grad = None if mask is None else torch.empty(mask.shape, dtype=dtype)
    tensors = _ready(grad, dtype), x, _ready(offset, dtype), _ready(mask, dtype), input_grad, offset_grad, mask_grad
    native.run(native.SAMPLE_BACKWARD, _sizes(w, strides), tensors)
    return _cast((input_grad, offset_grad, input.new_empty(0) if mask_grad is None else mask_grad), input.dtype)


def ms_deform_attn(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """``attnviz::ms_deform_attn``."""
    s = levels(value, shapes, starts, locations, weights)
    table = level_table(s, shapes, starts)
    if _is_reference(value) or s.is_empty:
        return reference.ms_deform_attn(s, table, value, locations, weights)
    dtype = computing_dtype(value.dtype)
    out = torch.empty(s.batch, s.queries, s.heads * s.depth, dtype=dtype)
    sizes = (s.batch, s.rows, s.heads, s.depth, s.queries, s.levels, s.points, *table)
    tensors = _ready(value, dtype), _ready(locations, dtype), _ready(weights, dtype), out
    native.run(native.ATTENTION_FORWARD, sizes, tensors)
    return out.to(value.dtype)


def ms_deform_attn_backward(
    grad: Tensor, value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor
) -> tuple[Tensor, ...]:
    """``attnviz::ms_deform_attn_backward``: gradients of value, locations and weights."""
    s = levels(value, shapes, starts, locations, weights)
    table = level_table(s, shapes, starts)
    if _is_reference(value) or s.is_empty:
        return _cast(reference.ms_deform_attn_backward(s, table, grad, value, locations, weights), value.dtype)
    dtype = computing_dtype(value.dtype)
    outs = torch.zeros(value.shape, dtype=dtype), *(torch.empty(t.shape, dtype=dtype) for t in (locations, weights))
    sizes = (s.batch, s.rows, s.heads, s.depth, s.queries, s.levels, s.points, *table)
    tensors = _ready(grad, dtype), _ready(value, dtype), _ready(locations, dtype), _ready(weights, dtype), *outs
    native.run(native.ATTENTION_BACKWARD, sizes, tensors)
    return _cast(outs, value.dtype)

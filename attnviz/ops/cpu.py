"""The operators on the CPU: memory and sizes for the compiled kernels, else the reference."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from attnviz.ops import native, reference
from attnviz.ops.geometry import (
    Form,
    Levels,
    Window,
    computing_dtype,
    conv_window,
    form,
    level_table,
    levels,
    remembered,
    window,
)

_levels = remembered(levels)


@remembered
def _window_call(
    check: Callable[..., Window],
    op: int,
    kernel: str,
    threads: int,
    layout: torch.memory_format,
    image: Form,
    *rest: Any,
) -> tuple[Window, native.Call | None]:
    """A checked window and its compiled kernel; ``None`` where the reference is to do it."""
    w = check(image, *rest)
    if kernel == native.REFERENCE or image.device.type != "cpu" or w.is_empty:
        return w, None
    pixels = w.height * w.width
    sizes = (
        w.batch, w.channels, w.height, w.width, w.out_channels, *w.kernel, w.out_height, w.out_width,
        *w.stride, *w.padding, *w.dilation, w.groups, w.offset_groups,
        w.channels * pixels, *((1, w.channels) if layout == torch.channels_last else (pixels, 1)),
    )  # fmt: skip  # in the order of ``Window`` in csrc/image.hpp
    return w, native.prepare(op, sizes, computing_dtype(image.dtype), kernel, threads)


def _window(check: Callable[..., Window], op: int, image: Tensor, *rest: Any) -> tuple[Window, native.Call | None]:
    """The same from tensors, cached."""
    key = [form(a) if isinstance(a, Tensor) else tuple(a) if isinstance(a, list) else a for a in rest]
    return _window_call(check, op, *native.current(), _layout(image), form(image), *key)


@remembered
def _attention_call(op: int, kernel: str, threads: int, value: Form, s: Levels, *table: int) -> native.Call | None:
    """The compiled kernel for some levels; ``None`` where the reference is to do it."""
    if kernel == native.REFERENCE or value.device.type != "cpu" or s.is_empty:
        return None
    sizes = s.batch, s.rows, s.heads, s.depth, s.queries, s.levels, s.points, *table
    return native.prepare(op, sizes, computing_dtype(value.dtype), kernel, threads)


def _attention(
    op: int, value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor
) -> tuple[Levels, list[int], native.Call | None]:
    """Checked sizes, the table of levels, and the kernel."""
    s = _levels(*(form(t) for t in (value, shapes, starts, locations, weights)))
    table = level_table(s, shapes, starts)
    return s, table, _attention_call(op, *native.current(), form(value), s, *table)


def _ready(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """The tensor itself where it is fit already: calls into torch cost more than these questions."""
    if tensor is None or (tensor.dtype is dtype and tensor.is_contiguous()):
        return tensor
    return tensor.to(dtype).contiguous()


def _layout(x: Tensor) -> torch.memory_format:
    """Memory format of an image for the kernels: planes or channels-last, neither of which needs a copy."""
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _ready_image(x: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Return the image in the memory format of :func:`_layout`."""
    return x.to(dtype) if _layout(x) == torch.channels_last else _ready(x, dtype)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor if tensor.dtype is dtype else tensor.to(dtype)


def _window_grads(grads: Sequence[Tensor], dtype: torch.dtype, mask: Tensor | None) -> tuple[Tensor, ...]:
    """Gradients of input, offset, mask and perhaps weight; the mask's is empty where there is no mask."""
    x, offset, of_mask, *rest = grads
    return tuple(_cast(g, dtype) for g in (x, offset, of_mask.new_empty(0) if mask is None else of_mask, *rest))


def deform_conv2d(x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    """``attnviz::deform_conv2d``; the last of ``rest`` is the mask, after stride, padding and dilation."""
    mask: Tensor | None = rest[-1]
    w, call = _window(conv_window, native.CONV_FORWARD, x, offset, weight, bias, *rest)
    if call is None:
        return reference.deform_conv2d(w, x, offset, weight, bias, mask)
    dtype = computing_dtype(x.dtype)
    out = torch.empty(w.batch, w.out_channels, w.out_height, w.out_width, dtype=dtype)
    tensors = (_ready(t, dtype) for t in (offset, mask, weight, bias))
    native.run(call, _ready_image(x, dtype), *tensors, out)
    return _cast(out, x.dtype)


def deform_conv2d_backward(grad: Tensor, x: Tensor, offset: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    """``attnviz::deform_conv2d_backward``: gradients of input, offset, mask (empty without one) and weight."""
    mask: Tensor | None = rest[-1]
    w, call = _window(conv_window, native.CONV_BACKWARD, x, offset, weight, None, *rest)
    dtype = computing_dtype(x.dtype)
    if call is None:
        grads: Sequence[Tensor] = reference.deform_conv2d_backward(w, grad, x, offset, weight, mask)
    else:
        grads = tuple(torch.empty(0 if t is None else t.shape, dtype=dtype) for t in (x, offset, mask, weight))
        out = grads if mask is not None else (*grads[:2], None, grads[3])
        tensors = (_ready(t, dtype) for t in (offset, mask, weight))
        native.run(call, _ready(grad, dtype), _ready_image(x, dtype), *tensors, *out)
    return _window_grads(grads, x.dtype, mask)


def deform_sample(x: Tensor, offset: Tensor, mask: Tensor | None, *geometry: Sequence[int]) -> Tensor:
    """``attnviz::deform_sample``."""
    w, call = _window(window, native.SAMPLE_FORWARD, x, offset, mask, *geometry)
    if call is None:
        return reference.deform_sample(w, x, offset, mask)
    dtype = computing_dtype(x.dtype)
    out = torch.empty(w.batch, w.channels, w.out_height, w.out_width, dtype=dtype)
    native.run(call, _ready_image(x, dtype), _ready(offset, dtype), _ready(mask, dtype), out)
    return _cast(out, x.dtype)


def deform_sample_backward(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor | None, *geometry: Sequence[int]
) -> tuple[Tensor, ...]:
    """``attnviz::deform_sample_backward``: gradients of input, offset and mask (empty without one)."""
    w, call = _window(window, native.SAMPLE_BACKWARD, x, offset, mask, *geometry)
    dtype = computing_dtype(x.dtype)
    if call is None:
        grads: Sequence[Tensor] = reference.deform_sample_backward(w, grad, x, offset, mask)
    else:
        grads = tuple(torch.empty(0 if t is None else t.shape, dtype=dtype) for t in (x, offset, mask))
        out = grads if mask is not None else (*grads[:2], None)
        tensors = _ready_image(x, dtype), _ready(offset, dtype), _ready(mask, dtype)
        native.run(call, _ready(grad, dtype), *tensors, *out)
    return _window_grads(grads, x.dtype, mask)


def ms_deform_attn(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """``attnviz::ms_deform_attn``."""
    s, table, call = _attention(native.ATTENTION_FORWARD, value, shapes, starts, locations, weights)
    if call is None:
        return reference.ms_deform_attn(s, table, value, locations, weights)
    dtype = computing_dtype(value.dtype)
    out = torch.empty(s.batch, s.queries, s.heads * s.depth, dtype=dtype)
    native.run(call, *(_ready(t, dtype) for t in (value, locations, weights)), out)
    return _cast(out, value.dtype)


def ms_deform_attn_backward(
    grad: Tensor, value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor
) -> tuple[Tensor, ...]:
    """``attnviz::ms_deform_attn_backward``: gradients of value, locations and weights."""
    s, table, call = _attention(native.ATTENTION_BACKWARD, value, shapes, starts, locations, weights)
    dtype = computing_dtype(value.dtype)
    if call is None:
        grads: Sequence[Tensor] = reference.ms_deform_attn_backward(s, table, grad, value, locations, weights)
    else:
        grads = [torch.empty(t.shape, dtype=dtype) for t in (value, locations, weights)]
        native.run(call, *(_ready(t, dtype) for t in (grad, value, locations, weights)), *grads)
    return tuple(_cast(g, value.dtype) for g in grads)

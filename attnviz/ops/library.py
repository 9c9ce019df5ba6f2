"""The operators' registration with torch: schemas, devices, fake kernels, gradients, autocast, vmap.

Importing this module makes ``torch.ops.attnviz.*``. Second derivatives are refused with a clear word.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

from attnviz.ops import cpu
from attnviz.ops.dispatcher_bypass import is_direct
from attnviz.ops.geometry import Window, conv_window, levels, window

_GEOMETRY = "int[2] stride, int[2] padding, int[2] dilation"
_LEVELS = "Tensor value, Tensor spatial_shapes, Tensor level_start_index, Tensor locations, Tensor weights"
SCHEMAS = (
    f"deform_conv2d(Tensor input, Tensor offset, Tensor weight, Tensor? bias, {_GEOMETRY}, Tensor? mask) -> Tensor",
    f"deform_conv2d_backward(Tensor grad, Tensor input, Tensor offset, Tensor weight, {_GEOMETRY}, Tensor? mask)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    f"deform_sample(Tensor input, Tensor offset, Tensor? mask, int[2] kernel_size, {_GEOMETRY}) -> Tensor",
    f"deform_sample_backward(Tensor grad, Tensor input, Tensor offset, Tensor? mask, int[2] kernel_size, {_GEOMETRY})"
    " -> (Tensor, Tensor, Tensor)",
    f"ms_deform_attn({_LEVELS}) -> Tensor",
    f"ms_deform_attn_backward(Tensor grad, {_LEVELS}) -> (Tensor, Tensor, Tensor)",
    "bilinear_splat(Tensor points, Tensor weights, SymInt height, SymInt width) -> Tensor",
)
OPS = tuple(schema.split("(")[0] for schema in SCHEMAS)

_library = Library("attnviz", "DEF")
for _schema in SCHEMAS:
    _library.define(_schema)

_ops = torch.ops.attnviz


def call(name: str, *args: Any) -> Any:
    """Call an operator; on the CPU without PyTorch's dispatcher if it would have no effect."""
    direct = is_direct(*(a for a in args if isinstance(a, Tensor)))
    return getattr(cpu if direct else _ops, name)(*args)


def _splat_as_sampling(points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A splat is the adjoint of sampling a single-channel image: that sampler's gradient of ones, offset and mask."""
    offset = points.flip(-1).transpose(1, 2).unsqueeze(-1)
    mask = weights[:, None, :, None]
    return torch.ones_like(mask), offset, mask


_ABSOLUTE: tuple[list[int], ...] = ([1, 1], [0, 0], [0, 0], [1, 1])  # kernel, stride, padding, dilation


def _bilinear_splat(points: Tensor, weights: Tensor, height: int, width: int) -> Tensor:
    ones, offset, mask = _splat_as_sampling(points, weights)
    blank = points.new_zeros(points.shape[0], 1, height, width)
    image: Tensor = _ops.deform_sample_backward(ones, blank, offset, mask, *_ABSOLUTE)[0]
    return image[:, 0].contiguous()


def _on_gpu(name: str) -> Callable[..., Any]:
    """The operator on CUDA and ROCm: Triton's kernels, imported when first needed."""

    def call(*args: Any) -> Any:
        from attnviz.ops import gpu

        return getattr(gpu, name)(*args)

    return call


for _name in OPS[:-1]:
    _library.impl(_name, getattr(cpu, _name), "CompositeExplicitAutograd")  # the CPU, and devices without own kernels
    _library.impl(_name, _on_gpu(_name), "CUDA")
_library.impl("bilinear_splat", _bilinear_splat, "CompositeExplicitAutograd")


def _window_shape(check: Callable[..., Window]) -> Callable[..., Tensor]:
    def fake(*args: Any) -> Tensor:
        w = check(*args)
        blank: Tensor = args[0].new_empty(w.batch, w.out_channels, w.out_height, w.out_width)
        return blank

    return fake


def _attention_shape(*args: Tensor) -> Tensor:
    s = levels(*args)
    return args[0].new_empty(s.batch, s.queries, s.heads * s.depth)


def _blank(*tensors: Tensor | None) -> tuple[Tensor, ...]:
    model = next(t for t in tensors if t is not None)
    return tuple(model.new_empty(0) if t is None else t.new_empty(t.shape) for t in tensors)


_FAKES: dict[str, Callable[..., Any]] = {
    "deform_conv2d": _window_shape(conv_window),
    "deform_conv2d_backward": lambda _grad, x, offset, weight, *rest: _blank(x, offset, rest[-1], weight),
    "deform_sample": _window_shape(window),
    "deform_sample_backward": lambda _grad, x, offset, mask, *_: _blank(x, offset, mask),
    "ms_deform_attn": _attention_shape,
    "ms_deform_attn_backward": lambda _grad, value, _shapes, _starts, *points: _blank(value, *points),
    "bilinear_splat": lambda points, _weights, height, width: points.new_empty(points.shape[0], height, width),
}
for _name, _function in _FAKES.items():
    torch.library.register_fake(f"attnviz::{_name}", _function, lib=_library)


def _conv_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, offset, weight, bias, stride, padding, dilation, mask = inputs
    ctx.save_for_backward(x, offset, weight, mask)
    ctx.geometry, ctx.has_bias = (stride, padding, dilation), bias is not None


def _conv_grad(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, offset, weight, mask = ctx.saved_tensors
    grads = call("deform_conv2d_backward", grad, x, offset, weight, *ctx.geometry, mask)
    bias_grad = grad.sum((0, 2, 3)) if ctx.has_bias and ctx.needs_input_grad[3] else None
    return grads[0], grads[1], grads[3], bias_grad, None, None, None, None if mask is None else grads[2]


def _sample_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, offset, mask, *geometry = inputs
    ctx.save_for_backward(x, offset, mask)
    ctx.geometry = geometry


def _sample_grad(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, offset, mask = ctx.saved_tensors
    grads = call("deform_sample_backward", grad, x, offset, mask, *ctx.geometry)
    return grads[0], grads[1], None if mask is None else grads[2], None, None, None, None


def _attention_grad(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = call("ms_deform_attn_backward", grad, *ctx.saved_tensors)
    return grads[0], None, None, grads[1], grads[2]


def _splat_grad(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    ones, offset, mask = _splat_as_sampling(*ctx.saved_tensors)
    _, offset_grad, mask_grad = _ops.deform_sample_backward(ones, grad[:, None], offset, mask, *_ABSOLUTE)
    return offset_grad[..., 0].transpose(1, 2).flip(-1), mask_grad[:, 0, :, 0], None, None


def _no_second(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
    raise NotImplementedError("attnviz's samplers have first derivatives only: wanted none of a gradient, got one")


for _name, _grad, _context in (
    ("deform_conv2d", _conv_grad, _conv_context),
    ("deform_sample", _sample_grad, _sample_context),
    ("ms_deform_attn", _attention_grad, lambda ctx, inputs, output: ctx.save_for_backward(*inputs)),
    ("bilinear_splat", _splat_grad, lambda ctx, inputs, output: ctx.save_for_backward(*inputs[:2])),
):
    torch.library.register_autograd(f"attnviz::{_name}", _grad, setup_context=_context, lib=_library)
for _name in OPS:
    if _name.endswith("_backward"):
        torch.library.register_autograd(f"attnviz::{_name}", _no_second, lib=_library)


def _under_autocast(name: str, device: str) -> Callable[..., Any]:
    """Autocast brings mixed precisions together: computed in float32 and given in the first tensor's dtype."""

    def call(*args: Any) -> Any:
        wide = [
            a.float() if isinstance(a, Tensor) and a.is_floating_point() and a.dtype != torch.float64 else a
            for a in args
        ]
        with torch.autocast(device, enabled=False):
            return getattr(_ops, name)(*wide).to(args[0].dtype)

    return call


for _name in ("deform_conv2d", "deform_sample", "ms_deform_attn"):
    _library.impl(_name, _under_autocast(_name, "cpu"), "AutocastCPU")
    _library.impl(_name, _under_autocast(_name, "cuda"), "AutocastCUDA")


def _one_by_one(name: str) -> Callable[..., Any]:
    """A vmap rule: call the operator for each entry and stack the results."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        pairs = list(zip(args, in_dims, strict=False))  # torch leaves out trailing Nones
        results = [
            getattr(_ops, name)(*(a.select(d, i) if isinstance(d, int) else a for a, d in pairs))
            for i in range(info.batch_size)
        ]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        stacked = tuple(torch.stack(parts) for parts in zip(*results, strict=True))
        return stacked, (0,) * len(stacked)

    return rule


for _name in OPS:
    torch.library.register_vmap(f"attnviz::{_name}", _one_by_one(_name), lib=_library)

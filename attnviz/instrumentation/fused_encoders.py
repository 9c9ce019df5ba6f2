"""Keep the numbers of PyTorch's fused encoder while its operations are visible.

In eval mode and without gradients, ``nn.MultiheadAttention`` and ``nn.TransformerEncoder`` run fused kernels, in which
no operation can be traced. While a model is traced or captured, these kernels are off. They have two effects that must
remain: padded tokens leave ``nn.TransformerEncoder`` as zeros, and attention is rounded as ``softmax(q kᵀ) v`` in three
steps, not as PyTorch's fused attention operator rounds it.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from attnviz._compat import function_mode_depth
from attnviz.instrumentation.forward_wrapper import Forward, wrap_forward


class _ThreadState(threading.local):
    """Whether the attention that runs in this thread would run in the native kernel."""

    def __init__(self) -> None:
        self.is_native = False


THREAD = _ThreadState()
_DEVICES = {"cpu", "cuda", "xpu"}


def switch_off(modules: Iterable[nn.Module], undo: ExitStack) -> None:
    """Switch the fused kernels off until ``undo`` is closed, with unchanged results of ``modules``."""
    if not torch.backends.mha.get_fastpath_enabled():
        return
    depth = function_mode_depth()
    undo.callback(torch.backends.mha.set_fastpath_enabled, value=True)
    torch.backends.mha.set_fastpath_enabled(value=False)
    if depth:  # with a function mode of the caller, PyTorch does not use them
        return
    for module in modules:
        kind = type(module)
        if isinstance(module, nn.MultiheadAttention) and kind.forward is nn.MultiheadAttention.forward:
            undo.callback(wrap_forward(module, _as_native(module)))
        elif isinstance(module, nn.TransformerEncoder) and kind.forward is nn.TransformerEncoder.forward:
            undo.callback(wrap_forward(module, _with_zeros(module)))


def _as_native(module: nn.MultiheadAttention) -> Callable[[Forward], Forward]:
    def around(forward: Forward) -> Forward:
        bind = inspect.signature(nn.MultiheadAttention.forward).bind

        def run(*args: Any, **kwargs: Any) -> Any:
            before = THREAD.is_native
            THREAD.is_native = _is_native(module, bind(module, *args, **kwargs).arguments)
            try:
                return forward(*args, **kwargs)
            finally:
                THREAD.is_native = before

        return run

    return around


def _is_native(module: nn.MultiheadAttention, given: dict[str, Any]) -> bool:
    """Whether ``nn.MultiheadAttention.forward`` would use its native kernel."""
    query = given["query"]
    masks = [given[name] for name in ("attn_mask", "key_padding_mask") if given.get(name) is not None]
    if not (query.dim() == 3 and query is given["key"] is given["value"]) or any(m.is_floating_point() for m in masks):
        return False
    if module.in_proj_weight is None or query.dtype != module.in_proj_weight.dtype or module.num_heads % 2:
        return False
    if module.training or not module.batch_first or module.bias_k is not None or module.add_zero_attn:
        return False
    learned = (module.in_proj_weight, module.in_proj_bias, module.out_proj.weight, module.out_proj.bias)
    return _is_fused((query, *learned))


def _is_fused(tensors: Iterable[Tensor | None]) -> bool:
    """Whether the device, autocast and gradients allow the fused kernels."""
    known = [tensor for tensor in tensors if tensor is not None]
    has_gradients = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in known)
    return not (torch.is_autocast_enabled() or has_gradients) and all(t.device.type in _DEVICES for t in known)


def _with_zeros(encoder: nn.TransformerEncoder) -> Callable[[Forward], Forward]:
    def around(forward: Forward) -> Forward:
        bind = inspect.signature(nn.TransformerEncoder.forward).bind

        def run(*args: Any, **kwargs: Any) -> Any:
            padding = _nested_padding(encoder, bind(encoder, *args, **kwargs).arguments)
            if padding is None:
                return forward(*args, **kwargs)
            # The fused encoder applies its last normalisation to the zeros.
            last: nn.Module = encoder.layers[-1]
            undo = wrap_forward(last, lambda layer: lambda *a, **k: layer(*a, **k).masked_fill(padding, 0.0))
            try:
                return forward(*args, **kwargs)
            finally:
                undo()

        return run

    return around


def _nested_padding(encoder: nn.TransformerEncoder, given: dict[str, Any]) -> Tensor | None:
    """The padded tokens ``(N, S, 1)`` if the encoder would leave them out (as a nested tensor), else ``None``."""
    source: Tensor = given["src"]
    mask: Tensor | None = given.get("src_key_padding_mask")
    first: Any = encoder.layers[0]
    if mask is None or given.get("mask") is not None or not getattr(encoder, "use_nested_tensor", False):
        return None
    if source.dim() != 3 or source.is_nested or first.training:
        return None
    attention, norms, linears = first.self_attn, (first.norm1, first.norm2), (first.linear1, first.linear2)
    parts = (attention.out_proj, *norms, *linears)
    learned = [
        attention.in_proj_weight,
        attention.in_proj_bias,
        *(p for part in parts for p in (part.weight, part.bias)),
    ]
    if not _is_fused((source, *learned)):
        return None
    padded = mask if mask.dtype == torch.bool else mask != 0
    is_left = torch._nested_tensor_from_mask_left_aligned(source, ~padded)
    return padded.unsqueeze(-1) if is_left or not getattr(encoder, "mask_check", True) else None

"""Adapters: opaque operations that contain attention, rewritten as operations that can be intercepted.

While a model is traced or captured, an operation with an adapter is replaced by the adapter. The operations inside the
adapter are recognised, captured and edited like any other. Users register adapters for their own operations::

    @adapter("my_attention")  # the name of a function that a TorchFunctionMode intercepts
    def my_attention(q, k, v):
        return torch.softmax(q @ k.mT, dim=-1) @ v

    @adapter(FlashKernel)  # an autograd.Function, whose apply a TorchFunctionMode does not intercept
    def flash(q, k, v):
        return torch.softmax(q @ k.mT, dim=-1) @ v

A package provides adapters by entry points of the group ``attnviz.adapters``: the name of an entry point is the name of
the operation; its object is the adapter, or anything whose import registers adapters as above.
"""

from __future__ import annotations

import functools
import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

from attnviz.core.registry import Registry
from attnviz.errors import CaptureError
from attnviz.instrumentation.fused_encoders import THREAD
from attnviz.instrumentation.operations import plain_name

Body = TypeVar("Body", bound=Callable[..., Any])

ADAPTERS: Registry[Callable[..., Any]] = Registry("adapter")
_FUNCTIONS: dict[type[torch.autograd.Function], str] = {}
_PATCHES: dict[type[torch.autograd.Function], tuple[int, Any]] = {}
_PATCHING = threading.RLock()


def adapter(operation: str | type[torch.autograd.Function]) -> Callable[[Body], Body]:
    """Decorator that registers a function as the adapter of an operation and returns it unchanged.

    Args:
        operation: The name of a function that a ``TorchFunctionMode`` intercepts, or an ``autograd.Function``. The
            latter is replaced if it is called as ``TheClass.apply(…)``, but not through an earlier reference to
            ``apply``.

    Raises:
        ValueError: the operation has an adapter already.
    """
    if isinstance(operation, str):
        return ADAPTERS.register(plain_name(operation))

    def register(body: Body) -> Body:
        name = plain_name(f"{operation.__module__}.{operation.__qualname__}")
        ADAPTERS.register(name)(body)
        _FUNCTIONS[operation] = name
        return body

    return register


def adapters() -> Mapping[str, Callable[..., Any]]:
    """All adapters by the plain name of their operation, including those of installed packages."""
    _load_entry_points()
    return ADAPTERS.entries()


@functools.cache
def _load_entry_points() -> None:
    for entry in entry_points(group="attnviz.adapters"):
        try:
            body = entry.load()
        except Exception as error:
            raise CaptureError(f"the adapter {entry.name!r} of {entry.value} cannot be loaded: {error}") from error
        name = plain_name(entry.name)
        if callable(body) and name not in ADAPTERS and body not in ADAPTERS.entries().values():
            ADAPTERS.register(name)(body)


@contextmanager
def visible_autograd_functions() -> Iterator[None]:
    """Make each ``autograd.Function`` with an adapter visible to function modes, under the name of its class."""
    adapters()
    functions = dict(_FUNCTIONS)
    with _PATCHING:
        for function, name in functions.items():
            users, before = _PATCHES.get(function) or (0, function.__dict__.get("apply"))
            if not users:
                function.apply = staticmethod(_visible(name, function.apply))
            _PATCHES[function] = users + 1, before
    try:
        yield
    finally:
        with _PATCHING:
            for function in functions:
                users, before = _PATCHES.pop(function)
                if users > 1:
                    _PATCHES[function] = users - 1, before
                elif before is None:
                    del function.apply
                else:
                    function.apply = before


def _visible(name: str, apply: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return apply(*args)

    def run(*args: Any) -> Any:
        tensors = tuple(value for value in args if isinstance(value, Tensor))
        return handle_torch_function(call, tensors, *args) if has_torch_function(tensors) else apply(*args)

    call.__name__ = name
    return run


@ADAPTERS.register("multi_head_attention_forward")
def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """``torch.nn.functional.multi_head_attention_forward`` with the same arguments and results.

    ``query`` is ``(Q, N, E)``, ``key`` and ``value`` are ``(K, N, E)``; or all without ``N``.
    """
    batched = query.ndim == 3
    if not batched:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    weights = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else in_proj_weight
    q, k, v = _projected(query, key, value, weights, in_proj_bias)
    length, n, embed_dim = q.shape
    mask = _additive(attn_mask, q.dtype, num_heads, n)
    padding = _additive(key_padding_mask, q.dtype, num_heads, n, per_key=True)
    if bias_k is not None and bias_v is not None:
        k, v = torch.cat([k, bias_k.expand(1, n, -1)]), torch.cat([v, bias_v.expand(1, n, -1)])
        mask, padding = _padded(mask), _padded(padding)
    q, k, v = (t.unflatten(-1, (num_heads, -1)).permute(1, 2, 0, 3) for t in (q, k, v))
    k = k if static_k is None else static_k.unflatten(0, (n, num_heads))
    v = v if static_v is None else static_v.unflatten(0, (n, num_heads))
    if add_zero_attn:
        k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        mask, padding = _padded(mask), _padded(padding)
    if mask is None and is_causal:
        mask = torch.full((length, k.shape[2]), -torch.inf, dtype=q.dtype, device=q.device).triu(1)[None, None]
    mask = mask if padding is None else padding if mask is None else mask + padding
    out, attention = _attend(q, k, v, mask, dropout_p if training else 0.0, need_weights=need_weights)
    out = F.linear(out.permute(2, 0, 1, 3).reshape(length, n, embed_dim), out_proj_weight, out_proj_bias)
    if attention is not None and average_attn_weights:
        attention = attention.mean(dim=1)
    if not batched:
        out, attention = out.squeeze(1), None if attention is None else attention.squeeze(0)
    return out, attention


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout_p: float, *, need_weights: bool
) -> tuple[Tensor, Tensor | None]:
    """The weighted sum of the values, and the weights if they are needed."""
    if need_weights:
        attention = F.dropout(_weights(q, k, mask), dropout_p)
        return attention @ v, attention
    attend = _native_attention if THREAD.is_native else F.scaled_dot_product_attention
    return attend(q, k, v, attn_mask=mask, dropout_p=dropout_p), None


def _weights(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    scores = (q * (q.shape[-1] ** -0.5)) @ k.mT
    weights: Tensor = (scores if mask is None else scores + mask).softmax(-1)
    return weights


def _native_attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None, dropout_p: float) -> Tensor:
    """``F.scaled_dot_product_attention``, rounded as in the native kernel of ``nn.MultiheadAttention``."""
    if has_torch_function((q, k, v)):
        result: Tensor = handle_torch_function(
            _native_attention, (q, k, v), q, k, v, attn_mask=attn_mask, dropout_p=dropout_p
        )
        return result
    return _weights(q, k, attn_mask) @ v


_native_attention.__name__ = "scaled_dot_product_attention"  # under which it is traced and captured


def _projected(
    query: Tensor, key: Tensor, value: Tensor, weights: Any, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    if isinstance(weights, Tensor) and query is key and key is value:
        q, k, v = F.linear(query, weights, bias).chunk(3, dim=-1)
        return q, k, v
    parts = weights.chunk(3) if isinstance(weights, Tensor) else weights
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    q, k, v = (F.linear(t, w, b) for t, w, b in zip((query, key, value), parts, biases, strict=True))
    return q, k, v


def _additive(mask: Tensor | None, dtype: torch.dtype, heads: int, n: int, *, per_key: bool = False) -> Tensor | None:
    """The mask as a term of the scores, ``(N or 1, heads or 1, Q or 1, K)``."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -torch.inf)
    if per_key:
        return mask[:, None, None]
    return mask[None, None] if mask.ndim == 2 else mask.unflatten(0, (n, heads))


def _padded(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else F.pad(mask, (0, 1))


@ADAPTERS.register("flex_attention")
def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: Callable[..., Tensor],
    block_mask: Sequence[Any],
    scale: float,
    kernel_options: Any = None,
    score_mod_other_buffers: Sequence[Any] = (),
    mask_mod_other_buffers: Sequence[Any] = (),
) -> tuple[Tensor, ...]:
    """The operator behind ``torch.nn.attention.flex_attention``; ``query`` is ``(N, heads, Q, d)``.

    Returns:
        The output, the log-sum-exp of the scores and, since PyTorch 2.9, their maximum; both in base 2.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(groups, 1).expand(query.shape[0], -1, -1, -1) for t in (key, value))
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    scores = query.to(wide) @ key.to(wide).mT * scale
    places = [torch.arange(size, device=query.device) for size in scores.shape]
    if score_mod.__name__ != "_identity":
        scores = _at_every_pair(score_mod, scores)(scores, *places, *score_mod_other_buffers)
    mask_mod = block_mask[-1]
    if mask_mod.__name__ != "noop_mask":
        allowed = _at_every_pair(mask_mod)(*places, *mask_mod_other_buffers)
        scores = scores.masked_fill(~allowed, -torch.inf)
    is_empty = (scores == -torch.inf).all(-1)
    weights = scores.softmax(-1).masked_fill(is_empty[..., None], 0)
    out = weights.to(query.dtype) @ value
    statistics = [scores.logsumexp(-1).masked_fill(is_empty, -torch.inf)]
    if hasattr(sys.modules.get("torch.nn.attention.flex_attention"), "AuxRequest"):
        statistics.append(scores.amax(-1))
    return out, *(each / math.log(2) for each in statistics)


def _at_every_pair(function: Callable[..., Tensor], scores: Tensor | None = None) -> Callable[..., Tensor]:
    """``function([score,] image, head, query, key, *buffers)`` at every pair of a query and a key."""
    own = () if scores is None else (0,)

    def everywhere(*args: Any) -> Tensor:
        buffers = (None,) * (len(args) - len(own) - 4)
        mapped = function
        for axis in (3, 2, 1, 0):
            places = tuple(0 if place == axis else None for place in range(4))
            mapped = torch.vmap(mapped, in_dims=(*own, *places, *buffers))
        return mapped(*args)

    return everywhere

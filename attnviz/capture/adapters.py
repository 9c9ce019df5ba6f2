"""Operations that hide attention inside, told again in operations that can be seen.

While a model is traced or captured, an operation with an adapter is replaced by the adapter's body, whose own
operations are then recognised, captured and changed like any other. Users add adapters for operations of their own::

    @ADAPTERS.register("my_attention")  # the name of the function that PyTorch's function mode sees
    def my_attention(q, k, v):
        return torch.softmax(q @ k.mT, dim=-1) @ v
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.registry import Registry

ADAPTERS: Registry[Callable[..., Any]] = Registry("adapter")


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
    """``torch.nn.functional.multi_head_attention_forward``, with its arguments and results.

    Shapes: ``query`` is ``(Q, N, E)`` and ``key`` and ``value`` ``(K, N, E)``, or all without ``N``.
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
    dropout_p = dropout_p if training else 0.0
    attention: Tensor | None = None
    if need_weights:
        scores = (q * (q.shape[-1] ** -0.5)) @ k.mT
        attention = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout_p)
        out = attention @ v
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout_p)
    out = F.linear(out.permute(2, 0, 1, 3).reshape(length, n, embed_dim), out_proj_weight, out_proj_bias)
    if attention is not None and average_attn_weights:
        attention = attention.mean(dim=1)
    if not batched:
        out, attention = out.squeeze(1), None if attention is None else attention.squeeze(0)
    return out, attention


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
    """A mask as what is added to the scores, ``(N or 1, heads or 1, Q or 1, K)``."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -torch.inf)
    if per_key:
        return mask[:, None, None]
    return mask[None, None] if mask.ndim == 2 else mask.unflatten(0, (n, heads))


def _padded(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else F.pad(mask, (0, 1))

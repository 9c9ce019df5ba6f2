r"""Rows of an attention map from its queries and keys, built when they are asked for.

.. math:: g_{qk} = \exp(s_{qk} - \ell_q), \quad s = \mathrm{scale}\; Q K^\top + M, \quad \ell_q = \log \sum_k e^{s_{qk}}

A row needs its own scores only, so that it is exact whatever else is left out. Queries and keys take
:math:`(Q + K) d` numbers where the map takes :math:`Q K`.

Source: Rabe and Staats, "Self-attention does not need O(n²) memory", 2021, section 2, for sums over blocks of rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from attnviz._compat import safe_softmax
from attnviz.errors import CaptureError

Index: TypeAlias = "int | slice | Tensor | list[int]"

BLOCK_NUMBERS = 1 << 21
"""How many numbers of a map a block of rows holds at most, if one row does not hold more."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What the rows of a softmax map are built from; a map ``g`` is :meth:`rows` of all queries.

    Attributes:
        query: ``(…, Q, d)``.
        key: ``(…, K, d)``; its heads may be fewer than those of ``query``, which then share them in turn.
        mask: Added to the scores, or booleans that are false for what is not seen; spreads to ``(…, Q, K)``.
        scale: What products are multiplied with; :math:`d^{-1/2}` by default.
        causal: Whether a query sees no key behind its own place.
        heads: How many heads one leading axis ``(N · heads, Q, d)`` holds; ``None`` where heads have their own axis.
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None = None
    scale: float | None = None
    causal: bool = False
    heads: int | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(N, heads, Q, K)`` of the map."""
        shared = self.query.ndim > 2 and 1 != self.key.shape[-3] != self.query.shape[-3] != 1
        of_queries, of_keys = self.query.shape[:-2], self.key.shape[:-2]
        lead = of_queries if shared or of_queries == of_keys else torch.broadcast_shapes(of_queries, of_keys)
        heads = lead[-1] if len(lead) > 1 else (self.heads or 1)
        return math.prod(lead) // heads, heads, self.query.shape[-2], self.key.shape[-2]

    def rows(self, queries: Index = slice(None)) -> Tensor:
        """The rows of some queries: ``(N, heads, R, K)``, which sum to 1, and to 0 for a query that sees no key."""
        scores = self._scores(_several(queries, self.query.shape[-2], "queries"))
        return canonical(scores.softmax(-1) if self.mask is None else safe_softmax(scores, -1), self.heads)

    def log_sum_exp(self) -> Tensor:
        r""":math:`\ell_q` of every query: ``(N, heads, Q)``, from blocks of rows."""
        size = block_rows(self.shape)
        queries = range(0, self.shape[2], size)
        parts = [canonical(self._scores(slice(q, q + size)), self.heads).logsumexp(-1) for q in queries]
        return torch.cat(parts, -1)

    def columns(self, keys: Index, log_sum_exp: Tensor) -> Tensor:
        """What every query gives to some keys: ``(N, heads, Q, R)``.

        Args:
            keys: Which keys.
            log_sum_exp: From :meth:`log_sum_exp`, which runs over all keys.
        """
        keys = _several(keys, self.key.shape[-2], "keys")
        scores = canonical(self._scores(slice(None), keys), self.heads)
        log_sum_exp = log_sum_exp.masked_fill(log_sum_exp == -torch.inf, 0)  # no key is seen: all weights are 0
        return torch.exp(scores - log_sum_exp[..., None])

    def blocks(self) -> Iterator[Tensor]:
        """All rows in turn, in blocks of :data:`BLOCK_NUMBERS` numbers at most."""
        size = block_rows(self.shape)
        for start in range(0, self.shape[2], size):
            yield self.rows(slice(start, start + size))

    def clone(self) -> Scores:
        """A copy that later changes in place do not reach."""
        mask = None if self.mask is None else self.mask.clone()
        return Scores(self.query.clone(), self.key.clone(), mask, self.scale, self.causal, self.heads)

    def detach(self) -> Scores:
        """The same without autograd history."""
        mask = None if self.mask is None else self.mask.detach()
        return Scores(self.query.detach(), self.key.detach(), mask, self.scale, self.causal, self.heads)

    def _scores(self, queries: slice | Tensor, keys: slice | Tensor = slice(None)) -> Tensor:
        query = self.query if _is_all(queries) else self.query[..., queries, :]
        key = self.key if _is_all(keys) else self.key[..., keys, :]
        if query.ndim > 2 and 1 != key.shape[-3] != query.shape[-3] != 1:
            key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        if query.shape[-2] < key.shape[-2]:
            key = key.contiguous()  # or the product would copy it transposed, which takes longer
        scores = (query * (query.shape[-1] ** -0.5 if self.scale is None else self.scale)) @ key.mT
        if self.causal:
            places = [
                torch.arange(n, device=query.device)[i] for n, i in zip(self.shape[2:], (queries, keys), strict=True)
            ]
            scores = scores.masked_fill(places[1] > places[0][:, None], -torch.inf)
        if self.mask is None:
            return scores
        mask = self.mask if self.mask.shape[-2] == 1 else self.mask[..., queries, :]
        mask = mask if mask.shape[-1] == 1 else mask[..., keys]
        return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask


def block_rows(shape: tuple[int, ...]) -> int:
    """How many rows of a map ``(N, heads, Q, K)`` a block has."""
    return max(1, BLOCK_NUMBERS // max(1, shape[0] * shape[1] * shape[3]))


def canonical(g: Tensor, heads: int | None) -> Tensor:
    """``(…, Q, K)`` as ``(N, heads, Q, K)``; ``heads`` where the leading axes do not tell them apart."""
    if g.ndim == 4:
        return g
    if g.ndim == 3:
        return g.reshape(-1, heads or 1, *g.shape[1:])
    if g.ndim == 2:
        return g[None, None]
    return g.flatten(0, g.ndim - 4)


def _is_all(index: slice | Tensor) -> bool:
    return isinstance(index, slice) and index == slice(None)


def _several(index: Index, size: int, what: str) -> slice | Tensor:
    """An index that keeps its axis.

    Raises:
        CaptureError: a number below ``-size``, or ``size`` and more.
    """
    if isinstance(index, slice):
        return index
    numbers = torch.as_tensor([index] if isinstance(index, int) else index)
    if numbers.dtype == torch.bool:
        return numbers
    outside = numbers[(numbers < -size) | (numbers >= size)]
    if outside.numel():
        raise CaptureError(f"{what} of this map are below {size}, got {int(outside[0])}")
    return numbers

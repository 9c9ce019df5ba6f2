r"""Rows of an attention map, computed on demand from its queries and keys.

.. math:: g_{qk} = \exp(s_{qk} - \ell_q), \quad s = \mathrm{scale}\; Q K^\top + M, \quad \ell_q = \log \sum_k e^{s_{qk}}

A row depends only on its own scores, so it is exact without the other rows. Queries and keys have :math:`(Q + K) d`
numbers, the map has :math:`Q K`.

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

BLOCK_SIZE = 1 << 21
"""Largest number of elements in a block of rows; a block has at least one row."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The operands of a softmax map; the map ``g`` is :meth:`rows` of all queries.

    Attributes:
        query: Queries, ``(…, Q, d)``.
        key: Keys, ``(…, K, d)``; with fewer heads than ``query``, consecutive heads of ``query`` share a head.
        mask: Added to the scores, or booleans that are false for masked keys; broadcasts to ``(…, Q, K)``.
        scale: Factor of the products; :math:`d^{-1/2}` by default.
        causal: Whether keys after the position of a query are masked.
        heads: Number of heads in one leading axis ``(N · heads, Q, d)``; ``None`` if heads have their own axis.
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
        heads = lead[-1] if len(lead) > 1 else heads_of(math.prod(lead), self.heads)
        return math.prod(lead) // heads, heads, self.query.shape[-2], self.key.shape[-2]

    def rows(self, queries: Index = slice(None)) -> Tensor:
        """The rows of some queries, ``(N, heads, R, K)``; they sum to 1, or to 0 if all keys are masked."""
        scores = self._scores(_several(queries, self.query.shape[-2], "queries"))
        return canonical(scores.softmax(-1) if self.mask is None else safe_softmax(scores, -1), self.heads)

    def log_sum_exp(self, block_size: int = BLOCK_SIZE) -> Tensor:
        r""":math:`\ell_q` of every query, ``(N, heads, Q)``, computed in blocks of rows."""
        rows = block_rows(self.shape, block_size)
        starts = range(0, self.shape[2], rows)
        parts = [canonical(self._scores(slice(q, q + rows)), self.heads).logsumexp(-1) for q in starts]
        return torch.cat(parts, -1)

    def columns(self, keys: Index, log_sum_exp: Tensor) -> Tensor:
        """The columns of some keys, ``(N, heads, Q, R)``.

        Args:
            keys: Indices of the keys.
            log_sum_exp: Result of :meth:`log_sum_exp`, which runs over all keys.
        """
        keys = _several(keys, self.key.shape[-2], "keys")
        scores = canonical(self._scores(slice(None), keys), self.heads)
        log_sum_exp = log_sum_exp.masked_fill(log_sum_exp == -torch.inf, 0)  # all keys are masked: all weights are 0
        return torch.exp(scores - log_sum_exp[..., None])

    def blocks(self, block_size: int = BLOCK_SIZE) -> Iterator[Tensor]:
        """All rows, in blocks of at most ``block_size`` elements."""
        rows = block_rows(self.shape, block_size)
        for start in range(0, self.shape[2], rows):
            yield self.rows(slice(start, start + rows))

    def clone(self) -> Scores:
        """A copy that does not share memory."""
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
            key = key.contiguous()  # otherwise the product copies it transposed, which takes longer
        scores = (query * (query.shape[-1] ** -0.5 if self.scale is None else self.scale)) @ key.mT
        if self.causal:
            query_index, key_index = (
                torch.arange(n, device=query.device)[i] for n, i in zip(self.shape[2:], (queries, keys), strict=True)
            )
            scores = scores.masked_fill(key_index > query_index[:, None], -torch.inf)
        if self.mask is None:
            return scores
        mask = self.mask if self.mask.shape[-2] == 1 else self.mask[..., queries, :]
        mask = mask if mask.shape[-1] == 1 else mask[..., keys]
        return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask


def block_rows(shape: tuple[int, ...], block_size: int = BLOCK_SIZE) -> int:
    """Number of rows per block of a map ``(N, heads, Q, K)``."""
    return max(1, block_size // max(1, shape[0] * shape[1] * shape[3]))


def canonical(g: Tensor, heads: int | None) -> Tensor:
    """``(…, Q, K)`` as ``(N, heads, Q, K)``; ``heads`` is their number if they share one leading axis with ``N``."""
    if g.ndim == 4:
        return g
    if g.ndim == 3:
        return g.reshape(-1, heads_of(g.shape[0], heads), *g.shape[1:])
    if g.ndim == 2:
        return g[None, None]
    return g.flatten(0, g.ndim - 4)


def heads_of(maps: int, heads: int | None) -> int:
    """The number of heads in a leading axis of ``maps``: 1 if they are not divisible, as for another input size."""
    return heads if heads and maps % heads == 0 else 1


def _is_all(index: slice | Tensor) -> bool:
    return isinstance(index, slice) and index == slice(None)


def _several(index: Index, size: int, what: str) -> slice | Tensor:
    """An index that keeps its axis.

    Raises:
        CaptureError: an index is out of range.
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

"""Statistics of attention maps, computed in blocks of rows, so that a whole map is never in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from attnviz.core.attention_scores import BLOCK_SIZE, block_rows
from attnviz.core.registry import Registry


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number per query, or per key.

    Attributes:
        function: Maps rows ``(N, heads, R, K)`` to one number per row; or, for a statistic of keys, to rows whose mean
            over all queries is the statistic.
        over: ``"query"`` or ``"key"``.
    """

    function: Callable[[Tensor], Tensor]
    over: Literal["query", "key"]


STATISTICS: Registry[Statistic] = Registry("statistic", home="attnviz.recording.row_statistics")


def statistic(
    name: str, over: Literal["query", "key"] = "query"
) -> Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]]:
    """Decorator that registers a function in :data:`STATISTICS` and returns it unchanged."""

    def register(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        STATISTICS.register(name)(Statistic(function, over))
        return function

    return register


@statistic("entropy")
def entropy(rows: Tensor) -> Tensor:
    r"""Shannon entropy of each row in nats: 0 for a single key, :math:`\ln K` for equal weights.

    .. math:: -\sum_k g_k \ln g_k

    NaN for a row with negative weights, as of heads that are mixed after the softmax.

    >>> entropy(torch.tensor([0.5, 0.5, 0.0]))
    tensor(0.6931)
    """
    inner: Tensor = torch.special.entr(rows).masked_fill(rows < 0, torch.nan)
    return inner.sum(-1)


@statistic("max")
def maximum(rows: Tensor) -> Tensor:
    """The largest weight of each row."""
    return rows.amax(-1)


@statistic("top_mass")
def top_mass(rows: Tensor) -> Tensor:
    """Sum of the largest tenth of the weights of each row, at least one.

    >>> top_mass(torch.tensor([0.6, 0.3, 0.1]))
    tensor(0.6000)
    """
    return rows.topk(max(1, rows.shape[-1] // 10), dim=-1).values.sum(-1)


@statistic("top_p")
def top_p(rows: Tensor) -> Tensor:
    """Smallest share of the keys, largest weights first, that holds 0.9 of the sum of each row.

    >>> top_p(torch.tensor([0.6, 0.35, 0.05, 0.0]))
    tensor(0.5000)
    """
    mass = rows.sort(-1, descending=True).values.cumsum(-1)
    insufficient = (mass < 0.9 * mass[..., -1:]).sum(-1)
    return (insufficient + 1).to(rows.dtype) / rows.shape[-1]


@statistic("column_mean", over="key")
def column_mean(rows: Tensor) -> Tensor:
    """Mean of each column: the weight of a key, averaged over queries."""
    return rows


def summarise(blocks: Iterable[Tensor], names: Iterable[str], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Compute statistics of a map from blocks of its rows; each block is used once.

    Args:
        blocks: Blocks ``(N, heads, R, K)``, in the order of the queries.
        names: Names in :data:`STATISTICS`.
        shape: ``(N, heads, Q, K)`` of the whole map.

    Returns:
        ``(N, heads, Q)`` for a statistic of queries, ``(N, heads, K)`` for one of keys, without gradients and at least
        in float32.

    Raises:
        UnknownNameError: a statistic does not exist.
    """
    chosen = {name: STATISTICS[name] for name in names}
    found: dict[str, Tensor] = {}
    start = 0
    with torch.no_grad():
        for rows in blocks:
            end, wide = start + rows.shape[-2], rows.to(torch.promote_types(rows.dtype, torch.float32))
            for name, one in chosen.items():
                if name not in found:  # allocated at once: small results between large blocks fragment the memory
                    found[name] = wide.new_zeros(*shape[:2], shape[2] if one.over == "query" else shape[3])
                if one.over == "query":
                    found[name][..., start:end] = one.function(wide)
                else:
                    found[name] += one.function(wide).sum(-2) / shape[2]
            start = end
    return found


def blocks_of(g: Tensor, block_size: int = BLOCK_SIZE) -> Iterator[Tensor]:
    """The rows of a map ``(N, heads, Q, K)``, in blocks of at most ``block_size`` elements."""
    rows = block_rows(tuple(g.shape), block_size)
    for start in range(0, g.shape[-2], rows):
        yield g[..., start : start + rows, :]

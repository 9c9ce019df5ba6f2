"""Statistics of attention maps that need a block of rows at a time, so that a map is never whole in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from attnviz.core.attention_scores import block_rows
from attnviz.core.registry import Registry


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number per query, or per key.

    Attributes:
        function: From rows ``(N, heads, R, K)`` to one number for each row, or to rows whose mean over all queries is
            the statistic of the keys.
        over: Which of the two.
    """

    function: Callable[[Tensor], Tensor]
    over: Literal["query", "key"]


STATISTICS: Registry[Statistic] = Registry("statistic", home="attnviz.recording.row_statistics")


def statistic(
    name: str, over: Literal["query", "key"] = "query"
) -> Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]]:
    """Decorator that enters a function in :data:`STATISTICS`; the function stays as it is."""

    def enter(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        STATISTICS.register(name)(Statistic(function, over))
        return function

    return enter


@statistic("entropy")
def entropy(rows: Tensor) -> Tensor:
    r"""Shannon entropy of each row in nats: 0 for one key alone, :math:`\ln K` where all have the same.

    .. math:: -\sum_k g_k \ln g_k

    >>> entropy(torch.tensor([0.5, 0.5, 0.0]))
    tensor(0.6931)
    """
    inner: Tensor = torch.special.entr(rows)
    return inner.sum(-1)


@statistic("max")
def maximum(rows: Tensor) -> Tensor:
    """The largest weight of each row."""
    return rows.amax(-1)


@statistic("top_mass")
def top_mass(rows: Tensor) -> Tensor:
    """What the strongest tenth of the keys, one at least, hold of each row together.

    >>> top_mass(torch.tensor([0.6, 0.3, 0.1]))
    tensor(0.6000)
    """
    return rows.topk(max(1, rows.shape[-1] // 10), dim=-1).values.sum(-1)


@statistic("top_p")
def top_p(rows: Tensor) -> Tensor:
    """Which share of the keys, strongest first, it takes to hold nine tenths of each row.

    >>> top_p(torch.tensor([0.6, 0.35, 0.05, 0.0]))
    tensor(0.5000)
    """
    held = rows.sort(-1, descending=True).values.cumsum(-1)
    short = (held < 0.9 * held[..., -1:]).sum(-1)
    return (short + 1).to(rows.dtype) / rows.shape[-1]


@statistic("column_mean", over="key")
def column_mean(rows: Tensor) -> Tensor:
    """The mean of each column: what a key is given by a query on average."""
    return rows


def summarise(blocks: Iterable[Tensor], names: Iterable[str], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Statistics of a map from blocks of its rows, each of which may be forgotten before the next.

    Args:
        blocks: ``(N, heads, R, K)`` each, all queries in turn.
        names: Of :data:`STATISTICS`.
        shape: ``(N, heads, Q, K)`` of the whole map.

    Returns:
        ``(N, heads, Q)`` for a statistic of queries, ``(N, heads, K)`` for one of keys, without gradients and in
        float32 at least.

    Raises:
        UnknownNameError: no such statistic.
    """
    chosen = {name: STATISTICS[name] for name in names}
    found: dict[str, Tensor] = {}
    start = 0
    with torch.no_grad():
        for rows in blocks:
            end, wide = start + rows.shape[-2], rows.to(torch.promote_types(rows.dtype, torch.float32))
            for name, one in chosen.items():
                if name not in found:  # all memory at once: small pieces between large blocks would keep those apart
                    found[name] = wide.new_zeros(*shape[:2], shape[2] if one.over == "query" else shape[3])
                if one.over == "query":
                    found[name][..., start:end] = one.function(wide)
                else:
                    found[name] += one.function(wide).sum(-2) / shape[2]
            start = end
    return found


def blocks_of(g: Tensor) -> Iterator[Tensor]:
    """The rows of a map ``(N, heads, Q, K)`` in blocks."""
    size = block_rows(tuple(g.shape))
    for start in range(0, g.shape[-2], size):
        yield g[..., start : start + size, :]

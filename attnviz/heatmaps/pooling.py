"""Projection of attention pooling, ``y = sum_k g_k x_k``."""

from __future__ import annotations

from torch import Tensor

from attnviz.core.records import Kind, Record
from attnviz.heatmaps.pairwise import keys_of, lay
from attnviz.heatmaps.projection import projection


@projection(
    Kind.POOLING,
    "pooled",
    title="pooling weights",
    means="Share of each position in the pooled context, averaged over heads.",
    not_means="That positions are changed differently: all receive the same context.",
    default=True,
)
def pooled(record: Record) -> Tensor:
    r"""Share of each position in the context, averaged over heads, :math:`\frac{1}{h} \sum_h g_{hk}`."""
    layout, _ = keys_of(record)
    return lay(record, layout.split(record.g.detach()).mean((2, 3)))

"""A projection of dense gates, next to the built-in ones."""

from torch import Tensor

from attnviz.core.records import Kind, Record
from attnviz.heatmaps.projection import projection


@projection(
    Kind.DENSE,
    "dense-variance",
    title="variance over channels",
    means="How much the gates of the channels differ at each position.",
    not_means="Which channels are open there.",
)
def dense_variance(record: Record) -> Tensor:
    """Variance of ``g`` over the channels, ``(N, H, W)``."""
    return record.g.var(1)

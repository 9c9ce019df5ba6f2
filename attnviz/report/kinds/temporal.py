"""Temporal weights, below the frames of the clip."""

from attnviz.core.records import Kind, Record
from attnviz.report.components import Component, Pictures, Strip
from attnviz.report.kinds.base import RenderContext, kind_renderer, to_array


@kind_renderer(
    Kind.TEMPORAL, title="temporal weights", means="The weights of the frames.", not_means="A position in a frame."
)
def temporal(record: Record, context: RenderContext) -> list[Component]:
    """Return the weight of each frame; for attention between frames, the mean weight of each and the matrix."""
    g = to_array(record.g[0])
    if g.ndim == 1:
        caption = f"The weights sum to {g.sum():.2f}. The line is 1/{len(g)}, a uniform weight."
        return [Strip("Weight of each frame", caption, g, 1 / len(g))]
    mean = g.mean(0)
    return [
        Strip("Mean weight of each frame", "Mean over heads and query frames.", mean.mean(0), 1 / len(mean)),
        Pictures("Frame to frame", "Rows are query frames, columns key frames; mean over heads.", ("frames × frames",),
                 mean[None]),
    ]  # fmt: skip

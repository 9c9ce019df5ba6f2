"""Temporal weights: over the strip of frames."""

from __future__ import annotations

from collections.abc import Sequence

from attnviz.core.records import Kind, Record
from attnviz.report.components import Component, Pictures, Strip
from attnviz.report.kinds.base import RenderContext, array, kind_renderer


@kind_renderer(Kind.TEMPORAL)
def temporal(record: Record, context: RenderContext) -> Sequence[Component]:
    """The weight of each frame; where frames look at frames, what each one gets on the whole, and the matrix."""
    g = array(record.g[0])
    if g.ndim == 1:
        even = 1 / len(g)
        text = f"They sum to {g.sum():.2f}; the line is 1/{len(g)}, what each would have if none stood out."
        return [Strip("Weight of each frame", text, g, even)]
    mean = g.mean(0)
    return [
        Strip("What each frame gives", "Mean over heads and over the frames that look.", mean.mean(0), 1 / len(mean)),
        Pictures("Frame to frame", "Rows look at columns; mean over heads.", ("frames × frames",), mean[None]),
    ]

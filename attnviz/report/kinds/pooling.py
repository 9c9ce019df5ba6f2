"""Attention pooling: the contribution of each position to the context vector."""

import numpy as np

from attnviz.core.records import Kind, Record
from attnviz.report.components import Bars, Component, Pictures, Profile
from attnviz.report.kinds.base import RenderContext, kind_renderer, to_array
from attnviz.report.kinds.pairwise import key_maps

MAX_HEADS = 6


@kind_renderer(
    Kind.POOLING,
    title="attention pooling",
    means="How much each position contributes to the pooled context.",
    not_means="That each position is changed differently.",
)
def pooling(record: Record, context: RenderContext) -> list[Component]:
    """Return the weights of each head over the image, or sorted if the positions of the keys are unknown."""
    found = key_maps(record)
    weights = to_array(record.g[0])
    if found is None:
        caption = "The positions of the keys on the image are unknown."
        return [Profile("All positions", caption, _heads(len(weights)), weights[:MAX_HEADS], "positions")]
    maps, unplaced = found[0].mean(0), found[1].mean(0)
    names: tuple[str, ...] = ("all positions",)
    shares = maps
    if len(maps) > 1:
        names, shares = ("mean over heads", *_heads(len(maps))), np.concatenate([maps.mean(0)[None], maps[:MAX_HEADS]])
    omitted = f" {len(maps) - MAX_HEADS} more heads are left out." if len(maps) > MAX_HEADS else ""
    caption = f"The share of each position in the context.{omitted}"
    components: list[Component] = [Pictures("Contributions to the context", caption, names, shares, over=True)]
    if unplaced.max() > 0:
        components.append(Bars("From tokens without a position", "Mean over heads.", ("share",), unplaced.mean()[None]))
    return components


def _heads(count: int) -> tuple[str, ...]:
    return tuple(f"head {index + 1}" for index in range(min(MAX_HEADS, count)))

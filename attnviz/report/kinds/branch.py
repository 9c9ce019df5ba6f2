"""Branch weights: how branches, or kernels, are mixed, on the whole and for each channel."""

from __future__ import annotations

from collections.abc import Sequence

from attnviz.core.records import Kind, Record
from attnviz.report.components import Bars, Component, Profile
from attnviz.report.kinds.base import RenderContext, array, kind_renderer


@kind_renderer(Kind.BRANCH)
def branch(record: Record, context: RenderContext) -> Sequence[Component]:
    """The mean weight of each branch, then the weights of all channels, branch under branch."""
    weights = array(record.g[0])
    names = tuple(f"branch {index + 1}" for index in range(len(weights)))
    if weights.shape[1] == 1:
        return [Bars("Weight of each branch", "One weight for all channels.", names, weights[:, 0])]
    mixed = (
        "Each step is a channel, in the order of what the first branch gets: the same channels stand under each other."
    )
    return [
        Bars("Mean weight of each branch", "Over all channels.", names, weights.mean(1)),
        Profile("Branches by channel", mixed, names, weights, "channels"),
    ]

"""Branch weights: the weights of branches or kernels, on average and for each channel."""

from attnviz.core.records import Kind, Record
from attnviz.report.components import Bars, Component, Profile
from attnviz.report.kinds.base import RenderContext, kind_renderer, to_array


@kind_renderer(
    Kind.BRANCH,
    title="branch weights",
    means="The weights of the branches, for each channel.",
    not_means="A position in the image.",
)
def branch(record: Record, context: RenderContext) -> list[Component]:
    """Return the mean weight of each branch, and the weights of all channels for each branch."""
    weights = to_array(record.g[0])
    names = tuple(f"branch {index + 1}" for index in range(len(weights)))
    if weights.shape[1] == 1:
        return [Bars("Weight of each branch", "One weight for all channels.", names, weights[:, 0])]
    caption = "Each step is a channel. All branches are sorted by the weights of the first, so that channels line up."
    return [
        Bars("Mean weight of each branch", "Over all channels.", names, weights.mean(1)),
        Profile("Branches by channel", caption, names, weights, "channels"),
    ]

"""Channel gates: the weight of each channel, and the feature maps of the most and the least open channels."""

import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.records import Kind, Record
from attnviz.report.components import Component, Pictures, Profile
from attnviz.report.core.formatting import number
from attnviz.report.kinds.base import RenderContext, downsampled, feature_maps, kind_renderer, to_array

MAX_MAPS = 6
"""Largest number of feature maps of the most, and of the least, open channels."""


@kind_renderer(
    Kind.CHANNEL,
    title="channel gate",
    means="One weight for each channel. The map shows where the channels with large weights are active.",
    not_means="That the module attends to a position: every position is multiplied by the same weights.",
)
def channel(record: Record, context: RenderContext) -> list[Component]:
    """Return the sorted gates, and the feature maps of the most and the least open channels before the gate."""
    gates = to_array(record.g[0])
    caption = "Each step is a channel, the most open first. The order of channels in the model has no meaning."
    profile = Profile("All channels", caption, ("g",), gates[None], "channels")
    maps = feature_maps(record)
    if maps is None or maps.shape[1] * maps.shape[2] == 1 or len(maps) != len(gates):
        return [profile]
    order = np.argsort(-gates, kind="stable")
    count = min(MAX_MAPS, len(order) // 2)
    return [
        profile,
        _features("Most open", order[:count], gates, maps),
        _features("Least open", order[len(order) - count :][::-1], gates, maps),
    ]


def _features(title: str, channels: Array, gates: Array, maps: Array) -> Pictures:
    names = tuple(f"channel {c}, g = {number(float(gates[c]))}" for c in channels)
    caption = "Feature maps before the gate, each with its own colour scale."
    return Pictures(title, caption, names, downsampled(maps[channels]))

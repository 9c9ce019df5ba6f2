"""Channel gates: how open each channel is, and what the most and the least open ones hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.records import Kind, Record
from attnviz.report.components import Component, Pictures, Profile
from attnviz.report.core.formatting import number
from attnviz.report.kinds.base import RenderContext, array, feature_maps, kind_renderer, small

SHOWN = 6
"""Feature maps at either end."""


@kind_renderer(Kind.CHANNEL)
def channel(record: Record, context: RenderContext) -> Sequence[Component]:
    """The sorted gates, then the feature maps of the most and of the least open channels, before the gate."""
    gates = array(record.g[0])
    profile = Profile(
        "All channels", "Each step is a channel, the most open first. A channel's number means nothing by itself.",
        ("g",), gates[None], "channels",
    )  # fmt: skip
    maps = feature_maps(record)
    if maps is None or maps.shape[1] * maps.shape[2] == 1 or len(maps) != len(gates):
        return [profile]
    order = np.argsort(-gates, kind="stable")
    shown = min(SHOWN, len(order) // 2)
    return [
        profile,
        _features("Most open", order[:shown], gates, maps),
        _features("Least open", order[len(order) - shown :][::-1], gates, maps),
    ]


def _features(title: str, channels: Array, gates: Array, maps: Array) -> Pictures:
    names = tuple(f"channel {c}, g = {number(float(gates[c]))}" for c in channels)
    return Pictures(
        title, "Feature maps before the gate, each on a scale of its own.", names, small(maps[channels])
    )  # fmt: skip

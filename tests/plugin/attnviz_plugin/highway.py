"""A kind of attention: the transform gate of a highway network, ``y = x + g (H(x) - x)``.

Source: Srivastava et al., "Highway Networks", ICML workshop 2015, equation 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.core.records import Kind, Record
from attnviz.core.uses import Operand
from attnviz.heatmaps.projection import projection
from attnviz.models.mechanism import MODELS, Mechanism, in_slots
from attnviz.report.components import Profile
from attnviz.report.kinds.base import RenderContext, kind_renderer, to_array
from attnviz.tracing import RECOGNISERS, Finding
from attnviz.tracing.graph import Graph, Node
from attnviz.tracing.provenance import squash_of

HIGHWAY = Kind.define("highway", ("N", "C"))


@dataclass(frozen=True, slots=True)
class Transform:
    """``f(g, x) = lerp(x, H(x), g)``; the operand ``x`` of a record is the pair ``(x, H(x))``."""

    parts = ("input", "transformed")

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Operand]:
        start, end, g = args
        return g.flatten(1), (start, end)

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        start, end = x
        return torch.lerp(start, end, g[:, :, None, None])


@RECOGNISERS.register("highway")
def detect_highway(graph: Graph, node: Node) -> Finding | None:
    """``torch.lerp`` with a bounded weight ``(N, C, 1, 1)`` that depends on the input."""
    if node.name != "lerp" or len(node.parents) != 3:
        return None
    start, _, g = node.parents
    squash = squash_of(g)
    fits = g.depends and squash is not None and g.shape == (*node.shape[:2], 1, 1)
    return Finding(HIGHWAY, Transform(), g, start, squash) if fits else None


@projection(
    HIGHWAY,
    "highway-change",
    title="change by the transform",
    means="Where the transformed value replaces the input: the weighted change, summed over channels.",
    not_means="Which of the two values the prediction rests on.",
    default=True,
)
def highway_change(record: Record) -> Tensor:
    """Sum over channels of ``|g (H(x) - x)|``, ``(N, H, W)``."""
    start, end = record.x
    return (record.g[:, :, None, None] * (end - start)).abs().sum(1)


@kind_renderer(
    HIGHWAY,
    title="highway gate",
    means="One weight for each channel: 0 keeps the input, 1 replaces it by its transform.",
    not_means="That an input that is kept is unimportant.",
)
def render(record: Record, context: RenderContext) -> Sequence[Profile]:
    caption = "Each step is a channel, the largest weight first."
    return [Profile("Transform gates", caption, ("g",), to_array(record.g[:1]), "channels")]


class Highway(nn.Module):
    """A highway layer with one gate for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(channels, channels, 1)
        self.gate = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        g = torch.sigmoid(self.gate(x.mean((2, 3))))
        return torch.lerp(x, self.transform(x), g[:, :, None, None])


MODELS.register("highway")(
    Mechanism(
        summary="transform gate for each channel, after the last block",
        source="Srivastava et al., ICML workshop 2015",
        install=in_slots(Highway, slots=((6, 0),)),
        first_stage=6,
    )
)

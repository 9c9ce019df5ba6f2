"""The registry of kind renderers, their context, and functions that several of them use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from attnviz.core.arrays import Array
from attnviz.core.glossary import Meaning, define
from attnviz.core.records import Kind, Record
from attnviz.core.registry import Registry
from attnviz.core.uses import HasChannelAxis
from attnviz.report.core.component import Component

SMALL_PX = 28
"""Largest side of small pictures, in values. More are not visible at their size."""


@dataclass(frozen=True, slots=True, eq=False)
class RenderContext:
    """Data of the explanation that a renderer uses in addition to its record.

    Attributes:
        records: All records of the explanation, in the order of the forward pass.
        picture: The image, ``(S, S, 3)`` uint8.
        size: ``(H, W)`` of the model's input.
    """

    records: tuple[Record, ...]
    picture: Array
    size: tuple[int, int]

    def count_of_kind(self, record: Record) -> int:
        """Return the number of records of the same kind, which share the page's budget for it."""
        return sum(one.site.kind is record.site.kind for one in self.records)


KindRenderer = Callable[[Record, RenderContext], Sequence[Component]]

KIND_RENDERERS: Registry[KindRenderer] = Registry(
    "renderer of a kind of attention", home="attnviz.report.kinds", group="attnviz.kinds"
)


def kind_renderer(kind: Kind, *, title: str, means: str, not_means: str) -> Callable[[KindRenderer], KindRenderer]:
    """Return a decorator that registers the renderer of a kind, and what its map means and does not mean."""
    define("kind", kind.value, Meaning(title, means, not_means))
    return KIND_RENDERERS.register(kind.value)


def render_kind(record: Record, context: RenderContext) -> tuple[Component, ...]:
    """Return the components of a record; empty for a kind without a renderer."""
    kind = record.site.kind.value
    return tuple(KIND_RENDERERS[kind](record, context)) if kind in KIND_RENDERERS else ()


def to_array(values: Tensor) -> Array:
    """Convert a tensor to a float32 array."""
    converted: Array = values.detach().float().cpu().numpy()
    return converted


def downsampled(maps: Array, side: int = SMALL_PX) -> Array:
    """Average maps ``(n, h, w)`` down to at most ``side`` values along the longer side.

    >>> downsampled(np.arange(8.0).reshape(1, 2, 4), 2).tolist()
    [[[2.5, 4.5]]]
    """
    height, width = maps.shape[1:]
    if max(height, width) <= side:
        return maps
    scale = side / max(height, width)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    smaller = [cv2.resize(np.float32(one), target, interpolation=cv2.INTER_AREA) for one in maps]
    return np.stack(smaller).reshape(len(maps), target[1], target[0])


def first_on_plane(record: Record, values: Tensor) -> Array | None:
    """Lay numbers at the positions of a gate, ``(n, *space)`` of the first image, on the image plane, ``(n, h, w)``.

    ``None`` if the positions are unknown, or those of frames or slices.
    """
    layout = record.layout
    if not record.site.layouts and values.ndim == 3:  # a record that was made by hand
        return to_array(values)
    if layout is None or layout.keys is None or layout.windows > 1 or layout.keys.grid[0] > 1:
        return None
    return to_array(layout.keys.to_grid(values.detach().flatten(1)[:, None], empty=0.0)[:, 0])


def feature_maps(record: Record) -> Array | None:
    """Return the features that a gate is applied to, ``(C, H, W)``; ``None`` if they have no image plane.

    The channels are on axis 1, or on ``channel_axis`` of the site's use if it has one, as in channels-last models.
    """
    x = record.x
    if isinstance(x, tuple) or x.ndim != 4:
        return None
    use = record.site.use
    return to_array(x[:1].movedim(use.channel_axis if isinstance(use, HasChannelAxis) else 1, 1)[0])

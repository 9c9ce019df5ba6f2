"""The registry of languages, the scene that a record is told in, and small tools that several of them use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.records import Kind, Record
from attnviz.core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from attnviz.report.components import Component

SMALL_PX = 28
"""Small pictures have at most this many values along a side: more is not seen at their size."""


@dataclass(frozen=True, slots=True, eq=False)
class RenderContext:
    """What is known beside the record.

    Attributes:
        records: All records of the explanation, in the order of the forward pass.
        picture: The photograph, ``(S, S, 3)`` uint8.
        size: ``(H, W)`` of the model's input.
    """

    records: tuple[Record, ...]
    picture: Array
    size: tuple[int, int]

    def alike(self, record: Record) -> int:
        """How many records of this kind there are: they share the room that the page has for it."""
        return sum(one.site.kind is record.site.kind for one in self.records)


KindRenderer = Callable[[Record, RenderContext], "Sequence[Component]"]

KIND_RENDERERS: Registry[KindRenderer] = Registry("language of the report", home="attnviz.report.kinds")


def kind_renderer(kind: Kind) -> Callable[[KindRenderer], KindRenderer]:
    """Decorator that enters the language of a kind in :data:`KIND_RENDERERS`."""
    return KIND_RENDERERS.register(kind.value)


def render_kind(record: Record, context: RenderContext) -> tuple[Component, ...]:
    """What is put on display for one record; nothing for a kind whose language is not known."""
    kind = record.site.kind.value
    return tuple(KIND_RENDERERS[kind](record, context)) if kind in KIND_RENDERERS else ()


def array(values: Tensor) -> Array:
    """A tensor as float32 numbers."""
    numbers: Array = values.detach().float().cpu().numpy()
    return numbers


def small(maps: Array, side: int = SMALL_PX) -> Array:
    """Maps ``(n, h, w)``, each averaged to at most ``side`` along its longer side.

    >>> small(np.arange(8.0).reshape(1, 2, 4), 2).tolist()
    [[[2.5, 4.5]]]
    """
    height, width = maps.shape[1:]
    if max(height, width) <= side:
        return maps
    shrink = side / max(height, width)
    target = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    resized = [cv2.resize(np.float32(one), target, interpolation=cv2.INTER_AREA) for one in maps]
    return np.stack(resized).reshape(len(maps), target[1], target[0])


def feature_maps(record: Record) -> Array | None:
    """What a gate was applied to, ``(C, H, W)``; ``None`` if that is no feature map.

    The channels may be on another axis: a use that knows says so by ``channel_axis``.
    """
    x = record.x
    if isinstance(x, tuple) or x.ndim != 4:
        return None
    return array(x[:1].movedim(int(getattr(record.site.use, "channel_axis", 1)), 1)[0])

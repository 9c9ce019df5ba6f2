"""A component with the sampling points of each output position, through one or several layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.components.image_grid import IMAGE_PX
from attnviz.report.core.colours import jpeg_uri, resized
from attnviz.report.core.component import COMPONENTS, Backdrop, Component, StaticImage
from attnviz.report.core.packing import packed

LOW, HIGH = -0.5, 1.5
"""Range of the coordinates on the page, as fractions of the image. Points farther outside are clipped to it."""

_STEPS = 65535
_COLOURS = ((255, 196, 0), (255, 92, 60), (64, 180, 255))
_FALLBACK_PX = 420


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The sampling points of one layer.

    Attributes:
        name: Name of the layer.
        grid: Rows and columns of the output positions, which cover the image.
        points: ``(rows * columns, P, 2)``, x then y, as fractions of the image.
        weights: ``(rows * columns, P)``, relative to the largest weight.
    """

    name: str
    grid: tuple[int, int]
    points: Array
    weights: Array

    def cell(self, spots: Array) -> Array:
        """Return the index of the output position whose cell contains each point ``(…, 2)``, or is nearest to it."""
        rows, columns = self.grid
        cell = np.floor(np.asarray(spots, np.float64) * (columns, rows)).astype(int)
        cell = np.clip(cell, 0, (columns - 1, rows - 1))
        index: Array = cell[..., 1] * columns + cell[..., 0]
        return index


@COMPONENTS.register("points")
@dataclass(frozen=True, slots=True, eq=False)
class Points(Component):
    """The points that an output position samples, and those that these depend on in the layers before.

    Attributes:
        levels: The layer itself, then the layers before it, nearest first.
    """

    levels: tuple[Level, ...]

    @classmethod
    def restored(cls, levels: Sequence[Mapping[str, Any]], **rest: Any) -> Points:
        """Build from the fields of a JSON file."""
        return cls(**rest, levels=tuple(Level(**one) for one in levels))

    def chain(self, spot: tuple[float, float]) -> list[tuple[Array, Array]]:
        """Return points ``(n, 2)`` and weights ``(n,)`` of each level for the output position at ``spot``."""
        chain: list[tuple[Array, Array]] = []
        spots, weights = np.array([spot]), np.ones(1)
        for level in self.levels:
            cells = level.cell(spots)
            weights = (weights[:, None] * level.weights[cells]).reshape(-1)
            spots = level.points[cells].reshape(-1, 2)
            chain.append((spots, weights))
        return chain

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """Return points in 16 bits from :data:`LOW` to :data:`HIGH`, weights in 8, and a picture for the centre."""
        return {
            "fallback": jpeg_uri(self._drawn(backdrop, (0.5, 0.5), _FALLBACK_PX), 85),
            "ratio": backdrop.picture.shape[1] / backdrop.picture.shape[0],
            "low": LOW,
            "high": HIGH,
            "levels": [
                {
                    "name": level.name,
                    "grid": list(level.grid),
                    "count": level.points.shape[1],
                    "points": packed(_quantised(level.points)),
                    "weights": packed(np.rint(255 * np.clip(level.weights, 0, 1)).astype(np.uint8)),
                }
                for level in self.levels
            ],
        }

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """Return pictures of two output positions."""
        return [
            StaticImage(name, self._drawn(backdrop, spot, IMAGE_PX))
            for name, spot in (("samples of the centre", (0.5, 0.5)), ("samples near a corner", (0.2, 0.2)))
        ]

    def _drawn(self, backdrop: Backdrop, spot: tuple[float, float], side: int) -> Array:
        canvas = np.ascontiguousarray(resized(backdrop.picture, side) * 0.7).astype(np.uint8)
        height, width = canvas.shape[:2]
        levels = list(enumerate(self.chain(spot)))
        for depth, (points, weights) in levels[::-1]:
            for (x, y), weight in zip(points * (width, height), weights, strict=True):
                if weight > 0.02 and 0 <= x < width and 0 <= y < height:
                    radius = max(1, round((4.2 - depth) * side / IMAGE_PX))
                    cv2.circle(canvas, (int(x), int(y)), radius, _COLOURS[depth % 3], -1, cv2.LINE_AA)
        centre = (round(spot[0] * width), round(spot[1] * height))
        return np.asarray(cv2.drawMarker(canvas, centre, (255, 255, 255), cv2.MARKER_CROSS, side // 22, 3, cv2.LINE_AA))


def _quantised(points: Array) -> Array:
    fractions = (np.clip(np.nan_to_num(points, nan=LOW), LOW, HIGH) - LOW) / (HIGH - LOW)
    steps: Array = np.rint(fractions * _STEPS).astype(np.uint16)
    return steps

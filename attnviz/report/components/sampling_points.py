"""A component to choose in: for each output position, the points that it reads, through one layer or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.components.base import COMPONENTS
from attnviz.report.components.image_grid import IMAGE_PX
from attnviz.report.core.colours import jpeg_uri
from attnviz.report.core.component import Backdrop, StaticImage
from attnviz.report.core.packing import packed

LOW, HIGH = -0.5, 1.5
"""Points further outside of the photograph than this are moved to there on the page."""

_STEPS = 65535
_COLOURS = ((255, 196, 0), (255, 92, 60), (64, 180, 255))
_FIRST_PX = 420


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """Where one layer reads.

    Attributes:
        name: The layer.
        grid: Rows and columns of its output positions; they cover the photograph.
        points: ``(rows * columns, P, 2)``, x then y, as shares of the photograph.
        weights: ``(rows * columns, P)``: how much each counts, 1 for the largest.
    """

    name: str
    grid: tuple[int, int]
    points: Array
    weights: Array

    def cell(self, spots: Array) -> Array:
        """The output position in whose cell each spot ``(…, 2)`` lies, or the nearest one."""
        rows, columns = self.grid
        place = np.floor(np.asarray(spots, np.float64) * (columns, rows)).astype(int)
        place = np.clip(place, 0, (columns - 1, rows - 1))
        index: Array = place[..., 1] * columns + place[..., 0]
        return index


@COMPONENTS.register("points")
@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """The points that an output position reads; and the points that those were computed from, layer by layer.

    Attributes:
        title: A few words.
        caption: What is seen.
        levels: The layer itself, then the one before it, and so on.
    """

    title: str
    caption: str
    levels: tuple[Level, ...]

    @classmethod
    def restored(cls, levels: Sequence[Mapping[str, Any]], **rest: Any) -> Points:
        """From what a JSON file holds."""
        return cls(**rest, levels=tuple(Level(**one) for one in levels))

    def chain(self, spot: tuple[float, float]) -> list[tuple[Array, Array]]:
        """Points ``(n, 2)`` and weights ``(n,)`` of each level for the output position at a spot of the photograph."""
        found: list[tuple[Array, Array]] = []
        spots, weights = np.array([spot]), np.ones(1)
        for level in self.levels:
            cells = level.cell(spots)
            weights = (weights[:, None] * level.weights[cells]).reshape(-1)
            spots = level.points[cells].reshape(-1, 2)
            found.append((spots, weights))
        return found

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """Points in 16 bits from :data:`LOW` to :data:`HIGH`, weights in 8, and the centre's as a picture."""
        return {
            "fallback": jpeg_uri(self._drawn(backdrop, (0.5, 0.5), _FIRST_PX), 85),
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
        """Two output positions."""
        return [
            StaticImage(name, self._drawn(backdrop, spot, IMAGE_PX))
            for name, spot in (("read by the centre", (0.5, 0.5)), ("read by a corner", (0.2, 0.2)))
        ]

    def _drawn(self, backdrop: Backdrop, spot: tuple[float, float], side: int) -> Array:
        picture = cv2.resize(backdrop.picture, (side, side), interpolation=cv2.INTER_AREA)
        canvas = np.ascontiguousarray(picture * 0.7).astype(np.uint8)
        levels = list(enumerate(self.chain(spot)))
        for depth, (points, weights) in levels[::-1]:
            for (x, y), weight in zip(points * side, weights, strict=True):
                if weight > 0.02 and 0 <= x < side and 0 <= y < side:
                    radius = max(1, round((4.2 - depth) * side / IMAGE_PX))
                    cv2.circle(canvas, (int(x), int(y)), radius, _COLOURS[depth % 3], -1, cv2.LINE_AA)
        at = (round(spot[0] * side), round(spot[1] * side))
        return np.asarray(cv2.drawMarker(canvas, at, (255, 255, 255), cv2.MARKER_CROSS, side // 22, 3, cv2.LINE_AA))


def _quantised(points: Array) -> Array:
    shares = (np.clip(np.nan_to_num(points, nan=LOW), LOW, HIGH) - LOW) / (HIGH - LOW)
    fixed: Array = np.rint(shares * _STEPS).astype(np.uint16)
    return fixed

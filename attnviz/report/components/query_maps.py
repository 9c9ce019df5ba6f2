"""A component with a map for each query, one of which is selected on the page."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.components.image_grid import IMAGE_PX
from attnviz.report.core.colours import jpeg_uri, lookup, overlay, png_uri, resized
from attnviz.report.core.component import COMPONENTS, Backdrop, Component, StaticImage
from attnviz.report.core.formatting import number
from attnviz.report.core.map_view import MapView
from attnviz.report.core.packing import packed, quantised

_FALLBACK_PX = 420
_CELL_COLOUR = (255, 196, 0)
_MAX_IMAGES = 4


@COMPONENTS.register("queries")
@dataclass(frozen=True, slots=True, eq=False)
class Queries(Component):
    """A map for each query; the page shows the one that is selected on the image.

    Attributes:
        names: Name of each query: ``"class token"``, or its position.
        spots: ``(n, 2)`` centres of the queries, x then y, as fractions of the image; NaN for a query without a
            position. Those come first.
        cell: Width and height of a query's cell, as fractions of the image.
        sheets: Names of the sheets: ``"mean over heads"``, then heads.
        maps: ``(sheets, n, h, w)``: the weight of each position for each query. Not negative.
        nowhere: ``(sheets, n)``: the weight of keys without a position, such as a class token.
    """

    names: tuple[str, ...]
    spots: Array
    cell: tuple[float, float]
    sheets: tuple[str, ...]
    maps: Array
    nowhere: Array

    @property
    def first(self) -> int:
        """Index of the initial query: one without a position, or else the one nearest to the centre."""
        if not len(self.spots) or np.isnan(self.spots[0, 0]):
            return 0
        return int(np.square(self.spots - 0.5).sum(1).argmin())

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """Return all maps as rows of a grey PNG, each from 0 to its maximum in 8 bits, and a picture of the first."""
        high = self.maps.max((2, 3)).astype(np.float32)
        picture = resized(backdrop.picture, _FALLBACK_PX)
        flat = quantised(self.maps, 0.0, high[:, :, None, None]).reshape(high.size, -1)
        return {
            "names": list(self.names),
            "sheets": list(self.sheets),
            "tokens": [name for name, spot in zip(self.names, self.spots, strict=True) if np.isnan(spot[0])],
            "first": self.first,
            "fallback": jpeg_uri(overlay(picture, self._map(self.first), 0.6), 80),
            "shape": [int(n) for n in self.maps.shape],
            "maps": png_uri(flat),
            "high": packed(high),
            "unplaced": packed(self.nowhere.astype(np.float32)),
            "centres": packed(np.nan_to_num(self.spots, nan=-1.0).astype(np.float32)),
            "cell": [f"{100 * side:.3f}" for side in self.cell],
            "colours": packed(lookup(self._map(0))),
        }

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """Return a query without a position, if any, and a few that are spread over the image."""
        picture = resized(backdrop.picture, IMAGE_PX)
        return [self._static_image(query, picture) for query in self._spread_queries()]

    def _static_image(self, query: int, picture: Array) -> StaticImage:
        view, title = self._map(query), self.names[query]
        canvas = overlay(picture, view, 0.6)
        if not np.isnan(self.spots[query, 0]):
            title = f"from {title}"
            size = np.array(picture.shape[1::-1])
            corners = [np.rint((self.spots[query] + s * np.array(self.cell) / 2) * size) for s in (-1, 1)]
            low, high = ((int(x), int(y)) for x, y in corners)
            canvas = cv2.rectangle(np.ascontiguousarray(canvas), low, high, _CELL_COLOUR, 4)
        return StaticImage(title, np.asarray(canvas), f"0 … {number(view.high)}")

    def _map(self, query: int) -> MapView:
        """Return a query's map of the first sheet."""
        values = self.maps[0, query].astype(np.float32)
        high = float(values.max(initial=0.0))
        return MapView("", "attention", "", "", values, 0.0, high, signed=False, clipped=False)

    def _spread_queries(self) -> list[int]:
        missing = np.isnan(self.spots[:, 0])
        placed = np.flatnonzero(~missing)
        first: list[int] = np.flatnonzero(missing)[:1].tolist()
        targets = np.array([[0.5, 0.5], [0.25, 0.3], [0.75, 0.7], [0.2, 0.8]])[: _MAX_IMAGES - len(first)]
        if not len(placed):
            return first
        nearest = [int(placed[np.square(self.spots[placed] - target).sum(1).argmin()]) for target in targets]
        return list(dict.fromkeys([*first, *nearest]))

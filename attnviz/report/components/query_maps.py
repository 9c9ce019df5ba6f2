"""A component to choose in: for each query, how much it takes from each place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.components.base import COMPONENTS
from attnviz.report.components.image_grid import IMAGE_PX
from attnviz.report.core.colours import grey_uri, jpeg_uri, lookup, overlay
from attnviz.report.core.component import Backdrop, StaticImage
from attnviz.report.core.formatting import number
from attnviz.report.core.map_view import MapView
from attnviz.report.core.packing import packed, steps

_FIRST_PX = 420
_SPOT = (255, 196, 0)
_MOST_IMAGES = 4


@COMPONENTS.register("queries")
@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """A map for each of many queries, of which the reader chooses one on the photograph.

    Attributes:
        title: A few words.
        caption: What is seen.
        names: One for each query: ``"class token"``, or its place.
        spots: ``(n, 2)`` centres of the queries, x then y, as shares of the photograph; NaN for one that stands
            nowhere. Those come first.
        cell: Width and height of a query's cell, as shares of the photograph.
        sheets: Names of the sheets: ``"mean over heads"``, then heads.
        maps: ``(sheets, n, h, w)``: what each query takes from each place. Not negative.
        nowhere: ``(sheets, n)``: what it takes from keys that stand nowhere, such as a class token.
    """

    title: str
    caption: str
    names: tuple[str, ...]
    spots: Array
    cell: tuple[float, float]
    sheets: tuple[str, ...]
    maps: Array
    nowhere: Array

    @property
    def first(self) -> int:
        """The query that is shown first: one that stands nowhere, or else the one nearest to the centre."""
        if not len(self.spots) or np.isnan(self.spots[0, 0]):
            return 0
        return int(np.square(self.spots - 0.5).sum(1).argmin())

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """Maps in 8 bits, each from 0 to its own largest value, as rows of a grey PNG; the first also as a picture."""
        high = self.maps.max((2, 3)).astype(np.float32)
        lost = [name for name, spot in zip(self.names, self.spots, strict=True) if np.isnan(spot[0])]
        picture = cv2.resize(backdrop.picture, (_FIRST_PX, _FIRST_PX), interpolation=cv2.INTER_AREA)
        flat = steps(self.maps, 0.0, high[:, :, None, None]).reshape(high.size, -1)
        return {
            "names": list(self.names),
            "sheets": list(self.sheets),
            "tokens": lost,
            "first": self.first,
            "fallback": jpeg_uri(overlay(picture, self._map(0, self.first), 0.6), 80),
            "shape": [int(n) for n in self.maps.shape],
            "maps": grey_uri(flat),
            "high": packed(high),
            "nowhere": packed(self.nowhere.astype(np.float32)),
            "spots": packed(np.nan_to_num(self.spots, nan=-1.0).astype(np.float32)),
            "cell": [f"{100 * side:.3f}" for side in self.cell],
            "colours": packed(lookup(self._map(0, 0))),
        }

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """A few queries: that which stands nowhere, then some that are spread over the photograph."""
        picture = cv2.resize(backdrop.picture, (IMAGE_PX, IMAGE_PX), interpolation=cv2.INTER_AREA)
        static_images = []
        for query in self._chosen():
            one = self._map(0, query)
            canvas = overlay(picture, one, 0.6)
            if not np.isnan(self.spots[query, 0]):
                corner = [np.rint((self.spots[query] + s * np.array(self.cell) / 2) * IMAGE_PX) for s in (-1, 1)]
                low, high = ((int(x), int(y)) for x, y in corner)
                canvas = cv2.rectangle(np.ascontiguousarray(canvas), low, high, _SPOT, 4)
            title = self.names[query]
            static_images.append(
                StaticImage(
                    title if np.isnan(self.spots[query, 0]) else f"from {title}",
                    np.asarray(canvas),
                    f"0 … {number(one.high)}",
                )
            )
        return static_images

    def _map(self, sheet: int, query: int) -> MapView:
        values = self.maps[sheet, query].astype(np.float32)
        return MapView(
            "", "attention", "", "", values, 0.0, float(values.max(initial=0.0)), signed=False, clipped=False
        )

    def _chosen(self) -> list[int]:
        there = np.flatnonzero(~np.isnan(self.spots[:, 0]))
        lost = np.flatnonzero(np.isnan(self.spots[:, 0]))[:1].tolist()
        wanted = np.array([[0.5, 0.5], [0.25, 0.3], [0.75, 0.7], [0.2, 0.8]])[: _MOST_IMAGES - len(lost)]
        near = (
            [int(there[np.square(self.spots[there] - spot).sum(1).argmin()]) for spot in wanted] if len(there) else []
        )
        return list(dict.fromkeys([*lost, *near]))

"""Components of small pictures: maps in colour, and views of the photograph itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.components.base import COMPONENTS
from attnviz.report.core.colours import jpeg_uri, map_uri, overlay
from attnviz.report.core.component import Backdrop, StaticImage
from attnviz.report.core.formatting import number
from attnviz.report.core.map_view import MapView, colour_range

IMAGE_PX = 448
_LAID_PX, _VIEW_PX = 168, 280


@COMPONENTS.register("pictures")
@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Small maps side by side, each with a colour scale of its own, whose ends stand under it.

    Attributes:
        title: A few words.
        caption: What is seen.
        names: One for each map.
        values: ``(n, h, w)``.
        over: Whether they lie on the image plane and are laid over the photograph.
        printed: Whether a figure gains by them, if they lie on the image plane.
    """

    title: str
    caption: str
    names: tuple[str, ...]
    values: Array
    over: bool = False
    printed: bool = True

    def _maps(self) -> list[MapView]:
        return [
            MapView(name, "attention", "", "", values, *colour_range(values, kind="attention"))
            for name, values in zip(self.names, self.values.astype(np.float32), strict=True)
        ]

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """An address, a name and the ends of the scale for each map."""
        small = cv2.resize(backdrop.picture, (_LAID_PX, _LAID_PX), interpolation=cv2.INTER_AREA)
        return {
            "over": self.over,
            "items": [
                {
                    "name": one.name,
                    "uri": jpeg_uri(overlay(small, one, 0.6), 80) if self.over else map_uri(one),
                    "low": number(one.low),
                    "high": number(one.high),
                }
                for one in self._maps()
            ],
        }

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """The maps that lie on the image plane."""
        if not (self.over and self.printed):
            return []
        picture = cv2.resize(backdrop.picture, (IMAGE_PX, IMAGE_PX), interpolation=cv2.INTER_AREA)
        return [
            StaticImage(one.name, overlay(picture, one, 0.6), f"{number(one.low)} … {number(one.high)}")
            for one in self._maps()
        ]


@COMPONENTS.register("views")
@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """Views of the photograph: resampled, or dimmed.

    Attributes:
        title: A few words.
        caption: What is seen.
        names: One for each view.
        pixels: ``(n, H, W, 3)`` uint8 RGB.
        printed: Whether a figure gains by them.
    """

    title: str
    caption: str
    names: tuple[str, ...]
    pixels: Array
    printed: bool = True

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """An address and a name for each."""
        small = (cv2.resize(one, (_VIEW_PX, _VIEW_PX), interpolation=cv2.INTER_AREA) for one in self.pixels)
        return {
            "items": [{"name": name, "uri": jpeg_uri(one)} for name, one in zip(self.names, small, strict=True)],
        }

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """All of them."""
        return [StaticImage(name, one) for name, one in zip(self.names, self.pixels, strict=True) if self.printed]

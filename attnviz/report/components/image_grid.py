"""Components of small pictures: coloured maps, and processed versions of the image."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.core.colours import jpeg_uri, map_uri, overlay, resized
from attnviz.report.core.component import COMPONENTS, Backdrop, Component, StaticImage
from attnviz.report.core.formatting import number
from attnviz.report.core.map_view import MapView, colour_range

IMAGE_PX = 448
"""Side of a component's pictures in a printed figure."""

_OVERLAY_PX, _VIEW_PX = 168, 280


@COMPONENTS.register("pictures")
@dataclass(frozen=True, slots=True, eq=False)
class Pictures(Component):
    """Small maps side by side, each with its own colour scale.

    Attributes:
        names: Name of each map.
        values: ``(n, h, w)``.
        over: Whether the maps lie on the image plane and are drawn over the image.
        printed: Whether maps on the image plane are also part of a printed figure.
    """

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
        """Return picture, name and ends of the colour scale of each map."""
        picture = resized(backdrop.picture, _OVERLAY_PX)
        return {
            "over": self.over,
            "items": [
                {
                    "name": one.name,
                    "uri": jpeg_uri(overlay(picture, one, 0.6), 80) if self.over else map_uri(one),
                    "low": number(one.low),
                    "high": number(one.high),
                }
                for one in self._maps()
            ],
        }

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """Return the maps on the image plane."""
        if not (self.over and self.printed):
            return []
        picture = resized(backdrop.picture, IMAGE_PX)
        return [
            StaticImage(one.name, overlay(picture, one, 0.6), f"{number(one.low)} … {number(one.high)}")
            for one in self._maps()
        ]


@COMPONENTS.register("views")
@dataclass(frozen=True, slots=True, eq=False)
class Views(Component):
    """Processed versions of the image: resampled, or dimmed by a mask.

    Attributes:
        names: Name of each version.
        pixels: ``(n, H, W, 3)`` uint8 RGB.
        printed: Whether they are also part of a printed figure.
    """

    names: tuple[str, ...]
    pixels: Array
    printed: bool = True

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """Return picture and name of each version."""
        pictures = (resized(one, _VIEW_PX) for one in self.pixels)
        return {"items": [{"name": name, "uri": jpeg_uri(one)} for name, one in zip(self.names, pictures, strict=True)]}

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """Return all versions."""
        return [StaticImage(name, one) for name, one in zip(self.names, self.pixels, strict=True) if self.printed]

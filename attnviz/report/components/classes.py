"""A component of a class for each position: a segmentation."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.components.image_grid import IMAGE_PX
from attnviz.report.core.colours import categorical, jpeg_uri, resized
from attnviz.report.core.component import COMPONENTS, Backdrop, Component, StaticImage

_VIEW_PX = 448
_OPACITY = 0.6


@COMPONENTS.register("classes")
@dataclass(frozen=True, slots=True, eq=False)
class Classes(Component):
    """The class of each position as a colour over the image, with a legend.

    Attributes:
        index: ``(H, W)``: number of the class of each position in ``names``; -1 for a position without a colour.
        names: Names in the legend.
    """

    index: Array
    names: tuple[str, ...]

    def _painted(self, picture: Array) -> Array:
        rows = np.arange(picture.shape[0]) * self.index.shape[0] // picture.shape[0]
        columns = np.arange(picture.shape[1]) * self.index.shape[1] // picture.shape[1]
        index = self.index[rows][:, columns].astype(int)
        colours = np.array([categorical(number) for number in range(len(self.names))] or [(0, 0, 0)], np.float32)
        painted = picture * (1 - _OPACITY) + colours[np.maximum(index, 0)] * _OPACITY
        plain = picture * 0.45
        found: Array = np.where((index >= 0)[..., None], painted, plain).round().astype(np.uint8)
        return found

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """Return the painted image and the legend."""
        legend = [
            {"name": name, "colour": "#{:02x}{:02x}{:02x}".format(*categorical(number))}
            for number, name in enumerate(self.names)
        ]
        return {"uri": jpeg_uri(self._painted(resized(backdrop.picture, _VIEW_PX)), 85), "legend": legend}

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """Return the painted image."""
        pixels = self._painted(resized(backdrop.picture, IMAGE_PX))
        return [StaticImage(self.title, pixels, ", ".join(self.names[:2]))]

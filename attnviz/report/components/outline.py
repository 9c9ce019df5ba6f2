"""A component of lines over the image: the region that a module samples."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.components.image_grid import IMAGE_PX
from attnviz.report.core.colours import resized
from attnviz.report.core.component import COMPONENTS, Backdrop, Component, StaticImage

_EDGE, _MESH = (255, 196, 0), (255, 255, 255)
_SUBPIXELS = 16  # OpenCV takes coordinates in sixteenths of a pixel, shift 4


@COMPONENTS.register("outline")
@dataclass(frozen=True, slots=True, eq=False)
class Outline(Component):
    """A closed outline with a mesh inside, drawn over the image.

    Attributes:
        edge: ``(n, 2)`` corners, x then y, as fractions of the image: (0, 0) upper left, (1, 1) lower right.
        mesh: ``(lines, m, 2)``, in the same coordinates.
    """

    edge: Array
    mesh: Array

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """Return the lines as SVG points, with the image as 1000 × 1000, and the smallest square box around all."""
        corners = np.concatenate([self.edge, [[0.0, 0.0], [1.0, 1.0]]])
        low, high = np.maximum(corners.min(0), -0.5), np.minimum(corners.max(0), 1.5)
        side = float((high - low).max())
        left, top = ((low + high) / 2 - side / 2).tolist()
        return {
            "edge": _points(self.edge),
            "mesh": [_points(line) for line in self.mesh],
            "box": f"{1000 * left:.0f} {1000 * top:.0f} {1000 * side:.0f} {1000 * side:.0f}",
            "outside": bool((self.edge < -1e-3).any() or (self.edge > 1 + 1e-3).any()),
        }

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """Return the lines drawn over the image; parts outside the image are cut off."""
        canvas = np.ascontiguousarray(resized(backdrop.picture, IMAGE_PX) * 0.75).astype(np.uint8)
        size = np.array(canvas.shape[1::-1])
        for lines, closed, colour, width in ((self.mesh, False, _MESH, 1), (self.edge[None], True, _EDGE, 3)):
            fixed = [np.rint(np.clip(line, -8, 9) * size * _SUBPIXELS).astype(np.int32) for line in lines]
            cv2.polylines(canvas, fixed, closed, colour, width, cv2.LINE_AA, 4)
        return [StaticImage(self.title, canvas)]


def _points(line: Array) -> str:
    return " ".join(f"{1000 * x:.0f},{1000 * y:.0f}" for x, y in line)

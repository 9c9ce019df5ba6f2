"""A component of boxes over the image: the objects that a detector found."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.components.image_grid import IMAGE_PX
from attnviz.report.core.colours import categorical, resized
from attnviz.report.core.component import COMPONENTS, Backdrop, Component, StaticImage


@COMPONENTS.register("boxes")
@dataclass(frozen=True, slots=True, eq=False)
class Boxes(Component):
    """Boxes with names and scores over the image.

    Attributes:
        corners: ``(n, 4)``: left, top, right and bottom as fractions of the image.
        names: Name of each box, with its score.
        marked: Index of the box that is explained; -1 for none.
    """

    corners: Array
    names: tuple[str, ...]
    marked: int = -1

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """Return each box in thousandths of the image, with its name and colour."""
        items = []
        for number, (box, name) in enumerate(zip(self.corners.tolist(), self.names, strict=True)):
            left, top, right, bottom = (1000 * min(1.0, max(0.0, value)) for value in box)
            items.append({
                "name": name, "x": f"{left:.0f}", "y": f"{top:.0f}", "width": f"{right - left:.0f}",
                "height": f"{bottom - top:.0f}", "marked": number == self.marked,
                "colour": "#{:02x}{:02x}{:02x}".format(*categorical(number)),
            })  # fmt: skip
        return {"items": items}

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """Return the image with the boxes, the explained one with a thicker line."""
        canvas = np.ascontiguousarray(resized(backdrop.picture, IMAGE_PX))
        height, width = canvas.shape[:2]
        for number, box in enumerate(self.corners):
            left, top, right, bottom = np.rint(box * [width, height, width, height]).astype(int).tolist()
            line = 5 if number == self.marked else 2
            cv2.rectangle(canvas, (left, top), (right, bottom), categorical(number), line, cv2.LINE_AA)
        shown = self.names[max(self.marked, 0)] if self.names else ""
        return [StaticImage(self.title, canvas, shown)]

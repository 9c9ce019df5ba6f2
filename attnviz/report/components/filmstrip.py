"""A component of frames side by side, each with its weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.components.base import COMPONENTS
from attnviz.report.core.colours import jpeg_uri
from attnviz.report.core.component import Backdrop, StaticImage
from attnviz.report.core.formatting import number

_FRAME_PX = 160


@COMPONENTS.register("strip")
@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """The frames of a clip in the order of time, each with a number under it.

    Attributes:
        title: A few words.
        caption: What is seen.
        values: ``(T,)``, not negative.
        uniform: The number that every frame would have if none stood out; NaN where there is none.
    """

    title: str
    caption: str
    values: Array
    uniform: float

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """A frame, its time and its bar; frames that are not at hand are left out."""
        frames = backdrop.frames if backdrop.frames is not None and len(backdrop.frames) == len(self.values) else None
        top = max(float(self.values.max(initial=0.0)), 0.0 if np.isnan(self.uniform) else self.uniform, 1e-30)
        return {
            "items": [
                {
                    "uri": None if frames is None else jpeg_uri(_small(frames[index]), 80),
                    "name": _name(index, backdrop.seconds),
                    "value": number(float(value)),
                    "share": f"{100 * float(value) / top:.1f}",
                    "best": index == int(self.values.argmax()),
                }
                for index, value in enumerate(self.values)
            ],
            "uniform": None if np.isnan(self.uniform) else f"{100 * self.uniform / top:.1f}",
        }

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """Each frame, dimmed as far as its weight is below the largest."""
        if backdrop.frames is None or len(backdrop.frames) != len(self.values):
            return []
        shares = self.values / max(float(self.values.max(initial=0.0)), 1e-30)
        return [
            StaticImage(_name(index, backdrop.seconds), _barred(frame, float(share)), number(float(value)))
            for index, (frame, share, value) in enumerate(zip(backdrop.frames, shares, self.values, strict=True))
        ]


def _small(frame: Array) -> Array:
    return np.asarray(cv2.resize(frame, (_FRAME_PX, _FRAME_PX), interpolation=cv2.INTER_AREA))


def _name(index: int, seconds: tuple[float, ...]) -> str:
    return f"{seconds[index]:.2f} s" if index < len(seconds) else f"frame {index + 1}"


def _barred(frame: Array, share: float) -> Array:
    """The frame with a bar at its foot, as long as its share."""
    canvas = np.array(frame)
    side = canvas.shape[1]
    thick = max(2, side // 14)
    canvas[-thick:] = (canvas[-thick:] * 0.3).astype(np.uint8)
    canvas[-thick:, : round(side * share)] = (253, 231, 37)
    return canvas

"""A component of frames side by side, each with its weight."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.core.colours import jpeg_uri, resized
from attnviz.report.core.component import COMPONENTS, Backdrop, Component, StaticImage
from attnviz.report.core.formatting import number

_FRAME_PX = 160


@COMPONENTS.register("strip")
@dataclass(frozen=True, slots=True, eq=False)
class Strip(Component):
    """The frames of a clip in temporal order, each with a number below it.

    Attributes:
        values: ``(T,)``, not negative.
        uniform: Value of every frame under uniform weights; NaN if there is none.
    """

    values: Array
    uniform: float

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """Return picture, time and bar of each frame; without pictures if the backdrop has other frames."""
        frames = self._frames(backdrop)
        top = max(float(self.values.max(initial=0.0)), 0.0 if np.isnan(self.uniform) else self.uniform, 1e-30)
        return {
            "items": [
                {
                    "uri": None if frames is None else jpeg_uri(resized(frames[index], _FRAME_PX), 80),
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
        """Return each frame with a bar as long as its share of the largest weight."""
        frames = self._frames(backdrop)
        if frames is None:
            return []
        shares = self.values / max(float(self.values.max(initial=0.0)), 1e-30)
        parts = enumerate(zip(frames, shares.tolist(), self.values.tolist(), strict=True))
        return [
            StaticImage(_name(index, backdrop.seconds), _with_bar(frame, share), number(value))
            for index, (frame, share, value) in parts
        ]

    def _frames(self, backdrop: Backdrop) -> Array | None:
        return backdrop.frames if backdrop.frames is not None and len(backdrop.frames) == len(self.values) else None


def _name(index: int, seconds: tuple[float, ...]) -> str:
    return f"{seconds[index]:.2f} s" if index < len(seconds) else f"frame {index + 1}"


def _with_bar(frame: Array, share: float) -> Array:
    """Draw a bar of the given share of the width at the bottom of a frame."""
    canvas = np.array(frame)
    side = canvas.shape[1]
    thickness = max(2, side // 14)
    canvas[-thickness:] = (canvas[-thickness:] * 0.3).astype(np.uint8)
    canvas[-thickness:, : round(side * share)] = (253, 231, 37)
    return canvas

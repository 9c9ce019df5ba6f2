"""Spatial masks: the mask as it is, and the photograph seen through it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.records import Kind, Record
from attnviz.report.components import Component, Pictures, Profile, Views
from attnviz.report.core.formatting import number
from attnviz.report.kinds.base import RenderContext, array, kind_renderer

_DARKEST = 0.12
_VIEW_PX = 280


@kind_renderer(Kind.SPATIAL)
def spatial(record: Record, context: RenderContext) -> Sequence[Component]:
    """The mask over the photograph at its own resolution, the photograph through it, and all of its values sorted."""
    mask = array(record.g[0])
    height, width = mask.shape
    low, high = float(mask.min()), float(mask.max())
    components: list[Component] = [
        Pictures(
            "The mask",
            f"At its own {height} × {width} places.",
            (f"{height} × {width}",),
            mask[None],
            over=True,
            printed=False,
        )
    ]
    if high > low:
        through = f"As bright as the mask is open: darkest at g = {number(low)}, as it is at g = {number(high)}."
        view = _through(context, (mask - low) / (high - low))
        components.append(Views("The photograph through it", through, ("through the mask",), view[None], printed=False))
    flat = mask.reshape(1, -1)
    components.append(Profile("All places", "Each step is a place, the most open first.", ("g",), flat, "places"))
    return components


def _through(context: RenderContext, shares: Array) -> Array:
    side = (_VIEW_PX, _VIEW_PX)
    picture = cv2.resize(context.picture, side, interpolation=cv2.INTER_AREA)
    light = cv2.resize(shares.astype(np.float32), side, interpolation=cv2.INTER_LINEAR)
    lit: Array = np.rint(picture * (_DARKEST + (1 - _DARKEST) * light[..., None])).astype(np.uint8)
    return lit

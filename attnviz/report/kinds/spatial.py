"""Spatial masks: the mask, and the image dimmed by it."""

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.records import Kind, Record
from attnviz.report.components import Component, Pictures, Profile, Views
from attnviz.report.core.colours import resized
from attnviz.report.core.formatting import number
from attnviz.report.kinds.base import RenderContext, first_on_plane, kind_renderer, to_array

_MIN_BRIGHTNESS = 0.12
_VIEW_PX = 280


@kind_renderer(
    Kind.SPATIAL,
    title="spatial gate",
    means="One weight for each position: where features pass.",
    not_means="Importance for the target class: the gate does not depend on the target.",
)
def spatial(record: Record, context: RenderContext) -> list[Component]:
    """Return the mask over the image at its own resolution, the image dimmed by the mask, and the sorted values.

    A gate without known positions has sorted values only.
    """
    caption = "Each step is a position, the most open first."
    profile = Profile("All positions", caption, ("g",), to_array(record.g[0].reshape(1, -1)), "positions")
    laid = first_on_plane(record, record.g[:1])
    if laid is None:
        return [profile]
    mask = laid[0]
    size = f"{mask.shape[0]} × {mask.shape[1]}"
    low, high = float(mask.min()), float(mask.max())
    caption = f"At its own resolution of {size} positions."
    components: list[Component] = [Pictures("The mask", caption, (size,), mask[None], over=True, printed=False)]
    if high > low:
        caption = f"Brightness follows the mask: darkest at g = {number(low)}, unchanged at g = {number(high)}."
        view = _dimmed(context.picture, (mask - low) / (high - low))
        components.append(Views("Image dimmed by the mask", caption, ("dimmed",), view[None], printed=False))
    return [*components, profile]


def _dimmed(picture: Array, shares: Array) -> Array:
    small = resized(picture, _VIEW_PX)
    light = cv2.resize(shares.astype(np.float32), small.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    brightness = _MIN_BRIGHTNESS + (1 - _MIN_BRIGHTNESS) * light[..., None]
    dimmed: Array = np.rint(small * brightness).astype(np.uint8)
    return dimmed

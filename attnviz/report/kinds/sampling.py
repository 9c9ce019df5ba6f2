"""Sampling: where a module samples its input, as an outline, as points, and as a density."""

from collections.abc import Iterator

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.records import Kind, Record
from attnviz.report.components import Component, Level, Outline, Pictures, Points, Views
from attnviz.report.kinds.base import SMALL_PX, RenderContext, downsampled, kind_renderer, to_array
from attnviz.report.kinds.sampled_points import SampledPoints, sampled_points

MAX_DEPTH = 3
"""Number of layers through which points are traced, as in figure 6 of the paper (Dai et al. 2017)."""

_VIEW_PX, _MESH = 448, 8


@kind_renderer(
    Kind.SAMPLING, title="sampling", means="Where features are sampled.", not_means="How important each of them is."
)
def sampling(record: Record, context: RenderContext) -> list[Component]:
    """Return where a module samples and how often each position is sampled.

    With one point per output, the outline of the sampled region and the resampled image; with several, the points.
    """
    sampled = sampled_points(record, context.size)
    if sampled is None:
        return []
    components: list[Component] = []
    if sampled.is_plane and sampled.points.shape[0] == 1:
        components += [_outline(sampled), _resampled(sampled, context)]
    elif sampled.is_plane:
        components.append(_points(record, context))
    return [*components, _density(sampled)]


def _density(sampled: SampledPoints) -> Pictures:
    text = "Each point adds its weight to the four positions around it (the adjoint of bilinear interpolation)."
    if sampled.points.shape[0] > 1:
        text += " Positions at the border are reached by fewer points with any offsets."
    if sampled.outside > 0.005:
        text += f" {sampled.outside:.0%} of the weight falls outside of the input."
    density = downsampled(to_array(sampled.density)[None], 2 * SMALL_PX)
    return Pictures("Sampling density", text, ("sampling density",), density, over=True)


def _outline(sampled: SampledPoints) -> Outline:
    """Return the border of the sampled region, half a step beyond the outermost points, with a mesh inside."""
    grid = sampled.fractions[0]
    rows, columns = (np.linspace(-0.5, n - 0.5, _MESH + 1) for n in grid.shape[:2])
    corners = _interpolated(grid, rows[:, None], columns[None, :])
    edge = np.concatenate([corners[0], corners[1:, -1], corners[-1, -2::-1], corners[-2:0:-1, 0]])
    mesh = np.concatenate([corners[1:-1], corners[:, 1:-1].swapaxes(0, 1)])
    text = "The output is sampled from inside the outline. Its upper left corner is that of the outline."
    axis = np.linspace(0, 1, _MESH + 1)
    identity = np.stack(np.broadcast_arrays(axis[None, :], axis[:, None]), -1)
    if np.abs(edge - 0.5).max() < 0.6 and np.abs(corners - identity).max() < 0.02:
        text += " Here, this is nearly the whole input without a transformation."
    return Outline("Sampled region", text, edge.astype(np.float32), mesh.astype(np.float32))


def _interpolated(grid: Array, rows: Array, columns: Array) -> Array:
    """Interpolate a grid ``(H, W, 2)`` linearly between its points, and extrapolate it beyond them."""
    height, width = grid.shape[:2]
    rows, columns = np.broadcast_arrays(rows, columns)
    top = np.clip(np.floor(rows).astype(int), 0, max(height - 2, 0))
    left = np.clip(np.floor(columns).astype(int), 0, max(width - 2, 0))
    down, across = (rows - top)[..., None], (columns - left)[..., None]
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    upper = grid[top, left] * (1 - across) + grid[top, right] * across
    lower = grid[bottom, left] * (1 - across) + grid[bottom, right] * across
    values: Array = upper * (1 - down) + lower * down
    return values


def _resampled(sampled: SampledPoints, context: RenderContext) -> Views:
    """Return the image sampled bilinearly at the points, grey outside."""
    grid = sampled.fractions[0]
    rows, columns = ((np.arange(_VIEW_PX) + 0.5) * n / _VIEW_PX - 0.5 for n in grid.shape[:2])
    points = _interpolated(grid, rows[:, None], columns[None, :]).astype(np.float32)
    height, width = context.picture.shape[:2]
    view = cv2.remap(
        context.picture, points[..., 0] * width - 0.5, points[..., 1] * height - 0.5, cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=(128, 128, 128),
    )  # fmt: skip
    text = (
        "The image sampled at the same points. Maps of later layers lie on this resampled image, not on the original."
    )
    return Views("Resampled image", text, ("resampled image",), np.asarray(view)[None])


def _points(record: Record, context: RenderContext) -> Points:
    sites = list(_multi_point_sites(record, context))[::-1][:MAX_DEPTH]
    levels = tuple(_level(one.name, sampled) for one, sampled in sites)
    text = "Select an output position by a click on the image or with the arrow keys. Larger dots have larger weights."
    if len(levels) > 1:
        text += (
            f" Yellow points are sampled by this layer. Each further colour shows the points that the layer before "
            f"samples at these positions, {len(levels)} layers in all."
        )
    return Points("Sampling points of each output position", text, levels)


def _multi_point_sites(record: Record, context: RenderContext) -> Iterator[tuple[Record, SampledPoints]]:
    """Yield the sites that sample several points per output, up to the record itself."""
    for one in context.records:
        sampled = sampled_points(one, context.size) if one.site.kind is Kind.SAMPLING else None
        if sampled is not None and sampled.is_plane and sampled.points.shape[0] > 1:
            yield one, sampled
        if one is record:
            return


def _level(name: str, sampled: SampledPoints) -> Level:
    """Return points and weights by output position, thinned to at most :data:`SMALL_PX` rows and columns."""
    points, weights = sampled.fractions, to_array(sampled.weights)
    kept = [np.linspace(0, n - 1, min(n, SMALL_PX)).round().astype(int) for n in points.shape[1:3]]
    points, weights = (values[:, kept[0]][:, :, kept[1]] for values in (points, weights))
    rows, columns = points.shape[1:3]
    largest = max(float(np.abs(weights).max()), 1e-30)
    return Level(
        name,
        (rows, columns),
        np.moveaxis(points, 0, 2).reshape(rows * columns, -1, 2).astype(np.float32),
        np.moveaxis(np.abs(weights) / largest, 0, 2).reshape(rows * columns, -1).astype(np.float32),
    )

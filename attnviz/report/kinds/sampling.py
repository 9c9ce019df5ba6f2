"""Sampling: where a module reads from, as an outline, as points, and as a density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from attnviz.core.arrays import Array
from attnviz.core.records import Kind, Record
from attnviz.ops import bilinear_splat
from attnviz.report.components import Component, Level, Outline, Pictures, Points, Views
from attnviz.report.kinds.base import SMALL_PX, RenderContext, array, kind_renderer, small

DEPTH = 3
"""Layers that points are followed back through, as in the figure of the paper (Dai et al. 2017, figure 6)."""

_VIEW_PX, _MESH = 448, 8
_ASPECT = 1.5


@kind_renderer(Kind.SAMPLING)
def sampling(record: Record, context: RenderContext) -> Sequence[Component]:
    """One point for each output: the outline of what is read, and the view that results; several: the points.

    Then how much each place is read.
    """
    reading = read(record, context.size)
    if reading is None:
        return []
    components: list[Component] = []
    if reading.is_plane and reading.points.shape[0] == 1:
        components += [_outline(reading), _resampled(reading, context)]
    elif reading.is_plane:
        components.append(Points(*_told(record, context), _chain(record, context)))
    text = "Every point leaves its weight on the four places around it (the adjoint of bilinear reading)."
    if reading.points.shape[0] > 1:
        text += " A border is reached by fewer points, whatever they follow."
    lost = reading.lost
    if lost > 0.005:
        text += f" {lost:.0%} of the weight falls outside, where nothing is read."
    density = small(array(reading.density)[None], 2 * SMALL_PX)
    components.append(Pictures("How much each place is read", text, ("read density",), density, over=True))
    return components


class Reading(NamedTuple):
    """Where a record reads.

    Attributes:
        points: ``(S, H, W, 2)`` in pixels of what is read, x then y, (0, 0) the centre of the first.
        weights: ``(S, H, W)``.
        size: ``(height, width)`` of what is read.
        density: ``(height, width)``: how much each pixel is read.
        is_plane: Whether ``H W`` is the image plane.
    """

    points: Tensor
    weights: Tensor
    size: tuple[int, int]
    density: Tensor
    is_plane: bool

    @property
    def shares(self) -> Array:
        """The points as shares of the photograph, ``(S, H, W, 2)``."""
        shares: Array = (array(self.points) + 0.5) / np.array(self.size[::-1], np.float32)
        return shares

    @property
    def lost(self) -> float:
        """Share of the weight that falls outside."""
        total = float(self.weights.abs().sum())
        return 1 - float(self.density.abs().sum()) / total if total else 0.0


def read(record: Record, image: tuple[int, int]) -> Reading | None:
    """Where a record of one image reads; ``None`` where what it reads is no map of rows and columns."""
    points = record.g[0].detach().cpu()
    x = record.x if isinstance(record.x, tuple) else (record.x,)
    if len(x) > 1 and not x[1].is_floating_point():
        return _multi_scale(points, [one.detach().cpu() for one in x])
    if x[0].ndim != 4:
        return None
    size = (x[0].shape[2], x[0].shape[3])
    names = tuple(getattr(record.site.use, "parts", ()))
    weights = torch.ones_like(points[..., 0])
    if "mask" in names:
        weights = x[names.index("mask")][0].detach().cpu().to(points.dtype)
    aspect = (points.shape[1] / points.shape[2]) / (image[0] / image[1])
    is_plane = 1 / _ASPECT < aspect < _ASPECT and min(points.shape[1:3]) > 1
    density = bilinear_splat(points.flatten(0, 2)[None], weights.flatten()[None], size)[0]
    return Reading(points, weights, size, density, is_plane)


def _multi_scale(points: Tensor, x: list[Tensor]) -> Reading:
    """All levels of multi-scale deformable attention, brought to the size of the finest and added."""
    sizes, weights = x[1].tolist(), x[3][0].permute(1, 2, 3, 0)[..., None].to(points.dtype)
    heads, levels, each = weights.shape[:3]
    finest = (int(max(h for h, _ in sizes)), int(max(w for _, w in sizes)))
    apart, total = points.unflatten(0, (heads, levels, each)).clone(), torch.zeros(finest, dtype=points.dtype)
    for level, (height, width) in enumerate(sizes):
        scale = torch.tensor([finest[1] / width, finest[0] / height], dtype=points.dtype)
        one = apart[:, level] = (apart[:, level] + 0.5) * scale - 0.5
        total += bilinear_splat(one.reshape(1, -1, 2), weights[:, level].reshape(1, -1), finest)[0]
    return Reading(apart.flatten(0, 2), weights.flatten(0, 2), finest, total, is_plane=False)


def _outline(reading: Reading) -> Outline:
    """The border of what is read, half a step beyond the outermost points, and a mesh inside."""
    grid = reading.shares[0]
    rows, columns = (np.linspace(-0.5, n - 0.5, _MESH + 1) for n in grid.shape[:2])
    corners = _at(grid, rows[:, None], columns[None, :])
    edge = np.concatenate([corners[0], corners[1:, -1], corners[-1, -2::-1], corners[-2:0:-1, 0]])
    mesh = np.concatenate([corners[1:-1], corners[:, 1:-1].swapaxes(0, 1)])
    spread = np.abs(edge - 0.5).max()
    text = "The output is read from inside the outline: its upper left corner from the outline's."
    if spread < 0.6 and np.abs(corners - _at_identity()).max() < 0.02:
        text += " Here that is nearly the whole input as it is."
    return Outline("Where it reads", text, edge.astype(np.float32), mesh.astype(np.float32))


def _at_identity() -> Array:
    axis = np.linspace(0, 1, _MESH + 1)
    return np.stack(np.broadcast_arrays(axis[None, :], axis[:, None]), -1)


def _at(grid: Array, rows: Array, columns: Array) -> Array:
    """The grid ``(H, W, 2)`` between its points and, continued straight, beyond them."""
    height, width = grid.shape[:2]
    rows, columns = np.broadcast_arrays(rows, columns)
    top = np.clip(np.floor(rows).astype(int), 0, max(height - 2, 0))
    left = np.clip(np.floor(columns).astype(int), 0, max(width - 2, 0))
    down, across = (rows - top)[..., None], (columns - left)[..., None]
    below, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    upper = grid[top, left] * (1 - across) + grid[top, right] * across
    lower = grid[below, left] * (1 - across) + grid[below, right] * across
    laid: Array = upper * (1 - down) + lower * down
    return laid


def _resampled(reading: Reading, context: RenderContext) -> Views:
    """The photograph read at the points: bilinear, grey outside."""
    grid = reading.shares[0]
    places = [(np.arange(_VIEW_PX) + 0.5) * n / _VIEW_PX - 0.5 for n in grid.shape[:2]]
    shares = _at(grid, places[0][:, None], places[1][None, :]).astype(np.float32)
    height, width = context.picture.shape[:2]
    view = cv2.remap(
        context.picture, shares[..., 0] * width - 0.5, shares[..., 1] * height - 0.5, cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=(128, 128, 128),
    )  # fmt: skip
    text = (
        "The photograph read at the same points. Maps of layers after this one lie on this view, not on the photograph."
    )
    return Views("What it sees then", text, ("resampled view",), np.asarray(view)[None])


def _told(record: Record, context: RenderContext) -> tuple[str, str]:
    count = len(_before(record, context))
    text = "Choose an output position: click on the photograph, or use the arrow keys. Larger dots count more."
    if count > 1:
        text += (
            f" Yellow is read by this layer; each further colour by the layer before it, at the places just read: "
            f"{count} layers in all."
        )
    return "What each output position reads", text


def _before(record: Record, context: RenderContext) -> list[Record]:
    """The record and those of the sampling sites before it that read several points for each output, nearest first."""
    chain: list[Record] = []
    for one in context.records:
        reading = read(one, context.size) if one.site.kind is Kind.SAMPLING else None
        if reading is not None and reading.is_plane and reading.points.shape[0] > 1:
            chain.append(one)
        if one is record:
            break
    return chain[::-1][:DEPTH]


def _chain(record: Record, context: RenderContext) -> tuple[Level, ...]:
    levels = []
    for one in _before(record, context):
        reading = read(one, context.size)
        if reading is not None:
            levels.append(_level(one.name, reading))
    return tuple(levels)


def _level(name: str, reading: Reading) -> Level:
    """Points and weights by output position, of at most :data:`SMALL_PX` rows and columns."""
    shares, weights = reading.shares, array(reading.weights)
    kept = [np.linspace(0, n - 1, min(n, SMALL_PX)).round().astype(int) for n in shares.shape[1:3]]
    shares, weights = (values[:, kept[0]][:, :, kept[1]] for values in (shares, weights))
    rows, columns = shares.shape[1:3]
    top = max(float(np.abs(weights).max()), 1e-30)
    return Level(
        name,
        (rows, columns),
        np.moveaxis(shares, 0, 2).reshape(rows * columns, -1, 2).astype(np.float32),
        np.moveaxis(np.abs(weights) / top, 0, 2).reshape(rows * columns, -1).astype(np.float32),
    )

"""The points at which a record samples its input, their weights and their density."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from attnviz.core.arrays import Array
from attnviz.core.records import Record
from attnviz.ops import bilinear_splat
from attnviz.report.kinds.base import to_array

_MAX_ASPECT = 1.5
"""Outputs whose aspect ratio differs from the image's by more than this factor are not on the image plane."""


class SampledPoints(NamedTuple):
    """The points at which a record samples its input.

    Attributes:
        points: ``(S, H, W, 2)`` in pixels of the input, x then y; (0, 0) is the centre of the first pixel.
        weights: ``(S, H, W)``.
        size: ``(height, width)`` of the input.
        density: ``(height, width)``: the total weight at each pixel.
        is_plane: Whether ``H W`` is the image plane.
    """

    points: Tensor
    weights: Tensor
    size: tuple[int, int]
    density: Tensor
    is_plane: bool

    @property
    def fractions(self) -> Array:
        """The points as fractions of the input, ``(S, H, W, 2)``."""
        fractions: Array = (to_array(self.points) + 0.5) / np.array(self.size[::-1], np.float32)
        return fractions

    @property
    def outside(self) -> float:
        """Share of the weight that falls outside of the input."""
        total = float(self.weights.abs().sum())
        return 1 - float(self.density.abs().sum()) / total if total else 0.0


def sampled_points(record: Record, image: tuple[int, int]) -> SampledPoints | None:
    """Return the sampled points of a record of one image; ``None`` if the input has no rows and columns."""
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
    is_plane = 1 / _MAX_ASPECT < aspect < _MAX_ASPECT and min(points.shape[1:3]) > 1
    density = bilinear_splat(points.flatten(0, 2)[None], weights.flatten()[None], size)[0]
    return SampledPoints(points, weights, size, density, is_plane)


def _multi_scale(points: Tensor, x: list[Tensor]) -> SampledPoints:
    """Return the points of all levels of multi-scale deformable attention, scaled to the finest level."""
    sizes, weights = x[1].tolist(), x[3][0].permute(1, 2, 3, 0)[..., None].to(points.dtype)
    heads, levels, per_level = weights.shape[:3]
    finest = (int(max(h for h, _ in sizes)), int(max(w for _, w in sizes)))
    scaled, density = points.unflatten(0, (heads, levels, per_level)).clone(), torch.zeros(finest, dtype=points.dtype)
    for level, (height, width) in enumerate(sizes):
        scale = torch.tensor([finest[1] / width, finest[0] / height], dtype=points.dtype)
        one = scaled[:, level] = (scaled[:, level] + 0.5) * scale - 0.5
        density += bilinear_splat(one.reshape(1, -1, 2), weights[:, level].reshape(1, -1), finest)[0]
    return SampledPoints(scaled.flatten(0, 2), weights.flatten(0, 2), finest, density, is_plane=False)

"""Projections of sampling, ``y = sum_s m_s x(g_s)``: how much each place is read."""

from __future__ import annotations

import torch
from torch import Tensor

from attnviz.errors import CaptureError
from attnviz.heatmaps.project import projection
from attnviz.ops import bilinear_splat
from attnviz.records import Kind, Record


def _sampled(record: Record) -> tuple[Tensor, Tensor | None]:
    """The map that is sampled, and the weight of each point, ``(N, S, H, W)``, where the operation has one."""
    if isinstance(record.x, Tensor):
        return record.x, None
    parts = dict(zip(getattr(record.site.use, "parts", ("input",)), record.x, strict=False))
    return parts["input"], parts.get("mask")


def _density(record: Record, *, weighted: bool) -> Tensor:
    x, mask = _sampled(record)
    points = record.g.detach()
    if x.ndim != 4 or x.shape[0] % points.shape[0]:
        raise CaptureError(f"{record.site.name}: a map of 4 axes has an image plane, got {tuple(x.shape)}")
    weights = mask.detach().double() if weighted and mask is not None else None
    if weights is not None and weights.shape != points.shape[:-1]:
        weights = weights.reshape(points.shape[:-1])
    return bilinear_splat(points.double(), weights, (x.shape[2], x.shape[3])).to(torch.float32)


@projection(Kind.SAMPLING, "read-density", default=True)
def read_density(record: Record) -> Tensor:
    r"""How much each place is read, :math:`d(q) = \sum_p m_p\, G(q, p)`, the sampling points weighed by the modulation.

    ``G`` is the bilinear kernel. Without offsets the density is flat but for the border: what stands out was chosen.
    It does not say what was made of what was read.
    """
    return _density(record, weighted=True)


@projection(Kind.SAMPLING, "point-density")
def point_density(record: Record) -> Tensor:
    r"""How many sampling points fall on each place, :math:`d(q) = \sum_p G(q, p)`, whatever their weight."""
    return _density(record, weighted=False)

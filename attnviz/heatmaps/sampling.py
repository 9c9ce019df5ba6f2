"""Projections of sampling, ``y = sum_s m_s x(g_s)``: how often each position is sampled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.core.glossary import Meaning, define
from attnviz.core.records import Heatmap, Kind, Record
from attnviz.core.uses import HasParts
from attnviz.errors import CaptureError
from attnviz.heatmaps.projection import projection
from attnviz.ops import bilinear_splat

TOGETHER = "sampling of all layers together"
define(
    "map",
    TOGETHER,
    Meaning(
        "receptive field",
        "How often each position is sampled through all sampling layers; 1 if all positions are sampled equally.",
        "Importance: weights, shortcuts and the layers in between are left out.",
        group=Kind.SAMPLING.value,
    ),
)


def _sampled(record: Record) -> tuple[Tensor, Tensor | None]:
    """Return the sampled map, and the weight of each point ``(N, S, H, W)`` if the operation has one."""
    if isinstance(record.x, Tensor):
        return record.x, None
    use = record.site.use
    parts = dict(zip(use.parts if isinstance(use, HasParts) else ("input",), record.x, strict=False))
    return parts["input"], parts.get("mask")


def receptive_field(records: Sequence[Record], size: tuple[int, int]) -> Heatmap:
    r"""Return where several successive sampling layers sample the input of the first one.

    .. math:: d_{l-1}(q) = \sum_p d_l(p) \sum_s \bar m_s(p)\, G(q, g_s(p)), \quad
        \bar m_s = |m_s| / \textstyle\sum_{s'} |m_{s'}|, \quad d_L = 1

    Each output position distributes its density over its sampling points, in proportion to their modulation; ``G`` is
    the bilinear kernel. Points outside are lost. Between two layers the density is resized bilinearly. Weights,
    shortcuts and the layers in between are left out, as in rollout.

    Args:
        records: Records of successive layers, in the order of one forward pass.
        size: ``(H, W)`` of the map.

    Returns:
        A heatmap ``(N, H, W)``, 0 or more; 1 if all positions are sampled equally.

    Raises:
        CaptureError: no record, or one that does not sample one map on a plane.

    Source: own, after the sampling points through several layers of Dai et al., Deformable Convolutional Networks,
    ICCV 2017, figure 6.
    """
    if not records:
        raise CaptureError("receptive field: wanted one record or more, got none")
    first = records[-1].g
    density = torch.ones(len(first), *first.shape[2:4], dtype=torch.float64, device=first.device)
    for record in reversed(records):
        (x, mask), points = _sampled(record), record.g.detach().double()
        if x.ndim != 4 or len(x) != len(points) or min(points.shape[2:4]) < 2:
            raise CaptureError(f"{record.site.name}: a receptive field needs maps sampled on a plane")
        weights = torch.ones_like(points[..., 0]) if mask is None else mask.detach().double().abs()
        shares = weights.reshape(points.shape[:-1])
        shares = shares / shares.sum(1, keepdim=True).clamp_min(torch.finfo(shares.dtype).tiny)
        plane = (points.shape[2], points.shape[3])
        given = _resized(density, plane)
        read = bilinear_splat(points, shares * given[:, None], (x.shape[2], x.shape[3]))
        density = read * (x.shape[2] * x.shape[3] / (plane[0] * plane[1]))  # 1 for even sampling
    return Heatmap(_resized(density, size).float(), "receptive-field", TOGETHER, "attention")


def _resized(density: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(density[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _density(record: Record, *, weighted: bool) -> Tensor:
    x, mask = _sampled(record)
    points = record.g.detach()
    if x.ndim != 4 or x.shape[0] % points.shape[0]:
        raise CaptureError(f"{record.site.name}: wanted a map with 4 axes, got {tuple(x.shape)}")
    weights = mask.detach().double() if weighted and mask is not None else None
    if weights is not None and weights.shape != points.shape[:-1]:
        weights = weights.reshape(points.shape[:-1])
    return bilinear_splat(points.double(), weights, (x.shape[2], x.shape[3])).to(torch.float32)


@projection(
    Kind.SAMPLING,
    "read-density",
    title="sampling density",
    means="How often each position is sampled, weighted by the modulation.",
    not_means="How much the samples matter afterwards.",
    default=True,
)
def read_density(record: Record) -> Tensor:
    r"""Density of sampling, :math:`d(q) = \sum_p m_p\, G(q, p)`, with points weighted by the modulation.

    ``G`` is the bilinear kernel. Without offsets the density is constant except at the border.
    """
    return _density(record, weighted=True)


@projection(
    Kind.SAMPLING,
    "point-density",
    title="point density",
    means="Number of sampling points at each position, without weights.",
    not_means="How strongly they are weighted.",
)
def point_density(record: Record) -> Tensor:
    r"""Number of sampling points at each position, :math:`d(q) = \sum_p G(q, p)`, without weights."""
    return _density(record, weighted=False)


@projection(
    Kind.SAMPLING,
    "read-energy",
    title="sampled energy",
    means="Sampling density times the activation at each position.",
    not_means="Sampling alone: active features are visible even where sampling is even.",
)
def read_energy(record: Record) -> Tensor:
    r"""Density of sampling times activation, :math:`d(q) \sum_c |x_c(q)|`.

    Like ``channel-energy``, it mostly follows the pattern of the activations.
    """
    x, _ = _sampled(record)
    density = _density(record, weighted=True)
    if len(x) != len(density):
        raise CaptureError(f"{record.site.name}: samples {len(x)} maps with the points of {len(density)}")
    return density * x.detach().abs().sum(1).to(density.dtype)


@projection(
    Kind.SAMPLING,
    "modulation",
    title="modulation",
    means="Mean modulation of the sampling points of each output position.",
    not_means="Where is sampled: the map belongs to output positions.",
)
def modulation(record: Record) -> Tensor:
    r"""Mean modulation of the points of each output position, :math:`\tfrac{1}{S} \sum_s m_s(p)` (DCN v2)."""
    _, mask = _sampled(record)
    if mask is None:
        raise CaptureError(f"{record.site.name}: the points have no modulation")
    return mask.detach().reshape(record.g.shape[:-1]).mean(1).to(torch.float32)

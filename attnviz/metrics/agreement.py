"""Agreement of two maps: pure functions of two batches of maps.

All take maps ``(N, H, W)`` of one shape, any sign, and return ``(N,)`` float64; NaN where a map is constant, which has
no order, range or top, or is not finite. They raise :class:`ValueError` for other shapes.

All compare patterns, not amounts: scaling a map by a positive number changes nothing. Two maps can agree because both
are right, or because both favour the centre of the image.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from attnviz.core.registry import Registry
from attnviz.metrics.pairwise_agreement import (
    TOP,
    WINDOW,
    Pairs,
    PreparedMaps,
    pairs_of,
    spearman_of_pairs,
    ssim_of_pairs,
    topk_iou_of_pairs,
)
from attnviz.metrics.registry import Measure, measure

AGREEMENT: Registry[Measure] = Registry("agreement measure", home="attnviz.metrics", group="attnviz.agreement")
"""All measures of two maps. The quick ones are part of every explanation."""

NAN_WHEN = "one of the maps is constant, or not finite"
_quick = partial(measure, AGREEMENT, higher_is="more alike", nan_when=NAN_WHEN)


@_quick(
    title="Spearman correlation",
    means="Whether two maps rank the positions alike, by strength: 1 the same order, 0 unrelated, −1 reversed. Scale "
    "does not matter; of a map with both signs the absolute values count.",
    not_means="That either map is right, since both can follow the contrast of the image; or that signs agree.",
    low=-1.0,
    pairs=spearman_of_pairs,
)
def spearman(a: Tensor, b: Tensor) -> Tensor:
    r"""Spearman's rank correlation of the pixels of two maps, in [-1, 1].

    .. math:: \rho = \mathrm{corr}(R(a), R(b))

    ``R`` ranks the pixels of a map; equal values get the mean of their ranks.

    Source: Spearman, American Journal of Psychology 15 (1904).

    >>> a = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    >>> spearman(a, torch.tensor([[[1.0, 2.0], [4.0, 3.0]]]))
    tensor([0.8000], dtype=torch.float64)
    """
    return _of_two(spearman_of_pairs, a, b)


@_quick(
    title="SSIM",
    means="Whether the strengths of two maps, each scaled to [0, 1], have the same local structure: 1 identical, about "
    "0 unrelated.",
    not_means="That they agree on what matters most: two maps that are flat almost everywhere are similar already.",
    low=-1.0,
    pairs=ssim_of_pairs,
    min_side=WINDOW,
)
def ssim(a: Tensor, b: Tensor) -> Tensor:
    r"""Mean structural similarity of two maps, in [-1, 1].

    .. math::
        \frac{(2 \mu_a \mu_b + c_1)(2 \sigma_{ab} + c_2)}{(\mu_a^2 + \mu_b^2 + c_1)(\sigma_a^2 + \sigma_b^2 + c_2)},
        \quad c_1 = 0.01^2, c_2 = 0.03^2

    Maps have at least 11 × 11 pixels. Each map is first scaled to [0, 1] by its own smallest and largest value, so that
    the data range is 1. Means and variances are taken in Gaussian windows of 11 × 11 pixels with a standard deviation
    of 1.5 that lie inside the map, and the result is averaged over the windows. A flat zero background, which many maps
    have, counts as agreement.

    Source: Wang et al., IEEE TIP 13 (2004), section III.B; as scikit-image with ``gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1``.

    >>> a = torch.eye(16)[None]
    >>> ssim(a, a), ssim(a, 1 - a).round(decimals=2)
    (tensor([1.], dtype=torch.float64), tensor([-0.2700], dtype=torch.float64))
    """
    return _of_two(ssim_of_pairs, a, b)


@_quick(
    title="Overlap of the top 20 %",
    means="Intersection over union of the 20 % strongest positions of each map: 1 the same positions, about 0.11 by "
    "chance, 0 none in common.",
    not_means="That the object was found. It compares two maps with each other, never with the object.",
    pairs=topk_iou_of_pairs,
)
def topk_iou(a: Tensor, b: Tensor, *, share: float = TOP) -> Tensor:
    r"""Overlap of the strongest pixels of two maps, in [0, 1]: their intersection over their union.

    .. math:: \sum_i \min(t_i, u_i) / \sum_i \max(t_i, u_i)

    ``t`` and ``u`` are 1 for the ``k`` largest pixels of each map, largest with sign, and 0 for the rest; ``k`` is the
    rounded ``share``, in (0, 1], of the pixels, at least 1. Pixels that tie for the last ranks share them equally, so
    that ``t`` always sums to ``k`` whatever the order of pixels. Two random maps reach about ``share / (2 - share)``:
    0.11 for a fifth.

    >>> a = torch.arange(10.0).reshape(1, 2, 5)
    >>> topk_iou(a, a.roll(1))
    tensor([0.3333], dtype=torch.float64)
    """
    if not 0 < share <= 1:
        raise ValueError(f"wanted a share in (0, 1], got {share}")
    return _of_two(lambda maps, pairs: topk_iou_of_pairs(maps, pairs, share), a, b)


def agreement_of_pairs(maps: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Measures of every two maps of each image.

    Args:
        maps: ``(N, M, H, W)``: ``M`` maps of each image, any sign.
        names: Measures in :data:`AGREEMENT`; by default the quick ones that maps of this size allow.

    Returns:
        ``(N, P)`` float64 for each measure, in the order of :func:`~attnviz.metrics.pairwise_agreement.pairs_of`: the
        values of the measure for the pair.

    Raises:
        UnknownNameError: no such measure.
        ValueError: ``maps`` does not have four axes.
    """
    if maps.ndim != 4:
        raise ValueError(f"wanted maps (N, M, H, W), got {tuple(maps.shape)}")
    measures = [AGREEMENT[name] for name in names] if names is not None else quick_measures(min(maps.shape[2:]))
    pairs, prepared = pairs_of(maps.shape[1]), PreparedMaps(maps)
    empty = prepared.flat.new_zeros(len(maps), len(pairs))
    return {one.name: _measure_pairs(one, maps, prepared, pairs) if empty.numel() else empty for one in measures}


def quick_measures(side: int) -> list[Measure]:
    """The measures of every explanation that maps of ``side`` pixels allow, sorted by name."""
    measures = (AGREEMENT[name] for name in AGREEMENT)
    return [one for one in measures if one.quick and one.min_side <= side]


def _measure_pairs(one: Measure, maps: Tensor, prepared: PreparedMaps, pairs: Pairs) -> Tensor:
    left, right = ([pair[side] for pair in pairs] for side in (0, 1))
    if one.pairs is None:
        return torch.stack([one(maps[:, i], maps[:, j]).double() for i, j in pairs], dim=1)
    values: Tensor = one.pairs(prepared, pairs)
    return values.masked_fill(prepared.undefined[:, left] | prepared.undefined[:, right], math.nan)


def _of_two(of_pairs: Callable[[PreparedMaps, Pairs], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """A measure of pairs, of the two maps of each image."""
    check_pair(a, b)
    maps = PreparedMaps(torch.stack([a, b], dim=1))
    return of_pairs(maps, [(0, 1)])[:, 0].masked_fill(maps.undefined.any(dim=1), math.nan)


def pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps as ``(N, H * W)`` float64, checked."""
    check_pair(a, b)
    x, y = (m.detach().flatten(1).double().contiguous() for m in (a, b))
    return x, y


def check_pair(a: Tensor, b: Tensor) -> None:
    """Raise :class:`ValueError` unless two batches of maps are ``(N, H, W)`` of one shape."""
    if a.ndim != 3 or a.shape != b.shape or 0 in a.shape[1:]:
        raise ValueError(f"wanted two (N, H, W) maps of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")

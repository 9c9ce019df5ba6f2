"""Do two maps say the same? Pure functions of two batches of maps.

All ask about pattern, not about amount: scaling a map by a positive number changes nothing. Two maps may agree because
both are right, or because both favour the middle of the image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.analyses.measures import Measure, measure
from attnviz.registry import Registry

AGREEMENT: Registry[Measure] = Registry("agreement measure", home="attnviz.analyses.agreement")

_NAN = "one of the maps is constant, or not finite"


@measure(AGREEMENT, higher_is="more alike", low=-1.0, high=1.0, nan_when=_NAN)
def spearman(a: Tensor, b: Tensor) -> Tensor:
    r"""Spearman's rank correlation of the pixels of two maps: whether they order the places alike.

    .. math:: \rho = \mathrm{corr}(R(a), R(b))

    ``R`` ranks the pixels of a map; equal values share the mean of their ranks.

    Args:
        a: Maps, ``(N, H, W)``, any sign.
        b: Maps of the same shape.

    Returns:
        ``(N,)`` in [-1, 1], float64; NaN where a map is constant, which has no order, or is not finite.

    Raises:
        ValueError: the shapes differ, or are not ``(N, H, W)``.

    Source: Spearman, American Journal of Psychology 15 (1904).

    >>> a = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    >>> spearman(a, torch.tensor([[[1.0, 2.0], [4.0, 3.0]]]))
    tensor([0.8000], dtype=torch.float64)
    """
    a, b = _pair(a, b)
    x, y = (_ranks(m) for m in (a, b))
    rho: Tensor = (x * y).sum(dim=1) / (x.norm(dim=1) * y.norm(dim=1))
    return rho.clamp(-1.0, 1.0).masked_fill(_undefined(a, b), math.nan)


@measure(AGREEMENT, higher_is="more alike", low=-1.0, high=1.0, nan_when=_NAN)
def ssim(a: Tensor, b: Tensor) -> Tensor:
    r"""Mean structural similarity of two maps: whether they look alike in every neighbourhood.

    .. math::
        \frac{(2 \mu_a \mu_b + c_1)(2 \sigma_{ab} + c_2)}{(\mu_a^2 + \mu_b^2 + c_1)(\sigma_a^2 + \sigma_b^2 + c_2)},
        \quad c_1 = 0.01^2, c_2 = 0.03^2

    Each map is first put between 0 and 1 by its own smallest and largest value, so that the data range is 1. Means and
    variances are taken in Gaussian windows of 11 × 11 pixels with a standard deviation of 1.5 that lie inside the map,
    and the result is averaged over the windows. A flat zero background, which many maps have, counts as agreement.

    Args:
        a: Maps, ``(N, H, W)``, any sign, at least 11 × 11.
        b: Maps of the same shape.

    Returns:
        ``(N,)`` in [-1, 1], float64; NaN where a map is constant, which has no range, or is not finite.

    Raises:
        ValueError: the shapes differ, are not ``(N, H, W)``, or are smaller than the window.

    Source: Wang et al., IEEE TIP 13 (2004), section III.B; as scikit-image with ``gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1``.

    >>> a = torch.eye(16)[None]
    >>> ssim(a, a), ssim(a, 1 - a).round(decimals=2)
    (tensor([1.], dtype=torch.float64), tensor([-0.2700], dtype=torch.float64))
    """
    size = a.shape[1:]
    a, b = _pair(a, b)
    if min(size) < _WINDOW:
        raise ValueError(f"ssim looks at windows of {_WINDOW} × {_WINDOW} pixels, got maps of {size[0]} × {size[1]}")
    x, y = (_unit(m).reshape(-1, 1, *size) for m in (a, b))
    mean_x, mean_y, xx, yy, xy = _blur(torch.cat([x, y, x * x, y * y, x * y])).chunk(5)
    var_x, var_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    alike = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    index = alike / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return index.mean(dim=(1, 2, 3)).clamp(-1.0, 1.0).masked_fill(_undefined(a, b), math.nan)


@measure(AGREEMENT, higher_is="more alike", low=0.0, high=1.0, nan_when=_NAN)
def topk_iou(a: Tensor, b: Tensor, *, share: float = 0.2) -> Tensor:
    r"""Overlap of the strongest pixels of two maps: their intersection over their union.

    .. math:: \sum_i \min(t_i, u_i) / \sum_i \max(t_i, u_i)

    ``t`` and ``u`` are 1 for the ``k`` largest pixels of each map, largest with sign, and 0 for the rest. Pixels that
    tie for the last places share them evenly, so that ``t`` always sums to ``k`` and no order of pixels is preferred.
    Two random maps reach about ``share / (2 - share)``: 0.11 for a fifth.

    Args:
        a: Maps, ``(N, H, W)``, any sign.
        b: Maps of the same shape.
        share: Which part of the pixels is the top; ``k`` is that part, rounded, and at least 1.

    Returns:
        ``(N,)`` in [0, 1], float64; NaN where a map is constant, which has no top, or is not finite.

    Raises:
        ValueError: the shapes differ, are not ``(N, H, W)``, or ``share`` is not in (0, 1].

    >>> a = torch.arange(10.0).reshape(1, 2, 5)
    >>> topk_iou(a, a.roll(1))
    tensor([0.3333], dtype=torch.float64)
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share is above 0 and at most 1, got {share}")
    a, b = _pair(a, b)
    t, u = (_top(m, max(1, round(share * m.shape[1]))) for m in (a, b))
    iou = torch.minimum(t, u).sum(dim=1) / torch.maximum(t, u).sum(dim=1)
    return iou.masked_fill(_undefined(a, b), math.nan)


_WINDOW = 11


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps as ``(N, H * W)`` float64, checked."""
    if a.ndim != 3 or a.shape != b.shape or 0 in a.shape[1:]:
        raise ValueError(f"wanted two (N, H, W) maps of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    return a.detach().flatten(1).double(), b.detach().flatten(1).double()


def _undefined(a: Tensor, b: Tensor) -> Tensor:
    odd = [(m.amax(dim=1) == m.amin(dim=1)) | ~m.isfinite().all(dim=1) for m in (a, b)]
    return odd[0] | odd[1]


def _ranks(flat: Tensor) -> Tensor:
    """Ranks of each row, centred on 0; equal values share the mean of their ranks."""
    ordered = flat.sort(dim=1).values
    below = torch.searchsorted(ordered, flat, right=False)
    up_to = torch.searchsorted(ordered, flat, right=True)
    return (below + up_to).double() / 2 - flat.shape[1] / 2


def _unit(flat: Tensor) -> Tensor:
    low = flat.amin(dim=1, keepdim=True)
    return (flat - low) / (flat.amax(dim=1, keepdim=True) - low)


def _blur(images: Tensor) -> Tensor:
    """Gaussian means in every window inside each image: ``(M, 1, H, W)`` to ``(M, 1, H - 10, W - 10)``."""
    offsets = torch.arange(_WINDOW, dtype=images.dtype, device=images.device) - _WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(images, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))


def _top(flat: Tensor, k: int) -> Tensor:
    """Membership of each pixel in the ``k`` largest of its row: 1, 0, or an even share among those that tie."""
    last = flat.topk(k, dim=1).values[:, -1:]
    above, tied = flat > last, flat == last
    left = k - above.sum(dim=1, keepdim=True)
    return above.double() + tied.double() * left / tied.sum(dim=1, keepdim=True)

"""How strongly is a map concentrated? More pure functions of one batch of maps, beside those of ``sparsity``.

:mod:`attnviz.metrics.sparsity` holds the four numbers of every explanation. These are for studies: what share the
strongest entries hold, how many entries there effectively are, and the numbers that neuroscience uses.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attnviz.core.registry import Registry
from attnviz.core.sorting import rising
from attnviz.metrics.registry import Measure, measure
from attnviz.metrics.sparsity import strengths

CONCENTRATION: Registry[Measure] = Registry("concentration measure", home="attnviz.metrics.concentration")

_ZERO = "every value is zero, or one is not finite"


@measure(CONCENTRATION, higher_is="sparser", low=0.0, high=1.0, nan_when=_ZERO)
def top_mass(g: Tensor, *, p: float = 0.1) -> Tensor:
    r"""Share of a map's strength that its strongest 10 % of entries hold: 0.1 where all are equal, towards 1.

    .. math:: \frac{1}{\|g\|_1} \Big( \sum_{k=1}^{\lfloor pn \rfloor} |g|_{[k]}
        + (pn - \lfloor pn \rfloor)\, |g|_{[\lfloor pn \rfloor + 1]} \Big)

    ``|g|_[k]`` is the k-th largest. Where ``pn`` is no whole number, the next entry counts in part, so that this is the
    Lorenz curve read from its top, and maps of different sizes can be compared.

    Args:
        g: Maps, ``(N, ...)``, any sign, ``n`` >= 2 values each.
        p: Share of the entries, in (0, 1].

    Returns:
        ``(N,)`` in [p, 1], float64; NaN for an all-zero map, which has no shares, or a value that is not finite.

    Raises:
        ValueError: fewer than 2 values per map, or ``p`` is outside.

    Source: Lorenz, Publications of the American Statistical Association 9 (1905).

    >>> top_mass(torch.tensor([[5.0, 3.0, 1.0, 1.0], [2.0, -2.0, 2.0, 2.0]]), p=0.5)
    tensor([0.8000, 0.5000], dtype=torch.float64)
    """
    if not 0 < p <= 1:
        raise ValueError(f"a share is above 0 and at most 1, got {p}")
    v = strengths(g)
    wanted = p * v.shape[1]
    whole = math.floor(wanted)
    top = v.topk(min(whole + 1, v.shape[1]), dim=1).values
    mass = top[:, :whole].sum(dim=1)
    if whole < v.shape[1]:
        mass = mass + (wanted - whole) * top[:, whole]
    return (mass / v.sum(dim=1)).clamp(0.0, 1.0)


@measure(CONCENTRATION, higher_is="more spread out", low=0.0, high=1.0, nan_when=_ZERO)
def participation_ratio(g: Tensor) -> Tensor:
    r"""Share of a map's entries among which its energy is effectively spread: 1 where all are equal, ``1/n`` for one.

    .. math:: \frac{1}{n} \frac{(\sum_i g_i^2)^2}{\sum_i g_i^4}

    Levelling two weak entries may lower it, since it looks at energies, whose sum such a gift does not keep.

    Args:
        g: Maps, ``(N, ...)``, any sign, ``n`` >= 2 values each.

    Returns:
        ``(N,)`` in [1/n, 1], float64; NaN for an all-zero map, which has no energy, or a value that is not finite.

    Raises:
        ValueError: fewer than 2 values per map.

    Source: Bell and Dean, Discussions of the Faraday Society 50 (1970), there for modes of vibration.

    >>> participation_ratio(torch.tensor([[1.0, 0.0, 0.0, 0.0], [3.0, -3.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]]))
    tensor([0.2500, 0.5000, 1.0000], dtype=torch.float64)
    """
    energy = strengths(g).square()
    share: Tensor = energy.mean(dim=1).square() / energy.square().mean(dim=1)
    return share.clamp(max=1.0)


@measure(CONCENTRATION, higher_is="sparser", low=0.0, high=1.0, nan_when=_ZERO)
def population_sparsity(g: Tensor) -> Tensor:
    r"""Treves and Rolls' sparsity of one image's entries: 0 where all are equally strong, 1 where one alone is active.

    .. math:: \frac{1 - a}{1 - 1/n}, \quad a = \frac{(\sum_i |g_i| / n)^2}{\sum_i g_i^2 / n}

    Args:
        g: Maps, ``(N, ...)``, any sign, ``n`` >= 2 values each.

    Returns:
        ``(N,)`` in [0, 1], float64; NaN for an all-zero map, or a value that is not finite.

    Raises:
        ValueError: fewer than 2 values per map.

    Source: ``a`` is of Treves and Rolls, Network 2 (1991); scaled to [0, 1] as by Vinje and Gallant, Science 287
    (2000). Where we differ: firing rates have no sign, so absolute values stand for them.

    >>> population_sparsity(torch.tensor([[1.0, 0.0, 0.0, 0.0], [3.0, -3.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]]))
    tensor([1.0000, 0.6667, 0.0000], dtype=torch.float64)
    """
    return _treves_rolls(strengths(g), dim=1)


@measure(
    CONCENTRATION,
    higher_is="heavier tails",
    low=-2.0,
    high=math.inf,
    nan_when="all values are equal, or one is not finite",
)
def kurtosis(g: Tensor) -> Tensor:
    r"""Excess kurtosis of each map's values: 0 for a Gaussian, above it where few values are far from the mean.

    .. math:: \frac{\frac{1}{n} \sum_i (g_i - \bar g)^4}{(\frac{1}{n} \sum_i (g_i - \bar g)^2)^2} - 3

    Signs count. It asks about deviations from the mean, not from zero, and adding a constant changes nothing: a gate
    that is closed but at one place has the kurtosis of one that is open but at one place.

    Args:
        g: Maps, ``(N, ...)``, any sign, ``n`` >= 2 values each.

    Returns:
        ``(N,)`` in [-2, n], float64; NaN for a constant map, which has no deviations, or a value that is not finite.

    Raises:
        ValueError: fewer than 2 values per map.

    Source: as a measure of sparseness, Field, Neural Computation 6 (1994); Willmore and Tolhurst, Network 12 (2001).

    >>> kurtosis(torch.tensor([[1.0, -1.0, 1.0, -1.0], [0.0, 0.0, 0.0, 4.0]]))
    tensor([-2.0000, -0.6667], dtype=torch.float64)
    """
    relative = strengths(g) * g.detach().flatten(1).double().sign()
    deviation = relative - relative.mean(dim=1, keepdim=True)
    square = deviation.square()
    constant = relative.amax(dim=1) == relative.amin(dim=1)
    value: Tensor = square.square().mean(dim=1) / square.mean(dim=1).square() - 3
    return value.masked_fill(constant, math.nan)


@measure(CONCENTRATION, higher_is="more spread out", low=1.0, high=math.inf, nan_when=_ZERO)
def l0(g: Tensor, *, threshold: float = 0.01) -> Tensor:
    r"""How many entries of a map are more than next to nothing: above 1 % of its strongest.

    .. math:: |\{ i : |g_i| > t \max_j |g_j| \}|

    The number behind :func:`~attnviz.metrics.sparsity.near_zero_share`, which is ``1 - l0 / n``.

    Args:
        g: Maps, ``(N, ...)``, any sign, ``n`` >= 2 values each.
        threshold: ``t``, relative to the strongest value of the map, in [0, 1).

    Returns:
        ``(N,)`` whole numbers in [1, n], float64; NaN for an all-zero map, which has no scale, or a value that is not
        finite.

    Raises:
        ValueError: fewer than 2 values per map, or a threshold outside.

    Source: Hurley and Rickard, IEEE Transactions on Information Theory 55 (2009), table I, with a relative threshold.

    >>> l0(torch.tensor([[1.0, 0.0, 0.01, 0.5]]))
    tensor([2.], dtype=torch.float64)
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"a threshold is at least 0 and below 1, got {threshold}")
    v = strengths(g)
    return (v > threshold).double().sum(dim=1).masked_fill(v.isnan().any(dim=1), math.nan)


def lifetime_sparsity(responses: Tensor) -> Tensor:
    r"""Treves and Rolls' sparsity of each unit over images: 0 where it answers all alike, 1 where it answers one alone.

    The same formula as :func:`population_sparsity`, along the other axis: the ``M`` images take the place of entries.

    Args:
        responses: ``(M, ...)``, one unit per entry, ``M`` >= 2 images, any sign.

    Returns:
        The shape of one image's responses, in [0, 1], float64; NaN for a unit that never answers, or has a value that
        is not finite.

    Raises:
        ValueError: fewer than 2 images.

    Source: as :func:`population_sparsity`; named by Willmore and Tolhurst, Network 12 (2001).

    >>> lifetime_sparsity(torch.tensor([[0.0, 2.0, 0.0], [0.0, 2.0, 0.0], [5.0, 2.0, 0.0]]))
    tensor([1., 0., nan], dtype=torch.float64)
    """
    if responses.ndim < 1 or responses.shape[0] < 2:
        raise ValueError(f"lifetime sparsity is of 2 images or more, got shape {tuple(responses.shape)}")
    units = responses.detach().double().flatten(1).abs().T if responses.ndim > 1 else responses.detach().double().abs()
    units = units.reshape(-1, responses.shape[0])
    strongest = units.amax(dim=1, keepdim=True) if units.numel() else units[:, :1]
    units = torch.where(strongest.isfinite(), units / strongest, math.nan)
    return _treves_rolls(units, dim=1).reshape(responses.shape[1:])


def effective_rank(matrices: Tensor) -> Tensor:
    r"""Effective rank of attention matrices: 1 where all queries attend alike, ``min(Q, K)`` where no two overlap.

    .. math:: \exp\Big(-\sum_i p_i \log p_i\Big), \quad p_i = \sigma_i / \sum_j \sigma_j

    ``σ`` are the singular values of a matrix.

    Args:
        matrices: ``(N, ..., Q, K)``: one image's heads are averaged.

    Returns:
        ``(N,)`` in [1, min(Q, K)], float64; NaN where a matrix is zero, or holds a value that is not finite.

    Raises:
        ValueError: fewer than 3 axes, or an axis of size 0.

    Source: Roy and Vetterli, EUSIPCO 2007, equations 1 to 3.

    >>> effective_rank(torch.stack([torch.eye(4), torch.full((4, 4), 0.25)])).round(decimals=6)
    tensor([4., 1.], dtype=torch.float64)
    """
    if matrices.ndim < 3 or 0 in matrices.shape[1:]:
        raise ValueError(f"effective rank is of matrices (N, ..., Q, K), got shape {tuple(matrices.shape)}")
    stack = matrices.detach().double().reshape(matrices.shape[0], -1, *matrices.shape[-2:])
    scale = stack.abs().amax(dim=(-2, -1), keepdim=True)
    odd = ~(scale.isfinite() & (scale > 0))[..., 0, 0]
    values = torch.linalg.svdvals(torch.where(odd[..., None, None], 0.0, stack / scale))
    shares = values / values.sum(dim=-1, keepdim=True)
    ranks = torch.special.entr(shares).sum(dim=-1).exp()
    mean: Tensor = ranks.masked_fill(odd, math.nan).mean(dim=1)
    return mean


def lorenz(g: Tensor, points: int = 101) -> Tensor:
    r"""Lorenz curve of each map: the share of its strength that its weakest entries hold.

    Args:
        g: Maps, ``(N, ...)``, any sign, ``n`` >= 2 values each.
        points: At how many evenly spaced shares of the entries, from 0 to 1, the curve is read.

    Returns:
        ``(N, points)`` rising from 0 to 1, float64; between entries the curve is a straight line. NaN for an all-zero
        map, or a value that is not finite.

    Raises:
        ValueError: fewer than 2 values per map, or fewer than 2 points.

    Source: Lorenz, Publications of the American Statistical Association 9 (1905). The Gini index is twice the area
    between the curve and the diagonal.

    >>> lorenz(torch.tensor([[3.0, 1.0], [2.0, -2.0]]), 3)
    tensor([[0.0000, 0.2500, 1.0000],
            [0.0000, 0.5000, 1.0000]], dtype=torch.float64)
    """
    if points < 2:
        raise ValueError(f"a curve has 2 points or more, got {points}")
    v = rising(strengths(g))
    held = torch.nn.functional.pad(v.cumsum(dim=1), (1, 0)) / v.sum(dim=1, keepdim=True)
    at = torch.linspace(0, v.shape[1], points, dtype=v.dtype, device=v.device)
    below = at.floor().clamp(max=v.shape[1] - 1).long()
    return held[:, below].lerp(held[:, below + 1], (at - below).expand(v.shape[0], -1))


def _treves_rolls(v: Tensor, dim: int) -> Tensor:
    n = v.shape[dim]
    a = v.mean(dim=dim).square() / v.square().mean(dim=dim)
    return ((1 - a) / (1 - 1 / n)).clamp(0.0, 1.0)

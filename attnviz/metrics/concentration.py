"""More measures of how concentrated a map is, for studies; those of every explanation are in ``sparsity``.

The share that the strongest entries hold, the effective number of entries, and the measures used in neuroscience.

Measures take maps ``(N, ...)``, any sign, with ``n`` >= 2 values each (else :class:`ValueError`), and return ``(N,)``
float64; NaN for an all-zero map or a value that is not finite.
"""

import math
from functools import partial

import torch
from torch import Tensor

from attnviz.metrics.registry import measure
from attnviz.metrics.sorted_maps import SortedMaps, sorted_maps, strengths
from attnviz.metrics.sparsity import NAN_WHEN, SPARSITY

_slow = partial(measure, SPARSITY, quick=False, nan_when=NAN_WHEN)


@_slow(
    title="Mass of the top tenth",
    means="Share of the strength that the strongest tenth of the entries holds: 0.1 if all are equal, 1 if they hold "
    "everything.",
    not_means="That the other entries can be removed without harm.",
    higher_is="sparser",
    takes_sorted=True,
)
def top_mass(g: Tensor | SortedMaps, *, p: float = 0.1) -> Tensor:
    r"""Share of a map's strength, in [p, 1], that its strongest entries hold: ``p`` if all are equal.

    .. math:: \frac{1}{\|g\|_1} \Big( \sum_{k=1}^{\lfloor pn \rfloor} |g|_{[k]}
        + (pn - \lfloor pn \rfloor)\, |g|_{[\lfloor pn \rfloor + 1]} \Big)

    ``p`` is the share of the entries, in (0, 1]; ``|g|_[k]`` is the k-th largest. If ``pn`` is not an integer, the next
    entry counts in part, so that this is the Lorenz curve from its upper end, and maps of different sizes can be
    compared.

    Source: Lorenz, Publications of the American Statistical Association 9 (1905).

    >>> top_mass(torch.tensor([[5.0, 3.0, 1.0, 1.0], [2.0, -2.0, 2.0, 2.0]]), p=0.5)
    tensor([0.8000, 0.5000], dtype=torch.float64)
    """
    if not 0 < p <= 1:
        raise ValueError(f"a share is above 0 and at most 1, got {p}")
    maps = sorted_maps(g)
    wanted, n = p * maps.n, maps.n
    whole = math.floor(wanted)
    mass = maps.total
    if whole < n:
        mass = mass - maps.cumulative[:, n - whole - 1] + (wanted - whole) * maps.strengths[:, n - whole - 1]
    return (mass / maps.total).clamp(0.0, 1.0)


@_slow(
    title="Participation ratio",
    means="Effective share of the entries over which the energy is spread: 1 if all are equal, 1/n for a single entry.",
    not_means="A count of non-zero entries.",
    higher_is="more spread out",
)
def participation_ratio(g: Tensor) -> Tensor:
    r"""Effective share of a map's entries over which its energy is spread: 1 if all are equal, ``1/n`` for one.

    .. math:: \frac{1}{n} \frac{(\sum_i g_i^2)^2}{\sum_i g_i^4}

    Making two weak entries equal can lower it, since that does not preserve the sum of energies.

    Source: Bell and Dean, Discussions of the Faraday Society 50 (1970), there for modes of vibration.

    >>> participation_ratio(torch.tensor([[1.0, 0.0, 0.0, 0.0], [3.0, -3.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]]))
    tensor([0.2500, 0.5000, 1.0000], dtype=torch.float64)
    """
    energy = strengths(g).square()
    share: Tensor = energy.mean(dim=1).square() / energy.square().mean(dim=1)
    return share.clamp(max=1.0)


@_slow(
    title="Population sparsity",
    means="Sparsity of the entries of one image after Treves and Rolls: 0 if all are equally strong, 1 if a single one "
    "is active.",
    not_means="How often an entry is active over images: that is lifetime sparsity.",
    higher_is="sparser",
)
def population_sparsity(g: Tensor) -> Tensor:
    r"""Treves-Rolls sparsity of one image's entries, in [0, 1]: 0 if all are equally strong, 1 if only one is active.

    .. math:: \frac{1 - a}{1 - 1/n}, \quad a = \frac{(\sum_i |g_i| / n)^2}{\sum_i g_i^2 / n}

    Source: ``a`` is of Treves and Rolls, Network 2 (1991); scaled to [0, 1] as by Vinje and Gallant, Science 287
    (2000). Difference to the papers: firing rates have no sign, so absolute values are used.

    >>> population_sparsity(torch.tensor([[1.0, 0.0, 0.0, 0.0], [3.0, -3.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]]))
    tensor([1.0000, 0.6667, 0.0000], dtype=torch.float64)
    """
    return _treves_rolls(strengths(g), dim=1)


@_slow(
    title="Excess kurtosis",
    means="How heavy the tails of the values are: 0 for a Gaussian, positive if few values are far from the mean.",
    not_means="Distance from zero: adding a constant changes nothing.",
    higher_is="heavier tails",
    low=-2.0,
    high=math.inf,
    nan_when="all values are equal, or one is not finite",
)
def kurtosis(g: Tensor) -> Tensor:
    r"""Excess kurtosis of each map's values: 0 for a Gaussian, positive if few values are far from the mean.

    .. math:: \frac{\frac{1}{n} \sum_i (g_i - \bar g)^4}{(\frac{1}{n} \sum_i (g_i - \bar g)^2)^2} - 3

    In [-2, n]; NaN also for a constant map, which has no deviations. Signs count. It describes deviations from the
    mean, not from zero, and adding a constant changes nothing: a gate that is closed except at one position has the
    kurtosis of one that is open except at one position.

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


@_slow(
    title="Entries above 1 %",
    means="Number of entries above 1 % of the largest.",
    not_means="A share: it grows with the size of the map.",
    higher_is="more spread out",
    low=1.0,
    high=math.inf,
)
def l0(g: Tensor, *, threshold: float = 0.01) -> Tensor:
    r"""Number of entries of a map, in [1, n], above 1 % of its largest.

    .. math:: |\{ i : |g_i| > t \max_j |g_j| \}|

    ``t`` is the ``threshold``, in [0, 1). The number behind :func:`~attnviz.metrics.sparsity.near_zero_share`, which is
    ``1 - l0 / n``.

    Source: Hurley and Rickard, IEEE Transactions on Information Theory 55 (2009), table I, with a relative threshold.

    >>> l0(torch.tensor([[1.0, 0.0, 0.01, 0.5]]))
    tensor([2.], dtype=torch.float64)
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"a threshold is at least 0 and below 1, got {threshold}")
    v = strengths(g)
    return (v > threshold).double().sum(dim=1).masked_fill(v.isnan().any(dim=1), math.nan)


def lifetime_sparsity(responses: Tensor) -> Tensor:
    r"""Treves-Rolls sparsity of each unit over images: 0 if it responds to all equally, 1 if it responds to one only.

    The formula of :func:`population_sparsity` along the other axis: over ``M`` >= 2 images (else :class:`ValueError`)
    instead of entries. From ``(M, ...)``, one unit per entry, to the shape of one image's responses, in [0, 1]; NaN for
    a unit that never responds, or has a value that is not finite.

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
    r"""Effective rank of attention matrices: 1 if all queries attend equally, ``min(Q, K)`` if no two overlap.

    .. math:: \exp\Big(-\sum_i p_i \log p_i\Big), \quad p_i = \sigma_i / \sum_j \sigma_j

    ``σ`` are the singular values of a matrix. From ``(N, ..., Q, K)`` to ``(N,)`` in [1, min(Q, K)]: the mean over the
    axes between; NaN where a matrix is zero, or holds a value that is not finite. Raises :class:`ValueError` for fewer
    than 3 axes, or an axis of size 0.

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


def lorenz(g: Tensor | SortedMaps, points: int = 101) -> Tensor:
    r"""Lorenz curve of each map: the share of its strength that its weakest entries hold.

    ``(N, points)`` rising from 0 to 1, at ``points`` >= 2 (else :class:`ValueError`) evenly spaced shares of the
    entries; between entries the curve is a straight line.

    Source: Lorenz, Publications of the American Statistical Association 9 (1905). The Gini index is twice the area
    between the curve and the diagonal.

    >>> lorenz(torch.tensor([[3.0, 1.0], [2.0, -2.0]]), 3)
    tensor([[0.0000, 0.2500, 1.0000],
            [0.0000, 0.5000, 1.0000]], dtype=torch.float64)
    """
    if points < 2:
        raise ValueError(f"a curve has 2 points or more, got {points}")
    return sorted_maps(g).lorenz(points)


def _treves_rolls(v: Tensor, dim: int) -> Tensor:
    n = v.shape[dim]
    a = v.mean(dim=dim).square() / v.square().mean(dim=dim)
    return ((1 - a) / (1 - 1 / n)).clamp(0.0, 1.0)

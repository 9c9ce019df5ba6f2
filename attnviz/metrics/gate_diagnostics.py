"""Diagnoses of gates over a data set: never open, never closed, never used, never changing.

Pure functions of accumulators: :class:`~attnviz.metrics.streaming.Extremes` and
:class:`~attnviz.metrics.streaming.Moments` of ``g``, one unit per entry, one sample per image. Those that find entries
return bools of the shape of one image's ``g``; their second argument is the threshold.
"""

import math

import torch
from torch import Tensor

from attnviz.metrics.streaming import Extremes, Moments

CLOSED, OPEN = 0.01, 0.99
UNUSED = 1e-6


def dead(g: Extremes, closed: float = CLOSED) -> Tensor:
    r"""Return the entries that are closed for every image: at most 0.01 in absolute value.

    .. math:: \max_n |g_{ni}| \le 0.01

    >>> dead(Extremes.of(torch.tensor([[0.0, 0.5], [0.01, 0.0]])))
    tensor([ True, False])
    """
    return torch.maximum(g.low.abs(), g.high.abs()) <= closed


def saturated(g: Extremes, wide: float = OPEN) -> Tensor:
    r"""Return the entries of a gate in [0, 1] that are open for every image: they have no effect.

    .. math:: \min_n g_{ni} \ge 0.99

    It has a meaning only for gates that a sigmoid or its like bounds.

    Source: as "right saturated" gates, with a threshold of 0.9, in Karpathy, Johnson and Fei-Fei,
    https://arxiv.org/abs/1506.02078, section 4.2.

    >>> saturated(Extremes.of(torch.tensor([[1.0, 0.99, 0.5], [0.995, 1.0, 1.0]])))
    tensor([ True,  True, False])
    """
    return g.low >= wide


def never_used(y: Extremes, relative: float = UNUSED) -> Tensor:
    r"""Return the channels that are zero after the gate for every image.

    .. math:: \max_{n, \text{positions}} |y_c| \le 10^{-6} \max_{c'} \max_{n, \text{positions}} |y_{c'}|

    ``y`` is the output of the gate, one unit per channel, over images and positions; all channels count if it is zero.
    Whether other channels matter for the prediction needs an intervention (:func:`~attnviz.analyses.ablation.matters`).

    >>> never_used(Extremes.of(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])))
    tensor([False,  True])
    """
    most = torch.maximum(y.low.abs(), y.high.abs())
    return most <= relative * most.max()


def input_share(g: Moments) -> float:
    r"""Share of the variance of ``g`` that the input explains: 0 for the same ``g`` for every image.

    .. math:: \frac{\sum_i \operatorname{Var}_n g_{ni}}{\sum_i \operatorname{Var}_n g_{ni}
        + \sum_i (\bar g_i - \bar g)^2}

    By the law of total variance: ``g`` differs between its entries ``i`` on the mean, which a constant would do as
    well, and at each entry between images ``n``, which only the input can do. A gate that never changes is no
    attention, however uneven it is.

    In [0, 1]; NaN where ``g`` has no variance at all, or for fewer than 2 images.

    >>> input_share(Moments.of(torch.tensor([[0.0, 3.0], [2.0, 5.0]])))  # 1 around the means 1 and 4
    0.3076923076923077
    """
    if not bool((g.count > 1).any()):
        return math.nan
    total = g.count.sum()
    grand = (g.mean * g.count).sum() / total
    within = g.squares.sum()
    between = (g.count * (g.mean - grand).square()).sum()
    # Rounding leaves something where all values are equal.
    constant = (within + between) / total <= 1e-14 * ((g.mean.square() * g.count).sum() / total)
    return math.nan if bool(constant) else float(within / (within + between))

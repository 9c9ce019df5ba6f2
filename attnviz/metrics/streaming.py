"""Statistics of more data than fits in memory: accumulators that are added, in any order, like numbers.

``Moments.of(all) == Moments.of(some) + Moments.of(rest)``, within floating point for moments and exactly for all
others. Each is frozen, of bounded size, and starts from data: workers make their own, and who collects them adds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LEVEL = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Mean and variance of each unit over samples; a value that is not finite is left out and not counted.

    Attributes:
        count: How many values each unit had, float64.
        mean: Their mean; 0 where there was none.
        squares: Sum of squared deviations from the mean.

    Source: Chan, Golub and LeVeque, The American Statistician 37 (1983), for the sum of two.

    >>> both = Moments.of(torch.tensor([1.0, 2.0])) + Moments.of(torch.tensor([6.0]))
    >>> both.mean.item(), both.variance.item()
    (3.0, 7.0)
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """The moments of samples ``(M, ...)`` along their first axis; each unit has the shape of the other axes."""
        v = values.detach().double()
        mean = v.mean(dim=0)
        if bool(mean.sum().isfinite()):  # as a rule: then so is every value
            return cls(torch.full_like(mean, len(v)), mean, (v - mean).square_().sum(dim=0))
        finite = v.isfinite()
        count = finite.double().sum(dim=0)
        mean = torch.where(finite, v, 0.0).sum(dim=0) / count.clamp_min(1)
        squares = torch.where(finite, v - mean, 0.0).square().sum(dim=0)
        return cls(count, mean, squares)

    def __add__(self, other: Moments) -> Moments:
        _same_shape(self.mean, other.mean)
        count = self.count + other.count
        part = other.count / count.clamp_min(1)
        step = other.mean - self.mean
        return Moments(count, self.mean + step * part, self.squares + other.squares + step.square() * self.count * part)

    @property
    def variance(self) -> Tensor:
        """Unbiased variance of each unit; NaN below 2 values."""
        return torch.where(self.count > 1, self.squares / (self.count - 1).clamp_min(1), math.nan)

    def interval(self, level: float = LEVEL) -> tuple[Tensor, Tensor]:
        """Confidence interval of each unit's mean, by Student's t; NaN below 2 values.

        The samples count as independent: give it one number per image, not one per entry of a map.
        """
        from scipy.special import stdtrit

        freedom = (self.count - 1).clamp_min(1)
        t = torch.as_tensor(stdtrit(freedom.cpu().numpy(), (1 + level) / 2), dtype=self.mean.dtype)
        reach = t.to(self.mean) * (self.variance / self.count.clamp_min(1)).sqrt()
        return self.mean - reach, self.mean + reach


@dataclass(frozen=True, slots=True, eq=False)
class Extremes:
    """Smallest and largest value of each unit over samples; NaN is left out.

    Attributes:
        low: Smallest; infinity where there was none.
        high: Largest; minus infinity where there was none.

    >>> (Extremes.of(torch.tensor([3.0])) + Extremes.of(torch.tensor([1.0, 2.0]))).low.item()
    1.0
    """

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Extremes:
        """The extremes of samples ``(M, ...)`` along their first axis."""
        v = values.detach().double()
        none = v.isnan()
        end = v.new_full((1, *v.shape[1:]), math.inf)
        return cls(
            torch.cat([v.masked_fill(none, math.inf), end]).amin(dim=0),
            torch.cat([v.masked_fill(none, -math.inf), -end]).amax(dim=0),
        )

    def __add__(self, other: Extremes) -> Extremes:
        _same_shape(self.low, other.low)
        return Extremes(torch.minimum(self.low, other.low), torch.maximum(self.high, other.high))


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts of values between fixed edges; the sum of two is exact.

    Attributes:
        edges: ``B + 1`` of them, rising, float64. A value on an edge counts to its right; on the last, to its left.
        counts: ``(B,)``, int64.
        outside: How many were below the first edge, above the last, and not a number: ``(3,)``.

    >>> Histogram.of(torch.tensor([0.1, 0.5, 0.9, 1.0, 2.0]), torch.tensor([0.0, 0.5, 1.0])).counts
    tensor([1, 3])
    """

    edges: Tensor
    counts: Tensor
    outside: Tensor

    @classmethod
    def of(cls, values: Tensor, edges: Tensor) -> Histogram:
        """The histogram of all values, whatever their shape.

        Raises:
            ValueError: fewer than 2 edges, or they do not rise.
        """
        edges = edges.double()
        if edges.ndim != 1 or len(edges) < 2 or not bool((edges.diff() > 0).all()):
            raise ValueError(f"a histogram wants 2 rising edges or more, got {edges.tolist()}")
        v = values.detach().flatten().double()
        index = torch.bucketize(v, edges, right=True)
        index -= (v == edges[-1]).long()
        index = index.masked_fill(v.isnan(), len(edges) + 1)
        counts = torch.bincount(index, minlength=len(edges) + 2)
        outside = torch.stack([counts[0], counts[-2], counts[-1]])
        return cls(edges, counts[1:-2], outside)

    def __add__(self, other: Histogram) -> Histogram:
        if not torch.equal(self.edges, other.edges):
            raise ValueError("only histograms with the same edges have a sum")
        return Histogram(self.edges, self.counts + other.counts, self.outside + other.outside)


@dataclass(frozen=True, slots=True, eq=False)
class Quantiles:
    r"""Quantiles within 0.1 % of the value, from counts in buckets whose width grows with the value.

    Bucket ``i`` holds magnitudes in :math:`(\gamma^{i-1}, \gamma^i]` with :math:`\gamma = (1 + \alpha) / (1 - \alpha)`
    and :math:`\alpha = 0.001`, from 1e-7 to 1e7; smaller ones count as 0, larger ones as 1e7. Its size is fixed (258
    kB), and the sum of two is exact. What is not finite is left out.

    Attributes:
        counts: ``(2 B + 1,)`` int64: negative values, largest magnitude first, then 0, then positive values.

    Source: DDSketch, Masson, Rim and Lee, PVLDB 12 (2019), section 2. Differs in its fixed range instead of
    collapsing buckets, so that the order of additions plays no part at all.

    >>> Quantiles.of(torch.arange(1, 1001)).at(0.5).round(decimals=1)
    tensor(500.2000, dtype=torch.float64)
    """

    counts: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Quantiles:
        """The sketch of all values, whatever their shape."""
        v = values.detach().flatten().double()
        v = v[v.isfinite()]
        bucket = (v.abs().log() / _LOG_GAMMA).ceil().clamp(_FIRST - 1, _LAST).long() - (_FIRST - 1)
        index = bucket * v.sign().long() + _BUCKETS
        return cls(torch.bincount(index, minlength=2 * _BUCKETS + 1))

    def __add__(self, other: Quantiles) -> Quantiles:
        return Quantiles(self.counts + other.counts)

    def at(self, q: float | Tensor) -> Tensor:
        """The quantile ``q`` in [0, 1]: of ``n`` values, about the one with rank ``⌊q (n - 1)⌋``; NaN of no values.

        Raises:
            ValueError: ``q`` is outside.
        """
        wanted = torch.as_tensor(q, dtype=torch.float64)
        if not bool(((wanted >= 0) & (wanted <= 1)).all()):
            raise ValueError(f"a quantile is in [0, 1], got {q}")
        total = int(self.counts.sum())
        if total == 0:
            return torch.full_like(wanted, math.nan)
        rank = (wanted * (total - 1)).floor().long()
        index = torch.searchsorted(self.counts.cumsum(0), rank.to(self.counts.device), right=True).cpu() - _BUCKETS
        size = index.abs() + _FIRST - 1
        middle = torch.exp(size.double() * _LOG_GAMMA) * 2 / (_GAMMA + 1)
        return torch.where(index == 0, 0.0, middle * index.sign())


_ALPHA = 0.001
_GAMMA = (1 + _ALPHA) / (1 - _ALPHA)
_LOG_GAMMA = math.log(_GAMMA)
_FIRST, _LAST = math.ceil(math.log(1e-7) / _LOG_GAMMA), math.ceil(math.log(1e7) / _LOG_GAMMA)
_BUCKETS = _LAST - _FIRST + 1


def _same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"only statistics of units of one shape have a sum, got {tuple(a.shape)} and {tuple(b.shape)}")

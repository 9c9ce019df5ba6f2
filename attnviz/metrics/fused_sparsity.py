"""The measures that every study takes, from one sort: the same numbers as by the measures themselves, sooner."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from attnviz.core.sorting import rising

_NEAR_ZERO, _TOP = 0.01, 0.1


class FusedSparsity(NamedTuple):
    """What one sort of maps ``(N, n)`` tells; NaN as in the measures themselves.

    Attributes:
        measures: Name of a measure -> what computes it, ``(N,)`` float64, as the measure of that name with its default
            threshold or share.
        strengths: Absolute values, rising, relative to the largest of their map, ``(N, n)`` float64.
        held: The sum of those up to each, ``(N, n)``.
    """

    measures: Mapping[str, Callable[[], Tensor]]
    strengths: Tensor
    held: Tensor

    def lorenz(self, points: int) -> Tensor:
        """:func:`~attnviz.metrics.concentration.lorenz` at that many shares, ``(N, points)``."""
        shares = torch.nn.functional.pad(self.held, (1, 0)) / self.held[:, -1:]
        n = self.held.shape[1]
        at = torch.linspace(0, n, points, dtype=shares.dtype, device=shares.device)
        below = at.floor().clamp(max=n - 1).long()
        return shares[:, below].lerp(shares[:, below + 1], (at - below).expand(len(shares), -1))


def fused_sparsity(rows: Tensor) -> FusedSparsity:
    """Measures of maps ``(N, n)``, any sign, ``n`` >= 2.

    >>> quick(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).measures["gini"]()
    tensor([0.2500], dtype=torch.float64)
    """
    n = rows.shape[1]
    v = rising(rows.abs()).double()
    strongest = v[:, -1:]
    v = torch.where(strongest.isfinite() & (strongest > 0), v / strongest, math.nan)
    held = v.cumsum(dim=1)
    total = held[:, -1]

    def gini() -> Tensor:
        ranks = torch.arange(1, n + 1, dtype=v.dtype, device=v.device)
        return (1 - 2 * (v @ (n - ranks + 0.5)) / (total * n)).clamp(0.0, 1.0)

    def hoyer() -> Tensor:
        root = math.sqrt(n)
        sparsity: Tensor = (root - total / v.norm(dim=1)) / (root - 1)
        return sparsity.clamp(0.0, 1.0)

    def entropy() -> Tensor:
        bits: Tensor = torch.special.entr(v / total[:, None]).sum(dim=1)
        return (bits / math.log(n)).clamp(0.0, 1.0)

    def near_zero_share() -> Tensor:
        return (v <= _NEAR_ZERO).double().mean(dim=1).masked_fill(total.isnan(), math.nan)

    def top_mass() -> Tensor:
        whole = math.floor(_TOP * n)
        mass = total - (held[:, n - whole - 1] if whole < n else 0.0) + (_TOP * n - whole) * v[:, n - whole - 1]
        return (mass / total).clamp(0.0, 1.0)

    measures: Mapping[str, Callable[[], Tensor]] = {
        "gini": gini,
        "hoyer": hoyer,
        "normalised_entropy": entropy,
        "near_zero_share": near_zero_share,
        "top_mass": top_mass,
    }
    return FusedSparsity(measures, v, held)

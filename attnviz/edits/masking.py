"""Edits of how much of ``g`` there is: nothing, some, or more of it."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from attnviz.core.sorting import nth_smallest
from attnviz.edits.context import GEdit
from attnviz.edits.registry import register_edit


def zero(g: Tensor) -> Tensor:
    """Every entry 0: a gate lets nothing through, a query attends to nothing, every point is the upper left pixel.

    .. math:: g' = 0

    >>> zero(torch.tensor([[0.25, 0.75]]))
    tensor([[0., 0.]])
    """
    return torch.zeros_like(g)


register_edit(
    "zero",
    zero,
    title="zero g",
    means="Every entry is 0: nothing passes a gate, and a query attends to nothing.",
    not_means="The effect of an uninformative g: a network without any signal is far from what it was trained on.",
)


def scale(a: float) -> GEdit:
    """Every entry multiplied by ``a``; 1 changes nothing.

    .. math:: g' = a g

    >>> scale(2.0)(torch.tensor([[0.25, 0.75]]))
    tensor([[0.5000, 1.5000]])
    """
    return partial(_scaled, a=float(a))


def keep_top(p: float) -> GEdit:
    r"""The share ``p`` of each sample's entries that is largest in magnitude, the others 0.

    .. math:: g'_i = g_i \text{ where } \operatorname{rank} |g_i| \le \operatorname{round}(p n), \text{ else } 0

    The ``n`` entries of a sample are ranked together; of equal ones the first are kept. ``p = 1`` changes nothing and
    ``p = 0`` is :func:`zero`.

    Args:
        p: In [0, 1].

    Raises:
        ValueError: ``p`` is outside.

    >>> keep_top(0.5)(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))
    tensor([[0.0000, 0.4000, 0.0000, 0.3000]])
    """
    return partial(_kept_top, p=_share(p))


def drop_top(p: float) -> GEdit:
    r"""The share ``p`` of each sample's entries that is largest in magnitude becomes 0: the rest of :func:`keep_top`.

    .. math:: g'_i = 0 \text{ where } \operatorname{rank} |g_i| \le \operatorname{round}(p n), \text{ else } g_i

    ``p`` is what is dropped, so that ``keep_top(p)(g) + drop_top(p)(g) == g``: here ``p = 0`` changes nothing and
    ``p = 1`` is :func:`zero`.

    Args:
        p: In [0, 1].

    Raises:
        ValueError: ``p`` is outside.

    >>> drop_top(0.25)(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))
    tensor([[0.1000, 0.0000, 0.2000, 0.3000]])
    """
    return partial(_dropped_top, p=_share(p))


def keep_random(p: float, generator: torch.Generator | None = None) -> GEdit:
    """The share ``p`` of each sample's entries, drawn at random at each call, the others 0.

    The control of :func:`keep_top`: does it matter *which* entries are kept?

    Args:
        p: In [0, 1].
        generator: Where the choice comes from, on any device; PyTorch's own where left out.

    Raises:
        ValueError: ``p`` is outside.

    >>> keep_random(0.5, torch.Generator().manual_seed(0))(torch.ones(1, 4)).sum()
    tensor(2.)
    """
    return partial(_kept_random, p=_share(p), generator=generator)


def _share(p: float) -> float:
    if not 0 <= p <= 1:
        raise ValueError(f"a share of entries is in [0, 1], got {p}")
    return float(p)


def _scaled(g: Tensor, a: float) -> Tensor:
    return g if a == 1 else g * a


def _largest(g: Tensor, p: float) -> Tensor:
    """Where the ``p`` of each sample's entries that are largest in magnitude are; of equal ones the first."""
    strength = g.detach().abs().flatten(1)
    return _selected(strength.masked_fill(strength.isnan(), torch.inf), p).view(g.shape)  # nothing is larger than NaN


def _selected(strength: Tensor, p: float) -> Tensor:
    """Where the ``p`` of each row's entries that are largest are; of equal ones the first.

    By selection and not by sorting, which takes many times as long for large maps.
    """
    n = strength.shape[1]
    k = round(p * n)
    if k in {0, n}:
        return torch.full_like(strength, k > 0, dtype=torch.bool)
    least = nth_smallest(strength, n - k)
    above, equal = strength > least, strength == least
    wanted = k - above.sum(dim=1, keepdim=True)
    if bool((equal.sum(dim=1, keepdim=True) > wanted).any()):
        equal &= equal.cumsum(dim=1) <= wanted
    return above | equal


def _where(chosen: Tensor, g: Tensor) -> Tensor:
    """``g`` at the chosen entries, 0 elsewhere; ``g`` itself where all are chosen, so that nothing is computed anew."""
    return g if bool(chosen.all()) else torch.where(chosen, g, torch.zeros_like(g))


def _kept_top(g: Tensor, p: float) -> Tensor:
    return _where(_largest(g, p), g)


def _dropped_top(g: Tensor, p: float) -> Tensor:
    return _where(~_largest(g, p), g)


def _kept_random(g: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    device = g.device if generator is None else generator.device
    lots = torch.rand(g.flatten(1).shape, generator=generator, device=device).to(g.device)
    return _where(_selected(-lots, p).view(g.shape), g)

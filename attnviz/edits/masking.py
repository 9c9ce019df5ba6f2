"""Edits that scale ``g`` or keep a part of it."""

from functools import partial

import torch
from torch import Tensor

from attnviz.core.sorting import nth_smallest
from attnviz.edits.context import GEdit
from attnviz.edits.registry import register_edit


def zero(g: Tensor) -> Tensor:
    """Set every entry to 0: a gate blocks everything, a query attends to nothing, a point is the upper left pixel.

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
    """Return the edit that multiplies every entry by ``a``; 1 changes nothing.

    .. math:: g' = a g

    >>> scale(2.0)(torch.tensor([[0.25, 0.75]]))
    tensor([[0.5000, 1.5000]])
    """
    return partial(_scaled, a=float(a))


def keep_top(p: float) -> GEdit:
    r"""Return the edit that keeps the share ``p`` of the entries of each sample with the largest magnitude.

    .. math:: g'_i = g_i \text{ where } \operatorname{rank} |g_i| \le \operatorname{round}(p n), \text{ else } 0

    The ``n`` entries of a sample are ranked together; of equal ones, the first are kept. ``p = 1`` changes nothing and
    ``p = 0`` is :func:`zero`.

    Args:
        p: Share of the entries, in [0, 1].

    Raises:
        ValueError: ``p`` is not in [0, 1].

    >>> keep_top(0.5)(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))
    tensor([[0.0000, 0.4000, 0.0000, 0.3000]])
    """
    return partial(_kept, p=_share(p), largest=True)


def drop_top(p: float) -> GEdit:
    r"""Return the edit that sets the share ``p`` of the entries with the largest magnitude to 0.

    .. math:: g'_i = 0 \text{ where } \operatorname{rank} |g_i| \le \operatorname{round}(p n), \text{ else } g_i

    The complement of :func:`keep_top`: ``keep_top(p)(g) + drop_top(p)(g) == g``; ``p = 0`` changes nothing and ``p =
    1`` is :func:`zero`.

    Args:
        p: Share of the entries, in [0, 1].

    Raises:
        ValueError: ``p`` is not in [0, 1].

    >>> drop_top(0.25)(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))
    tensor([[0.1000, 0.0000, 0.2000, 0.3000]])
    """
    return partial(_kept, p=_share(p), largest=False)


def keep_random(p: float, generator: torch.Generator | None = None) -> GEdit:
    """Return the edit that keeps a random share ``p`` of the entries of each sample, drawn at each call.

    The control of :func:`keep_top`.

    Args:
        p: Share of the entries, in [0, 1].
        generator: Random generator on any device; PyTorch's default one if omitted.

    Raises:
        ValueError: ``p`` is not in [0, 1].

    >>> keep_random(0.5, torch.Generator().manual_seed(0))(torch.ones(1, 4)).sum()
    tensor(2.)
    """
    return partial(_kept_random, p=_share(p), generator=generator)


def _share(p: float) -> float:
    if not 0 <= p <= 1:
        raise ValueError(f"wanted a share in [0, 1], got {p}")
    return float(p)


def _scaled(g: Tensor, a: float) -> Tensor:
    return g if a == 1 else g * a


def _largest(g: Tensor, p: float) -> Tensor:
    """Return a mask of the share ``p`` of the entries of each sample with the largest magnitude."""
    strength = g.detach().abs().flatten(1)
    return _selected(strength.masked_fill(strength.isnan(), torch.inf), p).view(g.shape)  # NaN counts as largest


def _selected(strength: Tensor, p: float) -> Tensor:
    """Return a mask of the share ``p`` of the largest entries of each row; of equal ones, the first.

    Selection is many times faster than sorting for large maps.
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
    """Return ``g`` at the chosen entries and 0 elsewhere; ``g`` itself if all are chosen."""
    return g if bool(chosen.all()) else torch.where(chosen, g, torch.zeros_like(g))


def _kept(g: Tensor, p: float, *, largest: bool) -> Tensor:
    chosen = _largest(g, p)
    return _where(chosen if largest else ~chosen, g)


def _kept_random(g: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    device = g.device if generator is None else generator.device
    ranks = torch.rand(g.flatten(1).shape, generator=generator, device=device).to(g.device)
    return _where(_selected(-ranks, p).view(g.shape), g)

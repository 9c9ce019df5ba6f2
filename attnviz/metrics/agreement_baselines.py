"""Baselines of agreement: maps that do not depend on the model."""

import torch
from torch import Tensor

from attnviz.metrics.agreement import AGREEMENT


def centre_prior(size: tuple[int, int], spread: float = 0.25) -> Tensor:
    r"""A map that depends only on the distance to the centre.

    .. math:: \exp(-\tfrac{1}{2}((y / \sigma H)^2 + (x / \sigma W)^2))

    Args:
        size: ``(H, W)``.
        spread: ``sigma``, as a share of the side.

    Returns:
        ``(H, W)`` float64, 1 at most.
    """
    ys, xs = (((torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5) / spread for n in size)
    return torch.exp(-0.5 * (ys[:, None] ** 2 + xs[None] ** 2))


def with_baselines(name: str, a: Tensor, b: Tensor, *, draws: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """A measure of two batches of maps, with two baselines that do not depend on the model: the centre, and chance.

    Args:
        name: A measure in :data:`AGREEMENT`.
        a: Maps, ``(N, H, W)``.
        b: Maps of the same shape.
        draws: Number of moved copies that chance is estimated from.
        seed: Random seed.

    Returns:
        ``(N,)`` each: ``"value"``; ``"centre"``, the mean of the values of each map and :func:`centre_prior`;
        ``"random"``, the mean of the values of ``a`` and of ``b`` rolled and mirrored at random, which keeps the
        texture of ``b`` and loses its position.

    Raises:
        UnknownNameError: no such measure.
        ValueError: the shapes differ, or are not ``(N, H, W)``.
    """
    function = AGREEMENT[name]
    value = function(a, b)
    prior = centre_prior((a.shape[1], a.shape[2])).to(a.device).expand(len(a), -1, -1)
    centre = (function(a, prior) + function(b, prior)) / 2
    generator = torch.Generator().manual_seed(seed)
    moved = [function(a, _moved(b, generator)) for _ in range(draws)]
    return {"value": value, "centre": centre, "random": torch.stack(moved).mean(dim=0)}


def _moved(maps: Tensor, generator: torch.Generator) -> Tensor:
    shifts = [int(torch.randint(n, (), generator=generator)) for n in maps.shape[1:]]
    mirrored = [axis for axis in (1, 2) if bool(torch.randint(2, (), generator=generator))]
    return maps.roll(shifts, dims=(1, 2)).flip(mirrored) if mirrored else maps.roll(shifts, dims=(1, 2))

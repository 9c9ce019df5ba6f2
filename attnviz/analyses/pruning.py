"""Keep a share of ``g``, set the rest to 0, and measure the effect on the prediction.

All functions run the model in evaluation mode without gradients, and do not change it. ``sites`` are from
:func:`attnviz.find_attention`, ``x`` is a batch ``(N, ...)``, and ``shares`` of ``g`` to keep increase from 0 to 1.
``read`` is what is read of the output of the model: log-probabilities of classes, or the measured score of a target.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from attnviz.analyses.accumulators import Tally, scalar
from attnviz.core.model_outputs import logits_of, rows_of
from attnviz.core.model_state import as_inference
from attnviz.core.records import Kind, Site
from attnviz.core.sorting import rising
from attnviz.edits import Edit, drop_top, keep_random, keep_top
from attnviz.edits.intervention import intervene
from attnviz.metrics.streaming import Moments
from attnviz.targets import Target

SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
KEPT = 0.95
"""A prediction counts as kept if its probability is at least this share of that of the unchanged model."""

ALL = "all sites"

Orders = Mapping[str, Callable[[float, torch.Generator], Edit]]
ORDERS: Orders = {
    "strongest": lambda kept, _: keep_top(kept),
    "weakest": lambda kept, _: drop_top(1 - kept),
    "random": keep_random,
}
"""The edits that keep a share of the entries of ``g``."""


Read: TypeAlias = Callable[[Any], Tensor]
"""From the output of a model to log-probabilities of classes, ``(N, K)``, or to measured scores, ``(N, 1)``."""


def log_probabilities(output: Any) -> Tensor:
    """The log-probabilities ``(N, K)`` in the output of a classifier."""
    return logits_of(output, "the model").float().log_softmax(-1)


def measured_scores(targets: Sequence[Target]) -> Read:
    """What is measured of the target of each image, ``(N, 1)``."""

    def read(output: Any) -> Tensor:
        each = [target.measured(rows_of(output, slice(n, n + 1))) for n, target in enumerate(targets)]
        return torch.cat([one.detach().float().reshape(1, 1) for one in each])

    return read


def response(
    model: nn.Module, x: Tensor, edit: Edit | None = None, sites: Sequence[Site] = (), read: Read = log_probabilities
) -> Tensor:
    """What is read of the output of the model, with ``edit`` at ``sites``."""
    with torch.no_grad(), as_inference(model):
        if edit is None:
            return read(model(x))
        with intervene(model, {"*": edit}, sites):
            return read(model(x))


def outcome(plain: Tensor, edited: Tensor) -> dict[str, Tensor]:
    r"""Return the change of the prediction: three numbers for each image, or one for a score.

    ``probability``: probability of the class that the unchanged model predicts, relative to its original value; it can
    exceed 1. ``top1``: 1 if the predicted class is the same, else 0. ``kl``:
    :math:`\mathrm{KL}(\text{plain} \| \text{edited})` in nats, from 0. ``score``, the only one of a score ``(N, 1)``:
    the score relative to its original value; NaN if that is 0.

    Args:
        plain: Log-probabilities ``(N, K)`` of the unchanged model, or scores ``(N, 1)``.
        edited: The same of the edited model.

    >>> same = torch.tensor([[0.75, 0.25]]).log()
    >>> {name: round(float(v), 4) for name, v in outcome(same, torch.tensor([[0.5, 0.5]]).log()).items()}
    {'probability': 0.6667, 'top1': 1.0, 'kl': 0.1308}
    """
    if plain.shape[1] == 1:
        return {"score": torch.where(plain == 0, math.nan, edited / plain)[:, 0]}
    target = plain.argmax(1, keepdim=True)
    ratio = (edited.gather(1, target) - plain.gather(1, target)).exp()[:, 0]
    kl = torch.where(plain.isfinite(), plain.exp() * (plain - edited), 0.0).sum(1).clamp_min(0)
    return {"probability": ratio, "top1": (edited.argmax(1) == target[:, 0]).float(), "kl": kl}


def scopes(sites: Sequence[Site]) -> dict[str, list[Site]]:
    """Return each site, and all of them together if there are several; sampling points are no weights and left out."""
    weights = [site for site in sites if site.kind is not Kind.SAMPLING]
    each = {site.name: [site] for site in weights}
    return {**each, ALL: weights} if len(weights) > 1 else each


def curves(
    model: nn.Module,
    sites: Sequence[Site],
    x: Tensor,
    plain: Tensor,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    orders: Orders = ORDERS,
    read: Read = log_probabilities,
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the change of the prediction for each share of ``g`` that is kept at some sites.

    The sites are pruned together. A share of 1 is the unchanged model, and a share of 0 is run once for all orders.
    ``plain`` is the :func:`response` of the unchanged model; ``orders`` say which entries are kept first.

    Yields:
        The name of the order, and ``(N, P)`` for each name of :func:`outcome`.

    Raises:
        ValueError: the shares do not increase from 0 to 1.
    """
    check_shares(shares)
    ends = outcome(plain, response(model, x, keep_top(0.0), sites, read)), outcome(plain, plain)
    for name, edit in orders.items():
        generator = torch.Generator().manual_seed(seed)
        between = [
            outcome(plain, response(model, x, edit(kept, generator), sites, read)) for kept in shares if 0 < kept < 1
        ]
        points = [ends[0], *between, ends[1]]
        yield name, {what: torch.stack([point[what] for point in points], 1).cpu() for what in ends[0]}


def check_shares(shares: Sequence[float]) -> None:
    """Raise an error for shares that do not increase from 0 to 1."""
    if len(shares) < 2 or (shares[0], shares[-1]) != (0, 1) or any(a >= b for a, b in itertools.pairwise(shares)):
        raise ValueError(f"wanted shares that increase from 0 to 1, got {', '.join(map(str, shares))}")


def area(shares: Sequence[float], curve: Tensor) -> Tensor:
    """Return the area under curves ``(N, P)`` over the kept share, by the trapezoidal rule, ``(N,)``.

    >>> area((0, 0.5, 1), torch.tensor([[0.0, 1.0, 1.0]]))
    tensor([0.7500])
    """
    return torch.trapezoid(curve, torch.as_tensor(shares, dtype=curve.dtype), dim=1)


def needed(shares: Sequence[float], curve: Tensor, kept: float = KEPT) -> Tensor:
    """Return the smallest of ``shares`` from which on the curve stays at 0.95 or more, ``(N,)``.

    ``curve`` is ``(N, P)``, relative to the unchanged model; ``kept`` is the threshold.

    >>> needed((0, 0.1, 0.5, 1), torch.tensor([[0.96, 0.2, 0.97, 1.0], [0.0, 0.95, 0.99, 1.0]]))
    tensor([0.5000, 0.1000])
    """
    holds = (curve >= kept).flip(1).long().cumprod(1).sum(1)
    return torch.tensor([*shares, math.inf], dtype=curve.dtype)[curve.shape[1] - holds]


def holding(g: Tensor, mass: float = KEPT) -> Tensor:
    r"""Return the smallest share of the entries that holds 95 % of the strength of a map.

    Args:
        g: Maps, ``(N, ...)``, any sign, at least one value each.
        mass: Share of the strength, in (0, 1].

    Returns:
        ``(N,)`` in [1/n, 1], float64; NaN for an all-zero map or a value that is not finite.

    >>> holding(torch.tensor([[9.0, 0.5, 0.5, 0.0], [1.0, 1.0, 1.0, 1.0]]))
    tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    v = rising(g.flatten(1).double().abs()).flip(1)
    held = v.cumsum(1) / v.sum(1, keepdim=True)
    # Rounding of the sum must not add an entry.
    share = ((held < mass - 1e-12).sum(1) + 1).double() / v.shape[1]
    return share.masked_fill(held[:, -1].isnan(), math.nan)


def prune(
    model: nn.Module,
    sites: Sequence[Site],
    x: Tensor,
    looks: Mapping[str, Tensor],
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    advance: Callable[[str], object] = lambda _: None,
    read: Read = log_probabilities,
) -> Tally:
    """Prune each site, and all together, for one batch.

    ``looks`` are the :func:`holding` of ``g`` for each image, ``(N,)``, by site; ``advance`` is called with each scope
    when it is done.

    Returns:
        For each scope, ``pruned.ORDER.WHAT``: moments of the curve over images, ``(P,)``; ``area.ORDER``: area under
        the curve of the probability, or of the score; ``needed``: the smallest share that keeps 95 % of it, strongest
        first; ``looks``: the share that holds 95 % of the strength; ``gap``: ``looks - needed``.
    """
    plain = response(model, x, read=read)
    tally: Tally = {}
    for scope, chosen in scopes(sites).items():
        for order, curve in curves(model, chosen, x, plain, shares, seed, read=read):
            kept = curve["score"] if "score" in curve else curve["probability"]
            for what, values in curve.items():
                tally[scope, f"pruned.{order}.{what}"] = Moments.of(values)
            tally[scope, f"area.{order}"] = scalar(area(shares, kept))
            if order == "strongest":
                enough = needed(shares, kept)
                seen = torch.stack([looks[site.name] for site in chosen]).mean(0).cpu()
                tally[scope, "needed"], tally[scope, "looks"] = scalar(enough), scalar(seen)
                tally[scope, "gap"] = scalar(seen - enough)
        advance(scope)
    return tally

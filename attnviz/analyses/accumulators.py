"""A tally: what was counted of every site, by name; tallies of parts of a data set are added, in any order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from torch import Tensor

from attnviz.metrics.streaming import Extremes, Histogram, Moments, Quantiles

Accumulator: TypeAlias = Moments | Extremes | Histogram | Quantiles
Key: TypeAlias = tuple[str, str]
"""A site's name, or ``""`` for what is of the model, and what was counted of it."""

Tally: TypeAlias = dict[Key, Accumulator]

_CLASSES: dict[str, type[Accumulator]] = {c.__name__: c for c in (Moments, Extremes, Histogram, Quantiles)}


def added(one: Mapping[Key, Accumulator], other: Mapping[Key, Accumulator]) -> Tally:
    """The tally of both parts; what one part alone has counted is kept.

    >>> import torch
    >>> a, b = ({("se", "g.gini"): Moments.of(torch.tensor([v]))} for v in (1.0, 3.0))
    >>> added(a, b)["se", "g.gini"].mean
    tensor(2., dtype=torch.float64)
    """
    total = dict(one)
    for key, value in other.items():
        total[key] = total[key] + value if key in total else value  # type: ignore[operator]  # one key, one class
    return total


def stored(tally: Mapping[Key, Accumulator]) -> list[Any]:
    """The tally as lists, names and tensors, which ``torch.load`` reads without running anything."""
    return [
        [*key, type(value).__name__, {name: getattr(value, name) for name in value.__slots__}]
        for key, value in tally.items()
    ]


def restored(content: Iterable[Any]) -> Tally:
    """What :func:`stored` gave, as a tally again.

    Raises:
        KeyError: it holds an accumulator that is not known.
    """
    tally: Tally = {}
    for site, what, name, fields in content:
        made: Any = _CLASSES[name]
        tally[site, what] = made(**fields)
    return tally


def scalar(values: Tensor) -> Moments:
    """Moments of one number per image, ``(N,)``."""
    return Moments.of(values.detach().cpu())

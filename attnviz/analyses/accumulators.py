"""Tallies: accumulated statistics of every site. Tallies of parts of a data set can be added in any order."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from attnviz.metrics.streaming import Extremes, Histogram, Moments, Quantiles

Accumulator: TypeAlias = Moments | Extremes | Histogram | Quantiles


@dataclass(frozen=True, slots=True)
class Between:
    """A matrix between the members of a model.

    Attributes:
        measure: ``"cosine"`` of heads, or ``"agreement"`` of sites.
        members: Name of each record and the number of its heads, 1 for a site as a whole.
    """

    measure: str
    members: tuple[tuple[str, int], ...]


Key: TypeAlias = tuple[str, "str | Between"]
"""Name of a record, or ``""`` for the model, and the statistic."""

Tally: TypeAlias = dict[Key, Accumulator]

_CLASSES: dict[str, type[Accumulator]] = {c.__name__: c for c in (Moments, Extremes, Histogram, Quantiles)}


def added(one: Mapping[Key, Accumulator], other: Mapping[Key, Accumulator]) -> Tally:
    """The tally of both parts; keys of only one part are kept.

    >>> import torch
    >>> a, b = ({("se", "g.gini"): Moments.of(torch.tensor([v]))} for v in (1.0, 3.0))
    >>> added(a, b)["se", "g.gini"].mean
    tensor(2., dtype=torch.float64)
    """
    total = dict(one)
    for key, value in other.items():
        total[key] = total[key] + value if key in total else value  # type: ignore[operator]  # a key has one class
    return total


def stored(tally: Mapping[Key, Accumulator]) -> list[Any]:
    """The tally as lists, names and tensors, which ``torch.load`` reads with ``weights_only``."""
    return [
        [site, _stored_key(what), type(value).__name__, {name: getattr(value, name) for name in value.__slots__}]
        for (site, what), value in tally.items()
    ]


def restored(content: Iterable[Any]) -> Tally:
    """The tally from the result of :func:`stored`.

    Raises:
        KeyError: unknown accumulator.
    """
    tally: Tally = {}
    for site, what, name, fields in content:
        made: Any = _CLASSES[name]
        key = what if isinstance(what, str) else Between(what[0], tuple((name, count) for name, count in what[1]))
        tally[site, key] = made(**fields)
    return tally


def _stored_key(what: str | Between) -> Any:
    return what if isinstance(what, str) else [what.measure, [list(member) for member in what.members]]


def scalar(values: Tensor) -> Moments:
    """Moments of one number per image, ``(N,)``."""
    return Moments.of(values.detach().cpu())

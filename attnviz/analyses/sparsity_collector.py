"""Sparsity of ``g``: a tally per batch, and tallies of batches add up to that of a data set.

Only the tally is kept, whose size does not depend on the number of images.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from attnviz.analyses.accumulators import Accumulator, Between, Tally, scalar
from attnviz.analyses.attention_rows import (
    MEASURED,
    WATCHED,
    competing,
    is_pairwise,
    maps_of,
    on_grid,
    on_plane,
    positions,
    received,
    sampled,
)
from attnviz.core.glossary import Meaning, define
from attnviz.core.records import Kind, Record
from attnviz.errors import UnknownNameError
from attnviz.metrics.concentration import effective_rank
from attnviz.metrics.head_similarity import cosine, hsic, jensen_shannon
from attnviz.metrics.pairwise_agreement import PreparedMaps
from attnviz.metrics.sorted_maps import SortedMaps
from attnviz.metrics.sparsity import SPARSITY, quick_measures
from attnviz.metrics.streaming import Extremes, Histogram, Moments, Quantiles
from attnviz.tracing import Gate

RANK = "effective_rank"
define(
    "measure",
    RANK,
    Meaning(
        "Effective rank",
        "How many different distributions the queries of a map use: 1 if all attend equally.",
        "How many heads or queries are needed.",
    ),
)
CURVE_POINTS = 51
STRENGTHS = torch.linspace(0, 1, 51)
"""Edges of the histogram of strengths, relative to the strongest competing entry."""

VALUES = 4096
"""Number of evenly spaced values that represent an activation."""


@dataclass(frozen=True, slots=True)
class MeasureSelection:
    """The selected measures.

    Attributes:
        measures: Names of sparsity measures of ``g``, or ``"effective_rank"``.
        activations: Whether the activations before and after each site are measured too.

    Raises:
        UnknownNameError: no such measure.
    """

    measures: tuple[str, ...] = field(default_factory=lambda: default_measures())  # noqa: PLW0108  # defined below
    activations: bool = False

    def __post_init__(self) -> None:
        for name in self.measures:
            if name not in known_measures():
                raise UnknownNameError("sparsity measure", name, known_measures())


def default_measures() -> tuple[str, ...]:
    """Return the measures of ``g`` that a study computes by default."""
    return (*(measure.name for measure in quick_measures()), "top_mass")


def known_measures() -> tuple[str, ...]:
    """Return the names of all measures of ``g``."""
    return (*SPARSITY, RANK)


class SparsityCollector:
    """Collects the statistics of one batch, record by record; records are not kept.

    Attributes:
        names: Names of the records so far.
    """

    def __init__(self, images: int, selection: MeasureSelection) -> None:
        """Start a batch of ``images`` images."""
        self.names: list[str] = []
        self._images, self._selection = images, selection
        self._tally: Tally = {}
        self._heads: dict[str, Tensor] = {}
        self._planes: dict[str, Tensor] = {}

    def __call__(self, record: Record) -> None:
        """Add one record."""
        name, images, selection = record.name, self._images, self._selection
        self.names.append(name)
        found: dict[str, Accumulator] = {}
        if is_pairwise(record):
            maps = maps_of(record, images, WATCHED)
            groups: Tensor | None = sampled(maps, MEASURED).flatten(1, 2)
            self._heads[name] = sampled(maps)
            found |= _of_rows(maps, self._heads[name])
            plane = on_grid(record, received(maps).mean(2)) if record.site.kind is Kind.PAIRWISE else None
            if RANK in selection.measures:
                found[f"g.{RANK}"] = scalar(effective_rank(maps_of(record, images).flatten(1, 2)))
        else:
            groups, plane = competing(record, images), positions(record, images)
            if groups is not None:
                found |= _of_gate(record, images)
        if groups is not None:
            found |= _of_groups(groups, selection)
        if plane is not None and plane.shape[0] == images:
            self._planes[name] = plane
        self._tally.update({(name, what): value for what, value in found.items()})
        if selection.activations:
            before = record.x if isinstance(record.x, Tensor) else record.x[-1]
            for part, values in (("before", before), ("after", record.y)):
                self._tally.update(of_activation(name, part, values, images, selection))

    def tally(self) -> Tally:
        """Return all statistics, including the similarities of heads and of sites."""
        return {**self._tally, **_of_heads(self._heads), **_of_positions(self._planes)}


def of_activation(name: str, part: str, values: Tensor, images: int, selection: MeasureSelection) -> Tally:
    """Return measures of an activation ``(N, ...)``, from at most 4,096 evenly spaced values of each image."""
    if not images or values.shape[0] % images:
        return {}
    v = spread(values.detach().reshape(images, -1))
    if v.shape[1] < 2:
        return {}
    maps = SortedMaps(v)
    return {(name, f"{part}.{key}"): scalar(SPARSITY[key].of_sorted(maps)) for key in selection.measures if key != RANK}


def spread(v: Tensor, most: int = VALUES) -> Tensor:
    """Return at most ``most`` values of each row, with a step coprime to its length, so that no channel is missed.

    >>> spread(torch.arange(12)[None], 4)
    tensor([[ 0,  5, 10]])
    """
    step = max(1, -(-v.shape[1] // most))
    while math.gcd(step, v.shape[1]) > 1:
        step += 1
    return v[:, ::step]


def _of_groups(groups: Tensor, selection: MeasureSelection) -> dict[str, Accumulator]:
    """Return measures, Lorenz curve and distribution of competing entries, ``(N, groups, n)``."""
    images, count, n = groups.shape
    if n < 2 or not count:
        return {}
    rows = groups.reshape(-1, n)
    maps = SortedMaps(rows)
    found: dict[str, Accumulator] = {}
    for key in selection.measures:
        if key != RANK:
            found[f"g.{key}"] = scalar(SPARSITY[key].of_sorted(maps).reshape(images, count).nanmean(1))
    found["lorenz"] = Moments.of(maps.lorenz(CURVE_POINTS).reshape(images, count, -1).nanmean(1).cpu())
    found["strengths"] = Histogram.of(maps.strengths.cpu(), STRENGTHS)
    found["values"] = Quantiles.of(rows.cpu())
    return found


def _of_rows(maps: Tensor, rows: Tensor) -> dict[str, Accumulator]:
    """Return statistics of the entries of a map over images, of the keys, and of differences of heads."""
    found: dict[str, Accumulator] = {
        "units": Moments.of(rows.cpu()),
        "received": Moments.of(received(maps).mean(1).cpu()),
    }
    if rows.shape[1] > 1:
        found["jensen_shannon"] = Moments.of(jensen_shannon(rows).cpu())
        found["hsic"] = Moments.of(hsic(rows).cpu())
    return found


def _of_gate(record: Record, images: int) -> dict[str, Accumulator]:
    """Return statistics of the entries of a gate over images, and of its channels."""
    found: dict[str, Accumulator] = {}
    g = record.g.detach().cpu()
    if g.shape[0] == images:
        found["units"], found["range"] = Moments.of(g), Extremes.of(g)
    use, y = record.site.use, record.y.detach()
    if isinstance(use, Gate) and record.site.kind in {Kind.CHANNEL, Kind.DENSE}:
        y = use.by_channel(y)
        y = y.flatten(2) if y.ndim > 2 else y[..., None]
        found["carried"] = Extremes(y.amin((0, 2)).double().cpu(), y.amax((0, 2)).double().cpu())
    return found


def _of_heads(rows: Mapping[str, Tensor]) -> Tally:
    """Return the similarities of all heads of the model whose maps have one shape."""
    shapes: dict[tuple[int, ...], list[str]] = {}
    for name, of_site in rows.items():
        shapes.setdefault(tuple(of_site.shape[2:]), []).append(name)
    tally: Tally = {}
    for names in shapes.values():
        # One product gives every pair, within sites and between them.
        members = tuple((name, rows[name].shape[1]) for name in names)
        similarity = cosine(torch.cat([rows[name] for name in names], 1))
        tally["", Between("cosine", members)] = Moments.of(similarity.cpu())
    return tally


def _of_positions(planes: Mapping[str, Tensor]) -> Tally:
    """Return the rank correlations of all pairs of sites with a map of positions."""
    if len(planes) < 2:
        return {}
    stack = torch.stack([on_plane(plane) for plane in planes.values()], 1).cpu()
    full = rank_correlation(stack.flatten(2))
    return {("", Between("agreement", tuple((name, 1) for name in planes))): Moments.of(full)}


def rank_correlation(maps: Tensor) -> Tensor:
    """Spearman's correlation of every two maps of each image: ``(N, S, n)`` to ``(N, S, S)``; NaN for constant ones.

    As :func:`~attnviz.metrics.agreement.spearman` of every pair, but each map is ranked once.
    """
    unit = PreparedMaps(maps[:, :, None]).unit_ranks
    return (unit @ unit.mT).clamp(-1.0, 1.0)

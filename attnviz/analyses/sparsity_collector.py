"""How sparse does ``g`` look? One batch of records becomes a tally; tallies of batches add up to that of a data set.

Nothing of a batch is kept but its tally, whose size does not depend on how many images there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from scipy.stats import rankdata
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
    places,
    received,
    sampled,
)
from attnviz.core.glossary import Meaning, define
from attnviz.core.records import Kind, Record
from attnviz.errors import UnknownNameError
from attnviz.metrics.concentration import effective_rank
from attnviz.metrics.head_similarity import cosine, hsic, jensen_shannon
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
"""Edges of the histogram of strengths, relative to the strongest of those that compete."""

VALUES = 4096
"""So many values of an activation, spread evenly, stand for all of them."""


@dataclass(frozen=True, slots=True)
class MeasureSelection:
    """What is counted.

    Attributes:
        measures: Names of sparsity and concentration measures, and ``"effective_rank"``, of ``g``.
        activations: Whether also of the activations before and after each site.

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
    """The measures of ``g`` that a study computes unless others are selected."""
    return (*(measure.name for measure in quick_measures()), "top_mass")


def known_measures() -> tuple[str, ...]:
    """The names of all measures of ``g``."""
    return (*SPARSITY, RANK)


class SparsityCollector:
    """What one batch shows: each record is counted as soon as it is there, and nothing but its count is kept.

    Attributes:
        names: Of the records so far.
    """

    def __init__(self, images: int, selection: MeasureSelection) -> None:
        """Before the model runs on a batch of ``images``."""
        self.names: list[str] = []
        self._images, self._asked = images, selection
        self._tally: Tally = {}
        self._heads: dict[str, Tensor] = {}
        self._planes: dict[str, Tensor] = {}

    def __call__(self, record: Record) -> None:
        """Count what one record shows."""
        name, images, selection = record.name, self._images, self._asked
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
            groups, plane = competing(record, images), places(record, images)
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
        """All that was counted, and how heads and sites compare with each other."""
        return {**self._tally, **_of_heads(self._heads), **_of_places(self._planes)}


def of_activation(name: str, part: str, values: Tensor, images: int, selection: MeasureSelection) -> Tally:
    """Measures of an activation ``(N, ...)``, from at most 4,096 values of each image, evenly spread."""
    if not images or values.shape[0] % images:
        return {}
    v = spread(values.detach().reshape(images, -1))
    if v.shape[1] < 2:
        return {}
    maps = SortedMaps(v)
    return {(name, f"{part}.{key}"): scalar(SPARSITY[key].of_sorted(maps)) for key in selection.measures if key != RANK}


def spread(v: Tensor, most: int = VALUES) -> Tensor:
    """At most ``most`` values of each row, by a step that shares no divisor with the row, so that no channel is missed.

    >>> spread(torch.arange(12)[None], 4)
    tensor([[ 0,  5, 10]])
    """
    step = max(1, -(-v.shape[1] // most))
    while math.gcd(step, v.shape[1]) > 1:
        step += 1
    return v[:, ::step]


def _of_groups(groups: Tensor, selection: MeasureSelection) -> dict[str, Accumulator]:
    """Measures, Lorenz curve and distribution of entries that compete, ``(N, groups, n)``."""
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
    """What each entry of a map does over images, what each key receives, and how the heads differ."""
    found: dict[str, Accumulator] = {
        "units": Moments.of(rows.cpu()),
        "received": Moments.of(received(maps).mean(1).cpu()),
    }
    if rows.shape[1] > 1:
        found["jensen_shannon"] = Moments.of(jensen_shannon(rows).cpu())
        found["hsic"] = Moments.of(hsic(rows).cpu())
    return found


def _of_gate(record: Record, images: int) -> dict[str, Accumulator]:
    """What each entry of a gate does over images, and what each channel carries."""
    found: dict[str, Accumulator] = {}
    g = record.g.detach().cpu()
    if g.shape[0] == images:
        found["units"], found["range"] = Moments.of(g), Extremes.of(g)
    use, y = record.site.use, record.y.detach()
    if isinstance(use, Gate) and record.site.kind in {Kind.CHANNEL, Kind.DENSE}:
        y = y.movedim(use.channel_axis, 1).flatten(2) if y.ndim > 2 else y[..., None]
        found["carried"] = Extremes(y.amin((0, 2)).double().cpu(), y.amax((0, 2)).double().cpu())
    return found


def _of_heads(rows: Mapping[str, Tensor]) -> Tally:
    """Similarity of all heads of the model whose maps have one shape."""
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


def _of_places(planes: Mapping[str, Tensor]) -> Tally:
    """Rank correlation of every two sites that attend to places."""
    if len(planes) < 2:
        return {}
    stack = torch.stack([on_plane(plane) for plane in planes.values()], 1).cpu()
    full = rank_correlation(stack.flatten(2))
    return {("", Between("agreement", tuple((name, 1) for name in planes))): Moments.of(full)}


def rank_correlation(maps: Tensor) -> Tensor:
    """Spearman's correlation of every two maps of each image: ``(N, S, n)`` to ``(N, S, S)``; NaN for constant ones.

    As :func:`~attnviz.metrics.agreement.spearman` of every pair, but each map is ranked once.
    """
    ranks = torch.from_numpy(rankdata(maps.numpy(), axis=-1))
    centred = ranks - ranks.mean(-1, keepdim=True)
    unit = centred / centred.norm(dim=-1, keepdim=True)
    rho: Tensor = unit @ unit.mT
    return rho.clamp(-1.0, 1.0)

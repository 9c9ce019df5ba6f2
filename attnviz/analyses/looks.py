"""How sparse does ``g`` look? One batch of records becomes a tally; tallies of batches add up to that of a data set.

Nothing of a batch is kept but its tally, whose size does not depend on how many images there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnviz.analyses.agreement import spearman
from attnviz.analyses.concentration import CONCENTRATION, effective_rank, lorenz
from attnviz.analyses.heads import cosine, hsic, jensen_shannon
from attnviz.analyses.rows import competing, heads_of, is_pairwise, on_plane, places, received, sampled
from attnviz.analyses.sparsity import SPARSITY
from attnviz.analyses.streaming import Extremes, Histogram, Moments, Quantiles
from attnviz.analyses.tally import Tally, scalar
from attnviz.capture import Gate
from attnviz.errors import UnknownNameError
from attnviz.records import Kind, Record

RANK = "effective_rank"
DEFAULT_MEASURES = ("gini", "hoyer", "normalised_entropy", "near_zero_share", "top_mass")
CURVE_POINTS = 51
STRENGTHS = torch.linspace(0, 1, 51)
"""Edges of the histogram of strengths, relative to the strongest of those that compete."""

VALUES = 4096
"""So many values of an activation, spread evenly, stand for all of them."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is counted.

    Attributes:
        measures: Names of sparsity and concentration measures, and ``"effective_rank"``, of ``g``.
        activations: Whether also of the activations before and after each site.
        diagnoses: Whether what gates, heads and tokens are diagnosed by is counted.

    Raises:
        UnknownNameError: no such measure.
    """

    measures: tuple[str, ...] = DEFAULT_MEASURES
    activations: bool = False
    diagnoses: bool = True

    def __post_init__(self) -> None:
        for name in self.measures:
            if name not in known_measures():
                raise UnknownNameError("sparsity measure", name, known_measures())


def known_measures() -> tuple[str, ...]:
    """The names of all measures of ``g``."""
    return (*SPARSITY, *CONCENTRATION, RANK)


def look(records: Sequence[Record], images: int, asked: Asked) -> Tally:
    """What one batch shows.

    Args:
        records: Of one forward pass.
        images: How many images the batch had.
        asked: What to count.
    """
    tally: Tally = {}
    for record in records:
        name, groups = record.name, competing(record, images)
        if groups is None:
            continue
        tally.update({(name, what): value for what, value in _of_groups(groups, asked).items()})
        if RANK in asked.measures and is_pairwise(record):
            tally[name, f"g.{RANK}"] = scalar(effective_rank(heads_of(record, images).flatten(1, 2)))
        if asked.activations:
            before = record.x if isinstance(record.x, Tensor) else record.x[-1]
            for part, values in (("before", before), ("after", record.y)):
                tally.update(of_activation(name, part, values, images, asked))
        if asked.diagnoses:
            tally.update({(name, what): value for what, value in _of_units(record, images).items()})
    if asked.diagnoses:
        tally.update(_of_heads(records, images))
        tally.update(_of_places(records, images))
    return tally


def of_activation(name: str, part: str, values: Tensor, images: int, asked: Asked) -> Tally:
    """Measures of an activation ``(N, ...)``, from at most 4,096 values of each image, evenly spread."""
    if not images or values.shape[0] % images:
        return {}
    v = spread(values.detach().reshape(images, -1))
    if v.shape[1] < 2:
        return {}
    flat = {**SPARSITY.entries(), **CONCENTRATION.entries()}
    return {(name, f"{part}.{key}"): scalar(flat[key](v)) for key in asked.measures if key in flat}


def spread(v: Tensor, most: int = VALUES) -> Tensor:
    """At most ``most`` values of each row, by a step that shares no divisor with the row, so that no channel is missed.

    >>> spread(torch.arange(12)[None], 4)
    tensor([[ 0,  5, 10]])
    """
    step = max(1, -(-v.shape[1] // most))
    while math.gcd(step, v.shape[1]) > 1:
        step += 1
    return v[:, ::step]


def _of_groups(groups: Tensor, asked: Asked) -> Mapping[str, Moments | Histogram | Quantiles]:
    """Measures, Lorenz curve and distribution of entries that compete, ``(N, groups, n)``."""
    images, count, n = groups.shape
    if n < 2 or not count:
        return {}
    flat = {**SPARSITY.entries(), **CONCENTRATION.entries()}
    rows = groups.reshape(-1, n)
    found: dict[str, Moments | Histogram | Quantiles] = {}
    for key in asked.measures:
        if key in flat:
            found[f"g.{key}"] = scalar(flat[key](rows).reshape(images, count).nanmean(1))
    found["lorenz"] = Moments.of(lorenz(rows, CURVE_POINTS).reshape(images, count, -1).nanmean(1).cpu())
    strength = rows.abs()
    found["strengths"] = Histogram.of((strength / strength.amax(1, keepdim=True)).cpu(), STRENGTHS)
    found["values"] = Quantiles.of(rows.cpu())
    return found


def _of_units(record: Record, images: int) -> Mapping[str, Moments | Extremes]:
    """What each entry does over images, what each channel carries, what each key receives."""
    found: dict[str, Moments | Extremes] = {}
    if is_pairwise(record):
        found["units"] = Moments.of(sampled(record, images).cpu())
        found["received"] = Moments.of(received(record, images).mean(1).cpu())
        return found
    g = record.g.detach().cpu()
    if g.shape[0] == images:
        found["units"], found["range"] = Moments.of(g), Extremes.of(g)
    use = record.site.use
    if isinstance(use, Gate) and record.site.kind in {Kind.CHANNEL, Kind.DENSE}:
        y = (
            record.y.detach().movedim(use.channel_axis, 1).flatten(2)
            if record.y.ndim > 2
            else record.y.detach()[..., None]
        )
        found["carried"] = Extremes(y.amin((0, 2)).double().cpu(), y.amax((0, 2)).double().cpu())
    return found


def _of_heads(records: Sequence[Record], images: int) -> Tally:
    """Similarity of heads within each site, and of all heads of the model whose maps have one shape."""
    tally: Tally = {}
    shapes: dict[tuple[int, ...], list[tuple[str, Tensor]]] = {}
    for record in records:
        if is_pairwise(record):
            rows = sampled(record, images)
            if rows.shape[1] > 1:
                tally[record.name, "jensen_shannon"] = Moments.of(jensen_shannon(rows).cpu())
                tally[record.name, "hsic"] = Moments.of(hsic(rows).cpu())
            shapes.setdefault(tuple(rows.shape[2:]), []).append((record.name, rows))
    for shape, found in shapes.items():
        # One product tells of every pair, within sites and between them; the names say which row is whose.
        label = "|".join(f"{name}:{rows.shape[1]}" for name, rows in found)
        key = f"cosine {'×'.join(map(str, shape))} {label}"
        tally["", key] = Moments.of(cosine(torch.cat([rows for _, rows in found], 1)).cpu())
    return tally


def _of_places(records: Sequence[Record], images: int) -> Tally:
    """Rank correlation of every two sites that attend to places."""
    maps = {record.name: m for record in records if (m := places(record, images)) is not None and m.shape[0] == images}
    if len(maps) < 2:
        return {}
    stack = torch.stack([on_plane(m) for m in maps.values()], 1).cpu()
    a, b = torch.triu_indices(stack.shape[1], stack.shape[1], 1)
    rho = spearman(stack[:, a].flatten(0, 1), stack[:, b].flatten(0, 1)).reshape(images, -1)
    full = torch.eye(stack.shape[1], dtype=rho.dtype).expand(images, -1, -1).clone()
    full[:, a, b] = full[:, b, a] = rho
    return {("", "agreement " + "|".join(maps)): Moments.of(full)}

"""Compare attention maps with attributions, over several images and models: agreement, faithfulness, localisation."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import torch
from torch.nn import functional as F

from attnviz.analyses.compared_maps import (
    LAST,
    ComparedMap,
    Subject,
    attention_maps,
    attribution_maps,
    baseline_maps,
    predicted_targets,
)
from attnviz.analyses.comparison_summary import caveats_of, summary_of
from attnviz.attribution import METHODS
from attnviz.attribution.registry import counted
from attnviz.core.comparison_results import Comparison, ImageMaps, Metric, Row
from attnviz.core.intervals import mean_interval
from attnviz.errors import DataError
from attnviz.metrics.agreement import AGREEMENT
from attnviz.metrics.agreement_baselines import with_baselines
from attnviz.metrics.faithfulness import FAITHFULNESS
from attnviz.metrics.localisation import LOCALISATION
from attnviz.metrics.perturbation_curves import TargetProbe, deletion_curve, insertion_curve
from attnviz.targets import Request

__all__ = ["METRICS", "Subject", "compare"]

METRICS = ("insertion", "deletion", "average_drop", "comprehensiveness", "sufficiency", "road")
COMPARED_PX = 56
SHOWN_IMAGES = 3
"""Number of images whose maps are shown."""

_ORDER = ("spearman", "pearson", "cosine", "ssim", "topk_iou", "jensen_shannon", "earth_movers", "centre_distance")
Progress: TypeAlias = Callable[[str, int, int], object]


def compare(
    subjects: Mapping[str, Subject],
    images: Sequence[str],
    *,
    methods: Sequence[str],
    metrics: Sequence[str] = METRICS,
    sites: str = LAST,
    target: int | str | Request | None = None,
    seed: int = 0,
    progress: Progress = lambda _step, _done, _total: None,
) -> Comparison:
    """Compute all maps of all models, rate them by metrics, and compare each with each.

    Args:
        subjects: Name of a model -> the model and its images.
        images: Paths of the images.
        methods: Attribution methods; one that does not apply to a model is listed in the caveats.
        metrics: Names in ``FAITHFULNESS``, or in ``LOCALISATION`` with masks.
        sites: Shell pattern of attention sites, or ``"last"``: the last site of each kind that has a map.
        target: The class to explain, or a request; by default what the model predicts for each image.
        seed: Random seed.
        progress: Called with the name of a step, its number and the number of steps.

    Raises:
        UnknownNameError: no such method, metric or site.
        DataError: a metric that needs masks without masks, or no map.
        TargetError: a model has no such target.
    """
    columns = [_metric(name, masks=all(one.masks is not None for one in subjects.values())) for name in metrics]
    for method in methods:
        METHODS[method]
    steps, done = len(subjects) * (2 + len(methods)) + 1, itertools.count()
    notes: list[str] = []
    maps: list[ComparedMap] = []
    rows: list[Row] = []
    targets: dict[str, tuple[str, ...]] = {}
    shares: tuple[float, ...] = ()
    for name, subject in subjects.items():
        explained = predicted_targets(subject, target if isinstance(target, Request) else Request(target))
        targets[name] = tuple(one.name for one in explained)
        progress(f"{name}: attention", next(done), steps)
        own, left_out = attention_maps(name, subject, sites)

        def start(method: str, name: str = name) -> Callable[[int], None]:
            return counted(progress, f"{name}: {method}", next(done), steps)

        attributions, inapplicable = attribution_maps(name, subject, explained, methods, seed, start)
        own += attributions
        notes += [f"Left out of {name}: {reason}." for reason in (*left_out, *inapplicable)]
        progress(f"{name}: metrics", next(done), steps)
        probe = TargetProbe(subject.vision, subject.x, explained)
        for one in [*own, *baseline_maps(name, subject, seed)]:
            row, shares = _rated(one, probe, subject, columns, several=len(subjects) > 1)
            rows.append(row)
        maps += own
    if not maps:
        raise DataError("compare: there is no map to compare; " + " ".join(notes))
    progress("agreement", next(done), steps)
    return _result(subjects, images, targets, columns, rows, shares, maps, seed, notes)


def _result(
    subjects: Mapping[str, Subject],
    images: Sequence[str],
    targets: Mapping[str, tuple[str, ...]],
    columns: Sequence[Metric],
    rows: list[Row],
    shares: tuple[float, ...],
    maps: Sequence[ComparedMap],
    seed: int,
    notes: Sequence[str],
) -> Comparison:
    rows.sort(key=lambda row: row.kind == "baseline")
    agreement, beside = _agreement(maps, seed)
    names = tuple(row.name for row in rows if row.kind != "baseline")
    return Comparison(
        images=tuple(images),
        targets=targets,
        metrics=tuple(columns),
        rows=tuple(rows),
        shares=shares,
        agreement=agreement,
        lower_is_alike=tuple(name for name in agreement if AGREEMENT[name].higher_is == "less alike"),
        beside=beside,
        summary=summary_of(rows, columns, names, agreement["spearman"], beside["spearman"], len(images)),
        caveats=(*caveats_of(rows, columns, len(images)), *notes),
        shown=tuple(_shown(subjects, images, targets, maps)),
    )


def _shown(
    subjects: Mapping[str, Subject],
    images: Sequence[str],
    targets: Mapping[str, Sequence[str]],
    maps: Sequence[ComparedMap],
) -> Iterator[ImageMaps]:
    """The first images with the maps of every model."""
    for number, image in enumerate(images[:SHOWN_IMAGES]):
        for name, subject in subjects.items():
            if subject.pixels is None:
                continue
            own = {
                one.title(several=len(subjects) > 1): one.values[number].float().cpu().numpy()
                for one in maps
                if one.model == name
            }
            yield ImageMaps(image, name, targets[name][number], subject.pixels[number], own)


def _metric(name: str, *, masks: bool) -> Metric:
    if name in LOCALISATION:
        if not masks:
            raise DataError(f"{name} compares maps with the object: give a mask or boxes for each image")
        measure = LOCALISATION[name]
    else:
        measure = FAITHFULNESS[name]
    return Metric(name, measure.higher_is, measure.meaning.means)


def _rated(
    one: ComparedMap, probe: TargetProbe, subject: Subject, columns: Sequence[Metric], *, several: bool
) -> tuple[Row, tuple[float, ...]]:
    """The row of a map, and the shares of pixels at which its curves are evaluated."""
    cells = {}
    for column in columns:
        if column.name in LOCALISATION:
            found = LOCALISATION[column.name](one.values, subject.masks)
        else:
            found = FAITHFULNESS[column.name](probe, one.values)
        cells[column.name] = mean_interval(found.detach().double().cpu().numpy())
    inserted, deleted = insertion_curve(probe, one.values), deletion_curve(probe, one.values)
    row = Row(
        name=one.title(several=several),
        model=one.model,
        kind=one.kind,
        source=one.source,
        cells=cells,
        insertion=tuple(inserted.values.double().mean(dim=0).tolist()),
        deletion=tuple(deleted.values.double().mean(dim=0).tolist()),
    )
    return row, tuple(inserted.shares.tolist())


def _agreement(
    maps: Sequence[ComparedMap], seed: int
) -> tuple[dict[str, tuple[tuple[float, ...], ...]], dict[str, dict[str, float]]]:
    """Every measure of every pair, by strength at a common size, as means over the images; and its baselines."""
    small = [F.adaptive_avg_pool2d(m.values.float().abs().cpu()[:, None], COMPARED_PX)[:, 0] for m in maps]
    pairs = list(itertools.combinations_with_replacement(range(len(maps)), 2))
    left, right = (torch.cat([small[pair[side]] for pair in pairs]) for side in (0, 1))
    distinct = [k for k, (i, j) in enumerate(pairs) if i != j]
    images = len(small[0])
    chosen = torch.tensor(distinct, dtype=torch.int64).repeat_interleave(images) * images
    chosen += torch.arange(images).repeat(len(distinct))
    found: dict[str, tuple[tuple[float, ...], ...]] = {}
    beside: dict[str, dict[str, float]] = {}
    for name in (*_ORDER, *(name for name in AGREEMENT if name not in _ORDER)):
        values = AGREEMENT[name](left, right).reshape(len(pairs), -1).nanmean(dim=1).tolist()
        table = [[float("nan")] * len(maps) for _ in maps]
        for (i, j), value in zip(pairs, values, strict=True):
            table[i][j] = table[j][i] = value
        found[name] = tuple(tuple(row) for row in table)
        beside[name] = {}
        if distinct and name != "earth_movers":  # whose baselines would take minutes
            numbers = with_baselines(name, left[chosen], right[chosen], draws=2, seed=seed)
            beside[name] = {key: float(value.nanmean()) for key, value in numbers.items()}
    return found, beside

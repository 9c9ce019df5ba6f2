"""Which maps agree, and which of them to believe: attention beside attributions, over several images and models."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.analyses.comparison_summary import caveats_of, summary_of
from attnviz.attribution import METHODS
from attnviz.attribution.registry import counted
from attnviz.core.comparison_results import Comparison, Metric, Row, Shown
from attnviz.core.intervals import mean_interval
from attnviz.errors import AttributionError, CaptureError, DataError, TargetError
from attnviz.heatmaps import combined_heatmaps, project
from attnviz.metrics.agreement import AGREEMENT
from attnviz.metrics.agreement_baselines import centre_prior, with_baselines
from attnviz.metrics.faithfulness import FAITHFULNESS
from attnviz.metrics.localisation import LOCALISATION
from attnviz.metrics.perturbation_curves import ClassProbe, deletion_curve, insertion_curve
from attnviz.recording import capture
from attnviz.tracing import find_attention

if TYPE_CHECKING:
    from attnviz.models import VisionModel

METRICS = ("insertion", "deletion", "average_drop", "comprehensiveness", "sufficiency", "road")
COMPARED_PX = 56
SHOWN_IMAGES = 3
"""Of so many images the maps are shown."""
SHOWN_AGREEMENT = ("spearman", "pearson", "cosine", "ssim", "topk_iou", "jensen_shannon", "earth_movers",
                   "centre_distance")  # fmt: skip
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One model's view of the images.

    Attributes:
        vision: The model.
        x: Images, preprocessed for it, ``(N, 3, H, W)``.
        masks: ``(N, H, W)`` bool, cropped as the images; ``None`` where there are none.
        pixels: The images as pictures, ``(N, H, W, 3)`` uint8 RGB; without them no picture is kept to be looked at.
    """

    vision: VisionModel
    x: Tensor
    masks: Tensor | None = None
    pixels: np.ndarray[Any, np.dtype[np.uint8]] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Map:
    name: str
    model: str
    kind: str
    source: str
    values: Tensor

    def title(self, *, several: bool) -> str:
        """What its row is called, one of several models' or not."""
        return f"{self.model}: {self.name}" if several else self.name


def compare(
    subjects: Mapping[str, Subject],
    images: Sequence[str],
    *,
    methods: Sequence[str],
    metrics: Sequence[str] = METRICS,
    sites: str = "last",
    target: int | str | None = None,
    seed: int = 0,
    progress: Progress = lambda _step, _done, _total: None,
) -> Comparison:
    """Make every map of every model, rate it by every metric, and compare each with each.

    Args:
        subjects: By the model's name.
        images: Their paths.
        methods: Attribution methods; one that does not apply to a model is left out, and that is told.
        metrics: Names in ``FAITHFULNESS``, or ``LOCALISATION`` where there are masks.
        sites: A shell pattern of attention sites, or ``"last"``: the last site of each kind that has a map.
        target: The class to ask about; by default each model's own answer to each image.
        seed: Of everything random.
        progress: Called with a step's name, its number and the number of steps.

    Raises:
        UnknownNameError: no such method or metric.
        DataError: a metric that needs masks without masks, or no map that could be compared.
        TargetError: no such class.
    """
    columns = [_metric(name, masks=all(s.masks is not None for s in subjects.values())) for name in metrics]
    for method in methods:
        METHODS[method]
    steps, done = len(subjects) * (2 + len(methods)) + 1, itertools.count()
    several, notes = len(subjects) > 1, list[str]()
    maps: list[_Map] = []
    rows: list[Row] = []
    targets: dict[str, tuple[str, ...]] = {}
    shares: tuple[float, ...] = ()
    for name, subject in subjects.items():
        classes = _classes(subject, target)
        labels = subject.vision.labels
        targets[name] = tuple(labels[c] if c < len(labels) else f"class {c}" for c in classes.tolist())
        progress(f"{name}: attention", next(done), steps)
        own, left_out = _attention(name, subject, sites)
        for method in methods:
            passes = counted(progress, f"{name}: {method}", next(done), steps)
            try:
                heatmap = METHODS[method](subject.vision, subject.x, classes, seed=seed, progress=passes)
            except AttributionError as error:
                left_out.append(str(error))
                continue
            own.append(_Map(method, name, "attribution", heatmap.source, heatmap.values.detach()))
        notes += [f"Left out of {name}: {reason}." for reason in left_out]
        progress(f"{name}: metrics", next(done), steps)
        probe = ClassProbe(subject.vision, subject.x, classes)
        for one in [*own, *_baselines(name, subject, seed)]:
            row, shares = _rated(one, probe, subject, columns, several=several)
            rows.append(row)
            if one.kind != "baseline":
                maps.append(one)
    if not maps:
        raise DataError("compare: there is no map to compare; " + " ".join(notes))
    progress("agreement", next(done), steps)
    rows.sort(key=lambda row: row.kind == "baseline")
    agreement, beside = _agreement(maps, seed)
    names = tuple(row.name for row in rows if row.kind != "baseline")
    alike = tuple(measure for measure in agreement if AGREEMENT[measure].higher_is == "less alike")
    return Comparison(
        images=tuple(images),
        targets=targets,
        metrics=tuple(columns),
        rows=tuple(rows),
        shares=shares,
        agreement=agreement,
        lower_is_alike=alike,
        beside=beside,
        summary=summary_of(rows, columns, names, agreement["spearman"], beside["spearman"], len(images)),
        caveats=(*caveats_of(rows, columns, len(images)), *notes),
        shown=tuple(_shown(subjects, images, targets, maps)),
    )


def _shown(
    subjects: Mapping[str, Subject], images: Sequence[str], targets: Mapping[str, Sequence[str]], maps: Sequence[_Map]
) -> Iterator[Shown]:
    """The first images, as each model saw them, with its maps."""
    for number, image in enumerate(images[:SHOWN_IMAGES]):
        for name, subject in subjects.items():
            if subject.pixels is None:
                continue
            own = {
                one.title(several=len(subjects) > 1): one.values[number].detach().float().cpu().numpy()
                for one in maps
                if one.model == name
            }
            yield Shown(image, name, targets[name][number], subject.pixels[number], own)


def _metric(name: str, *, masks: bool) -> Metric:
    if name in LOCALISATION:
        if not masks:
            raise DataError(f"{name} compares maps with the object: give --mask for each image")
        measure = LOCALISATION[name]
    else:
        measure = FAITHFULNESS[name]
    return Metric(name, measure.higher_is, measure.summary)


@torch.no_grad()
def _classes(subject: Subject, target: int | str | None) -> Tensor:
    vision = subject.vision
    if target is not None:
        chosen = int(target) if str(target).isdecimal() else vision.class_index(str(target))
        return torch.full((len(subject.x),), chosen)
    output = vision.module(subject.x)
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise TargetError(f"{vision.name} gives no logits (N, classes): name a class by --target")
    return logits.argmax(dim=1).cpu()


@torch.no_grad()
def _attention(name: str, subject: Subject, sites: str) -> tuple[list[_Map], list[str]]:
    """The maps of attention sites, and why a site has none."""
    module, x, size = subject.vision.module, subject.x, (subject.x.shape[2], subject.x.shape[3])
    found = find_attention(module, x)
    wanted = found if sites == "last" else [site for site in found if site.matches(sites)]
    with capture(module, wanted) as captured:
        module(x)
    maps: dict[str, _Map] = {}
    without = []
    for record in captured.records:
        try:
            values = project(record, size=size).values.float()
        except CaptureError as error:
            without.append(str(error))
            continue
        key = record.site.kind.value if sites == "last" else record.name
        maps[key] = _Map(record.name, name, "attention", record.name, values.to(x.dtype))
    joined = [
        _Map(one.source, name, "attention", one.source, one.values.to(x.dtype))
        for one in combined_heatmaps(captured.records, size)
    ]
    reasons = [] if sites == "last" and maps else without[:3]
    return [*maps.values(), *joined], reasons


def _baselines(name: str, subject: Subject, seed: int) -> list[_Map]:
    """What knows nothing: the middle of the picture, and smooth noise."""
    x = subject.x
    size = (x.shape[2], x.shape[3])
    middle = centre_prior(size).to(x).expand(len(x), -1, -1)
    noise = torch.rand(len(x), 1, 7, 7, generator=torch.Generator().manual_seed(seed)).to(x)
    smooth = F.interpolate(noise, size, mode="bilinear", align_corners=False)[:, 0]
    return [_Map("the middle", name, "baseline", "", middle), _Map("chance", name, "baseline", "", smooth)]


def _rated(
    one: _Map, probe: ClassProbe, subject: Subject, columns: Sequence[Metric], *, several: bool
) -> tuple[Row, tuple[float, ...]]:
    values = one.values.to(subject.x.dtype)
    cells = {}
    for column in columns:
        if column.name in LOCALISATION:
            found = LOCALISATION[column.name](values, subject.masks)
        else:
            found = FAITHFULNESS[column.name](probe, values)
        cells[column.name] = mean_interval(found.detach().double().cpu().numpy())
    inserted, deleted = insertion_curve(probe, values), deletion_curve(probe, values)
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
    maps: Sequence[_Map], seed: int
) -> tuple[dict[str, tuple[tuple[float, ...], ...]], dict[str, dict[str, float]]]:
    """Every measure of every pair, by strength at a common size, as means over the images; and what it is beside."""
    small = [F.adaptive_avg_pool2d(m.values.detach().float().abs().cpu()[:, None], COMPARED_PX)[:, 0] for m in maps]
    pairs = list(itertools.combinations_with_replacement(range(len(maps)), 2))
    found, beside = {}, {}
    left = torch.cat([small[i] for i, _ in pairs])
    right = torch.cat([small[j] for _, j in pairs])
    for name in SHOWN_AGREEMENT:
        values = AGREEMENT[name](left, right).reshape(len(pairs), -1).nanmean(dim=1).tolist()
        table = [[float("nan")] * len(maps) for _ in maps]
        for (i, j), value in zip(pairs, values, strict=True):
            table[i][j] = table[j][i] = value
        found[name] = tuple(tuple(row) for row in table)
        if len(maps) > 1 and name != "earth_movers":
            apart = [k for k, (i, j) in enumerate(pairs) if i != j]
            several = torch.tensor(apart).repeat_interleave(len(small[0])) * len(small[0])
            several += torch.arange(len(small[0])).repeat(len(apart))
            numbers = with_baselines(name, left[several], right[several], draws=2, seed=seed)
            beside[name] = {key: float(value.nanmean()) for key, value in numbers.items()}
        else:
            beside[name] = {}
    return found, beside

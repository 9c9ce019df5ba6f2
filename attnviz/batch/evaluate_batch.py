"""The results of one model for one batch: predictions, maps and all measures."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from attnviz.analyses.attention_rows import groups_of
from attnviz.analyses.model_run import run_model
from attnviz.analyses.sparsity_collector import default_measures
from attnviz.attribution import METHODS
from attnviz.batch.prepared_model import PreparedModel
from attnviz.core.explanation_results import Prediction
from attnviz.core.glossary import Meaning, define
from attnviz.core.model_outputs import rows_of, select
from attnviz.core.records import Record
from attnviz.explanation.scores import shrunk
from attnviz.heatmaps import combined_heatmaps, project
from attnviz.metrics.agreement import AGREEMENT, agreement_of_pairs
from attnviz.metrics.faithfulness import FAITHFULNESS
from attnviz.metrics.localisation import LOCALISATION
from attnviz.metrics.pairwise_agreement import pairs_of
from attnviz.metrics.perturbation_curves import TargetProbe
from attnviz.metrics.registry import Measure
from attnviz.metrics.sorted_maps import SortedMaps
from attnviz.metrics.sparsity import SPARSITY
from attnviz.targets import Request, Target, Task
from attnviz.targets.classes import scores_of
from attnviz.targets.task import targets_of

define(
    "measure",
    "margin",
    Meaning(
        "Margin",
        "Probability of the most probable class minus that of the second.",
        "That the prediction is right: a model can be confident and wrong.",
    ),
)
define(
    "measure",
    "entropy",
    Meaning(
        "Entropy of the prediction",
        "How evenly the probability is spread over all classes: 0 for one class, 1 for a uniform distribution.",
        "How often the model is right: probabilities need not be calibrated.",
    ),
)

_WITH_PROBABILITIES = frozenset({"classification", "zero-shot"})
_ZERO = "every value is zero, or one is not finite"


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """One map of every image of a batch.

    Attributes:
        name: Name, unique for a model.
        kind: ``"attention"`` or ``"attribution"``.
        method: Projection or attribution method.
        source: Site or layer, or ``"input"``.
        values: ``(N, H, W)`` at the size of the images; NaN for an image without a map.
        missing: Index in the batch -> reason why the image has no map.
    """

    name: str
    kind: str
    method: str
    source: str
    values: Tensor
    missing: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class MeasureColumn:
    """One measure of every image of a batch.

    Attributes:
        kind: ``"attention"``, ``"attribution"``, ``"site"``, ``"pair"`` or ``"answer"``.
        subject: Name of the map or site; empty for the prediction.
        other: Second map of a pair, ``"g"`` for a site; otherwise empty.
        measure: Name of the measure.
        values: ``(N,)`` float64.
        why: Reason of a NaN.
        whys: Index in the batch -> reason of a NaN of a single image.
        there: ``(N,)`` bool: images that have the measure; ``None`` for all.
    """

    kind: str
    subject: str
    other: str
    measure: str
    values: Tensor
    why: str
    whys: dict[int, str] = field(default_factory=dict)
    there: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class BatchResult:
    """The results of one model for one batch.

    Attributes:
        predictions: What the model predicts for each image, best first.
        explained: The target of each image with its measured number, NaN for an output that is not finite.
        maps: Maps of at most 56 pixels a side, on the CPU.
        numbers: All measures.
    """

    predictions: tuple[tuple[Prediction, ...], ...]
    explained: tuple[Prediction, ...]
    maps: tuple[Map, ...]
    numbers: tuple[MeasureColumn, ...]


def evaluate_batch(
    prepared: PreparedModel,
    x: Tensor,
    masks: Tensor | None = None,
    has_mask: Tensor | None = None,
    requests: Sequence[Request] | None = None,
) -> BatchResult:
    """Compute the results of a batch of images.

    Args:
        prepared: The model.
        x: Images ``(N, 3, S, S)`` on the device of the model.
        masks: Object masks ``(N, S, S)`` bool.
        has_mask: ``(N,)`` bool: images that have a mask.
        requests: What is explained of each image; by default the request of the run.

    Raises:
        TargetError: an image without the requested target.
    """
    of_sites: list[MeasureColumn] = []
    # All records would not fit in memory: they are measured while the model runs, and only mapped ones are kept.
    run = run_model(
        prepared.vision.module,
        x.contiguous(memory_format=torch.channels_last),
        prepared.mapped_sites,
        keep="rows",
        observed=prepared.sites,
        on_record=lambda record: of_sites.extend(_of_site(record, len(x))),
    )
    vision = prepared.vision
    output = select(run.output, vision.output)
    size = (x.shape[2], x.shape[3])
    answers = targets_of(prepared.task, requests or [prepared.request] * len(x), output, vision.labels, size)
    targets = [target for target, _ in answers]
    explained = tuple(_explained(target, rows_of(output, slice(n, n + 1))) for n, target in enumerate(targets))
    maps, numbers = _attention(prepared, run.records, x), [*_of_answers(prepared.task, output), *of_sites]
    del run, output
    maps += [_attribution(prepared, name, x, targets) for name in prepared.planned.methods]
    strength = [shrunk(one.values.abs()).cpu() for one in maps]
    numbers += _of_maps(prepared, maps, strength, x, targets, masks, has_mask)
    numbers += _of_pairs(maps, strength)
    small = tuple(replace(one, values=shrunk(one.values).cpu()) for one in maps)
    return BatchResult(tuple(found for _, found in answers), explained, small, tuple(numbers))


def _attention(prepared: PreparedModel, records: Sequence[Record], x: Tensor) -> list[Map]:
    """The maps of the sites that are shown, and those of several sites together."""
    size = (x.shape[2], x.shape[3])
    shown = [record for record in records if record.name in prepared.mapped]
    found = [(record.name, project(record, size=size)) for record in shown]
    found += [(one.name, one) for one in combined_heatmaps(shown, size)]
    return [Map(name, "attention", one.method, name, one.values.to(x.dtype)) for name, one in found]


def _attribution(prepared: PreparedModel, name: str, x: Tensor, targets: Sequence[Target]) -> Map:
    """Return the map of a method for every image; if one image of the batch fails, each is computed on its own."""

    def run(images: Tensor, wanted: Sequence[Target]) -> tuple[Tensor, str]:
        heatmap = METHODS[name](
            prepared.vision, images, wanted, seed=prepared.options.seed, **prepared.method_options.get(name, {})
        )
        return heatmap.values.detach(), heatmap.source

    missing: dict[int, str] = {}
    source = ""
    try:
        values, source = run(x, targets)
    except Exception:  # noqa: BLE001  # stored as the reason of this image
        parts = []
        for n in range(len(x)):
            try:
                part, source = run(x[n : n + 1], targets[n : n + 1])
            except Exception as error:  # noqa: BLE001
                missing[n] = f"{name}: {' '.join(str(error).removeprefix(f'{name}: ').split())}"
                part = torch.full_like(x[:1, 0], math.nan)
            parts.append(part)
        values = torch.cat(parts)
    return Map(name, "attribution", name, source, values, missing)


def _explained(target: Target, output: Any) -> Prediction:
    """The target of one image with its measured number."""
    score = float(target.measured(output).detach().float())
    return Prediction(getattr(target, "index", None), target.name, score, target.measured_unit)


def _of_answers(task: Task, output: Any) -> list[MeasureColumn]:
    """Yield the margin of the prediction, and the entropy of all probabilities relative to its maximum, for classes."""
    if task.name not in _WITH_PROBABILITIES:
        return []
    p = scores_of(output).float().softmax(1).cpu().double()
    best = p.topk(min(2, p.shape[1]), dim=1).values
    lead = best[:, 0] - best[:, 1] if p.shape[1] > 1 else best[:, 0]
    entropy = torch.special.entr(p).sum(1) / math.log(max(2, p.shape[1]))
    return [
        MeasureColumn("answer", "", "", "margin", lead, "the output is not finite"),
        MeasureColumn("answer", "", "", "entropy", entropy.clamp(0, 1), "the output is not finite"),
    ]


def _of_site(record: Record, images: int) -> Iterator[MeasureColumn]:
    """How sparse ``g`` is, over the entries that compete; as ``attnviz sparsity`` measures it."""
    groups = groups_of(record, images)
    if groups is None or groups.shape[0] != images or groups.shape[2] < 2 or not groups.shape[1]:
        return
    maps = SortedMaps(groups.reshape(-1, groups.shape[2]))
    for name in default_measures():
        values = SPARSITY[name].of_sorted(maps).reshape(images, -1).nanmean(1).cpu()
        yield MeasureColumn("site", record.name, "g", name, values, _ZERO)


def _of_maps(
    prepared: PreparedModel,
    maps: Sequence[Map],
    strength: Sequence[Tensor],
    x: Tensor,
    targets: Sequence[Target],
    masks: Tensor | None,
    has_mask: Tensor | None,
) -> list[MeasureColumn]:
    """Yield the sparsity, faithfulness and localisation of each map."""
    probe = TargetProbe(prepared.vision, x, targets) if prepared.options.metrics else None
    numbers = []

    def add(one: Map, measure: Measure, values: Tensor, there: Tensor | None = None) -> None:
        values = values.detach().double().cpu()
        values = values.index_fill(0, torch.tensor(sorted(one.missing), dtype=torch.int64), math.nan)
        column = (one.kind, one.name, "", measure.name, values, measure.nan_when, one.missing, there)
        numbers.append(MeasureColumn(*column))

    for one, weak in zip(maps, strength, strict=True):
        rows = weak.flatten(1)
        if rows.shape[1] > 1:
            add(one, SPARSITY["gini"], SPARSITY["gini"](rows))
        for name in prepared.options.metrics if probe is not None else ():
            add(one, FAITHFULNESS[name], FAITHFULNESS[name](probe, one.values))
        if masks is not None and has_mask is not None:
            for measure in LOCALISATION.entries().values():
                add(one, measure, measure(one.values, masks), has_mask)
    return numbers


def _of_pairs(maps: Sequence[Map], strength: Sequence[Tensor]) -> list[MeasureColumn]:
    """How alike every two maps are, by strength, as ``attnviz explain`` measures it."""
    if len(maps) < 2:
        return []
    found, pairs = agreement_of_pairs(torch.stack(list(strength), dim=1)), pairs_of(len(maps))
    return [
        MeasureColumn(
            "pair", one.name, other.name, name, values[:, column], AGREEMENT[name].nan_when, other.missing | one.missing
        )
        for column, (one, other) in enumerate((maps[i], maps[j]) for i, j in pairs)
        for name, values in found.items()
    ]

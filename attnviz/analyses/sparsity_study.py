"""A study of sparsity: one model over any number of images, batch by batch, in bounded memory; it can be resumed."""

import hashlib
import json
import pickle
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from attnviz.analyses.ablation import replace
from attnviz.analyses.accumulators import Tally, added, restored, scalar, stored
from attnviz.analyses.nonlinearities import Nonlinearities
from attnviz.analyses.pruning import SHARES, Read, check_shares, holding, log_probabilities, measured_scores, prune
from attnviz.analyses.sparsity_collector import MeasureSelection, SparsityCollector, of_activation
from attnviz.analyses.sparsity_summary import found
from attnviz.core.model_outputs import select
from attnviz.core.model_state import as_inference
from attnviz.core.records import Kind, Record, Site
from attnviz.core.sparsity_results import ModelFinding
from attnviz.edits import Mean
from attnviz.errors import NoAttentionError
from attnviz.metrics.attention_sinks import blocks_of, high_norm, norms_of_blocks
from attnviz.models import VisionModel, find_task
from attnviz.recording import capture
from attnviz.targets import Request
from attnviz.targets.task import targets_of
from attnviz.tracing import Sites, find_attention

Batch = Callable[[], Tensor]
"""Loads a batch ``(N, 3, H, W)`` when it is needed."""

Progress = Callable[[str, int, int], object]
"""Called with the name of a step, the number of finished parts and their total."""


Reader: TypeAlias = Callable[[Any, int], Read]
"""From the plain output for a batch and its size to what is read of the outputs of the edited model."""


@dataclass(frozen=True, slots=True)
class StudyConfig:
    """Options of a study.

    Attributes:
        selection: Measures of ``g`` and of activations.
        sites: Shell patterns of names, modules or kinds of sites, comma-separated.
        causal: Whether ``g`` is also pruned and replaced, which takes many forward passes.
        shares: Shares of ``g`` to keep, increasing from 0 to 1.
        seed: Random seed.
    """

    selection: MeasureSelection = field(default_factory=MeasureSelection)
    sites: str = "*"
    causal: bool = False
    shares: tuple[float, ...] = SHARES
    seed: int = 0

    def __post_init__(self) -> None:
        check_shares(self.shares)


@dataclass(slots=True)
class _State:
    """The state of a study, as stored in its file."""

    observed: int = 0
    pruned: int = 0
    images: int = 0
    tally: Tally = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


def study(
    model: nn.Module,
    batches: Sequence[Batch],
    config: StudyConfig,
    name: str = "model",
    keep: Path | None = None,
    key: str = "",
    progress: Progress = lambda *_: None,
    reader: Reader = lambda _output, _images: log_probabilities,
) -> ModelFinding:
    """Measure the sparsity of the attention of a model and, optionally, the effect of pruning and replacing it.

    Memory use does not depend on the number of images.

    Args:
        model: Any model of images; it is not changed.
        batches: The images, 2 or more per batch, so that each has another image.
        config: Options of the study.
        name: Name of the model, for the report.
        keep: File of intermediate results, updated after each batch: a later run with the same options, ``key`` and
            number of batches continues from it. It is deleted at the end.
        key: Identity of the weights and the images.
        progress: Progress callback.
        reader: From the plain output for a batch and its size to what interventions are measured by; log-probabilities
            of classes by default, see :func:`reader_of`.

    Raises:
        NoAttentionError: the model has no attention, or none that matches the pattern.
        CaptureError: parts of the model cannot be traced.
    """
    if not batches:
        raise ValueError("study: wanted at least one batch, got none")
    progress("find attention", 0, 1)
    first = batches[0]()
    # Two images are enough; with one, the axes of images and of windows or heads could be confused.
    sites, notes = chosen(find_attention(model, first[:2]), config.sites)
    mark = _mark(config, name, key, sites, len(batches))
    state = _load(keep, mark)
    for index in range(state.observed, len(batches)):
        progress("measure", index, len(batches))
        _measure(model, sites, first if index == 0 else batches[index](), config, state)
        state.observed = index + 1
        _save(keep, mark, state)
    if config.causal:
        mean = Mean({site: total / state.counts[site] for site, total in state.sums.items()})
        parts = len(batches) * 2 * (len(sites) + (len(sites) > 1))
        done = parts * state.pruned // len(batches)
        for index in range(state.pruned, len(batches)):

            def advance(_: str) -> None:
                nonlocal done
                progress("intervene", done, parts)
                done += 1

            _intervene(model, sites, batches[index](), mean, config, state, advance, reader)
            state.pruned = index + 1
            _save(keep, mark, state)
    if keep is not None:
        keep.unlink(missing_ok=True)
    by_name = {site.name: site for site in sites}
    names = [(record, by_name[record.partition("@")[0]]) for record in state.names]
    return found(name, state.images, names, state.tally, config.shares, notes)


def reader_of(vision: VisionModel, request: Request, x: Tensor) -> Reader:
    """What interventions in a model are measured by: its classes, or the target of each image.

    Args:
        vision: The model.
        request: What is explained; without a target, what the model predicts.
        x: An input ``(1, C, H, W)``, with which the task is found.
    """
    task = vision.task or find_task(vision.module, x, labels=vision.labels, output=vision.output)
    if task.name in {"classification", "zero-shot"} and request.target is None and request.contrast is None:
        return lambda _output, _images: lambda output: log_probabilities(select(output, vision.output))

    def reader(output: Any, images: int) -> Read:
        found = select(output, vision.output)
        targets = [one for one, _ in targets_of(task, [request] * images, found, vision.labels, x.shape[2:])]
        measure = measured_scores(targets)
        return lambda output: measure(select(output, vision.output))

    return reader


def chosen(sites: Sites, patterns: str) -> tuple[list[Site], list[str]]:
    """Return the matching sites, and notes about the others.

    Raises:
        NoAttentionError: no site matches.
    """
    if not sites:
        raise NoAttentionError("the model has no attention")
    fitting = [site for site in sites if any(site.matches(one.strip()) for one in patterns.split(","))]
    if not fitting:
        known = ", ".join(site.name for site in sites)
        raise NoAttentionError(f"no attention site matches {patterns!r}; the sites are {known}")
    notes = []
    moved = [site.name for site in fitting if site.kind is Kind.SAMPLING]
    if moved:
        notes.append(f"Sampling points are positions, not weights, and have no sparsity: {', '.join(moved)}.")
    if sites.unclaimed:
        notes.append(f"{len(sites.unclaimed)} operations look like attention and were not captured.")
    return fitting, notes


def _measure(model: nn.Module, sites: Sequence[Site], x: Tensor, config: StudyConfig, state: _State) -> None:
    """Run one batch and add its measurements."""
    selection, n = config.selection, len(x)
    seen: Tally = {}
    collector = SparsityCollector(n, selection)

    def each(record: Record) -> None:
        collector(record)
        if config.causal:
            site, g = record.site.name, record.g.detach()
            total = g.double().sum(0, keepdim=True)
            state.sums[site] = state.sums[site] + total if site in state.sums else total
            state.counts[site] = state.counts.get(site, 0) + g.shape[0]

    blocks = blocks_of(model, sites)
    with ExitStack() as undo:
        undo.enter_context(as_inference(model))
        undo.enter_context(capture(model, sites, keep="rows", each=each))
        norms = undo.enter_context(norms_of_blocks(model, blocks.values()))
        if selection.activations:
            see = Nonlinearities(lambda label, part, v: seen.update(of_activation(label, part, v, n, selection)))
            undo.enter_context(see)
        model(x)
    for path, values in norms.items():
        if len(values) == n:
            seen[path, "outliers"] = scalar(high_norm(values).float().mean(1))
    seen.update(collector.tally())
    state.names = state.names or collector.names
    state.tally = added(state.tally, seen)
    state.images += n


def _intervene(
    model: nn.Module,
    sites: Sequence[Site],
    x: Tensor,
    mean: Mean,
    config: StudyConfig,
    state: _State,
    advance: Callable[[str], object],
    reader: Reader,
) -> None:
    with as_inference(model), capture(model, sites) as captured:
        read = reader(model(x), len(x))
    looks: dict[str, Tensor] = {}
    for record in captured.records:
        if record.site.kind is not Kind.SAMPLING:
            looks.setdefault(record.site.name, holding(record.g).reshape(len(x), -1).mean(1))
    seed = config.seed * 1_000_003 + state.pruned
    state.tally = added(state.tally, prune(model, sites, x, looks, config.shares, seed, advance, read))
    state.tally = added(state.tally, replace(model, sites, x, mean, advance, read))


def _mark(config: StudyConfig, name: str, key: str, sites: Sequence[Site], batches: int) -> str:
    """Return the identity of a study."""
    text = json.dumps([repr(config), name, key, [site.name for site in sites], batches])
    return hashlib.sha256(text.encode()).hexdigest()


def _save(keep: Path | None, mark: str, state: _State) -> None:
    if keep is None:
        return
    keep.parent.mkdir(parents=True, exist_ok=True)
    partial = keep.with_name(f"{keep.name}.part")
    plain: dict[str, Any] = {field: getattr(state, field) for field in state.__slots__}
    torch.save({"mark": mark, **plain, "tally": stored(state.tally)}, partial)
    partial.replace(keep)


def _load(keep: Path | None, mark: str) -> _State:
    """Return the state of an earlier run with the same identity, or an empty one."""
    if keep is None or not keep.is_file():
        return _State()
    try:
        content = torch.load(keep, weights_only=True)
        if content.pop("mark") != mark:
            return _State()
        return _State(**{**content, "tally": restored(content["tally"])})
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError):
        return _State()  # a damaged file is computed again

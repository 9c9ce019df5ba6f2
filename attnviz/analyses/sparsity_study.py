"""A study of sparsity: one model over any number of images, batch by batch, in bounded memory; it can be resumed."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.analyses.ablation import replace
from attnviz.analyses.accumulators import Tally, added, restored, scalar, stored
from attnviz.analyses.nonlinearities import Nonlinearities
from attnviz.analyses.pruning import SHARES, check_shares, holding, prune
from attnviz.analyses.sparsity_collector import MeasureSelection, SparsityCollector, of_activation
from attnviz.analyses.sparsity_summary import found
from attnviz.core.model_state import as_inference
from attnviz.core.records import Kind, Record, Site
from attnviz.core.sparsity_results import ModelFinding
from attnviz.edits import Mean
from attnviz.errors import NoAttentionError
from attnviz.metrics.attention_sinks import blocks_of, high_norm, norms_of_blocks
from attnviz.recording import capture
from attnviz.tracing import Sites, find_attention

Batch = Callable[[], Tensor]
"""Loads a batch ``(N, 3, H, W)`` when it is its turn."""

Progress = Callable[[str, int, int], object]
"""Told the name of a part, how much of it is done, of how much."""


@dataclass(frozen=True, slots=True)
class StudyConfig:
    """What is asked of a model.

    Attributes:
        selection: What is counted of ``g`` as it is.
        sites: Shell pattern of the sites' names, modules or kinds; several with commas.
        causal: Whether ``g`` is also pruned and replaced, which takes many forward passes.
        shares: What is kept when it is pruned, rising from 0 to 1.
        seed: Of the random choice.
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
    """How far a study is; what a file of it holds."""

    looked: int = 0
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
) -> ModelFinding:
    """Ask one model how sparse it looks and, if asked, how much of that it needs.

    Memory holds one batch and the tally, whatever the number of images.

    Args:
        model: Maps ``(N, 3, H, W)`` to logits; it is left as it was found.
        batches: The images. Give all batches 2 images or more, so that each has another.
        config: What is asked.
        name: Of the model, for the report.
        keep: A file that holds what was done so far, after each batch; a later run with the same question, ``key`` and
            number of batches goes on from there. It is removed at the end.
        key: What else the result depends on: the model's weights, the images.
        progress: Told the progress.

    Raises:
        NoAttentionError: the model has no attention, or none that fits the pattern.
        CaptureError: the model holds parts whose operations cannot be seen.
    """
    if not batches:
        raise ValueError("study: wanted at least one batch, got none")
    progress("find attention", 0, 1)
    first = batches[0]()
    # Two images tell as much as a whole batch, and one alone could not be told from windows or heads.
    sites, notes = chosen(find_attention(model, first[:2]), config.sites)
    mark = _mark(config, name, key, sites, len(batches))
    state = _load(keep, mark)
    for index in range(state.looked, len(batches)):
        progress("look", index, len(batches))
        _look(model, sites, first if index == 0 else batches[index](), config, state)
        state.looked = index + 1
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

            _intervene(model, sites, batches[index](), mean, config, state, advance)
            state.pruned = index + 1
            _save(keep, mark, state)
    if keep is not None:
        keep.unlink(missing_ok=True)
    by_name = {site.name: site for site in sites}
    names = [(record, by_name[record.partition("@")[0]]) for record in state.names]
    return found(name, state.images, names, state.tally, config.shares, notes)


def chosen(sites: Sites, patterns: str) -> tuple[list[Site], list[str]]:
    """The sites that fit, and what the reader must know of the others.

    Raises:
        NoAttentionError: none fits.
    """
    if not sites:
        raise NoAttentionError("the model has no attention that could be sparse")
    fitting = [site for site in sites if any(site.matches(one.strip()) for one in patterns.split(","))]
    if not fitting:
        known = ", ".join(site.name for site in sites)
        raise NoAttentionError(f"no attention site fits {patterns!r}: there are {known}")
    notes = []
    moved = [site.name for site in fitting if site.kind is Kind.SAMPLING]
    if moved:
        notes.append(f"Sampling points are places and no weights, and have no sparsity: {', '.join(moved)}.")
    if sites.unclaimed:
        notes.append(f"{len(sites.unclaimed)} operations look like attention and were not captured.")
    return fitting, notes


def _look(model: nn.Module, sites: Sequence[Site], x: Tensor, config: StudyConfig, state: _State) -> None:
    """One forward pass, and what it shows."""
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
) -> None:
    with as_inference(model), capture(model, sites) as captured:
        model(x)
    looks: dict[str, Tensor] = {}
    for record in captured.records:
        if record.site.kind is not Kind.SAMPLING:
            looks.setdefault(record.site.name, holding(record.g).reshape(len(x), -1).mean(1))
    seed = config.seed * 1_000_003 + state.pruned
    state.tally = added(state.tally, prune(model, sites, x, looks, config.shares, seed, advance))
    state.tally = added(state.tally, replace(model, sites, x, mean, advance))


def _mark(config: StudyConfig, name: str, key: str, sites: Sequence[Site], batches: int) -> str:
    """What a file of a study must have been made for."""
    text = json.dumps([repr(config), name, key, [site.name for site in sites], batches])
    return hashlib.sha256(text.encode()).hexdigest()


def _save(keep: Path | None, mark: str, state: _State) -> None:
    if keep is None:
        return
    keep.parent.mkdir(parents=True, exist_ok=True)
    beside = keep.with_name(f"{keep.name}.part")
    plain: dict[str, Any] = {field: getattr(state, field) for field in state.__slots__}
    torch.save({"mark": mark, **plain, "tally": stored(state.tally)}, beside)
    beside.replace(keep)


def _load(keep: Path | None, mark: str) -> _State:
    """What an earlier run left; a fresh state where there is none, or it was made for something else."""
    if keep is None or not keep.is_file():
        return _State()
    try:
        content = torch.load(keep, weights_only=True)
        if content.pop("mark") != mark:
            return _State()
        return _State(**{**content, "tally": restored(content["tally"])})
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError):
        return _State()  # damaged: what it held is computed again

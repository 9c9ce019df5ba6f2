"""A whole run: data, training, weights, evaluation, and the card that the run writes itself."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from safetensors.torch import save_file

from attnviz.errors import OutputError
from attnviz.media.atomic_files import write_atomically, write_json
from attnviz.models.builtin import attend, read_shipped
from attnviz.models.mechanism import MODELS
from attnviz.models.trunk import pretrained_trunk
from attnviz.models.weights_file import read_weights
from attnviz.training.card import card_text
from attnviz.training.evaluation import Evaluation, evaluate
from attnviz.training.features import DataRecipe, prepare
from attnviz.training.sources import Sources, split
from attnviz.training.trainer import Trainer, TrainRecipe

_CHOICE_VIEWS = 384  # training views on which the site is chosen whose map points
Progress = Callable[[str, int, int], None]
"""Told how far a part of the run is: its name, how much is done, of how much."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a run does.

    Attributes:
        model: Name of a built-in model.
        data: Which views to train on.
        training: How.
        held_out_views: How many views the evaluation uses.
        out: Folder for ``weights/NAME.safetensors``, ``cards/NAME.json`` and ``cards/NAME.md``.
        cache: Folder for features and checkpoints.
        command: The command that repeats the run.
        version: Of attnviz.
    """

    model: str
    data: DataRecipe
    training: TrainRecipe
    held_out_views: int
    out: Path
    cache: Path
    command: str
    version: str

    @property
    def outputs(self) -> tuple[Path, Path, Path]:
        """Weights, card as JSON, card as text."""
        cards = self.out / "cards"
        return (
            self.out / "weights" / f"{self.model}.safetensors",
            cards / f"{self.model}.json",
            cards / f"{self.model}.md",
        )


def train(plan: TrainingPlan, sources: Sources, progress: Progress) -> Evaluation:
    """Train a model, evaluate it on held-out views, write its weights and its card.

    The control ``none`` has nothing to train: it is evaluated, and has a card.

    Raises:
        UnknownNameError: no such model.
        DataError: too little data.
        OutputError: the results cannot be written.
    """
    weights_path, facts_path, text_path = plan.outputs
    weights: dict[str, torch.Tensor] = {}
    if MODELS[plan.model].attends:
        weights = _learn(plan, sources, progress)
    choice = replace(plan.data, views=_CHOICE_VIEWS, plain_share=0.5, patches=0)
    chosen = measure({plan.model: weights}, sources, choice, progress, fully=False)
    held_out = replace(plan.data, views=plan.held_out_views, plain_share=0.5, held_out=True, patches=0)
    (measured,) = measure({plan.model: weights}, sources, held_out, progress, {plan.model: chosen[0].map_of})
    if weights:
        _write(weights_path, lambda path: save_file(weights, path))
    facts = {"model": plan.model, "figures": measured.as_dict(), "made": made(plan, sources)}
    _write(facts_path, lambda path: write_json(path, facts))
    _write(text_path, lambda path: path.write_text(card_text(facts), encoding="utf-8"))
    return measured


def _learn(plan: TrainingPlan, sources: Sources, progress: Progress) -> dict[str, torch.Tensor]:
    features = prepare(
        plan.data,
        sources,
        pretrained_trunk(),
        MODELS[plan.model].first_stage,
        plan.cache / "features",
        lambda done, total: progress("features", done, total),
    )
    trainer = Trainer(plan.model, plan.training, features, plan.cache / "checkpoints" / f"{plan.model}.pt")
    trainer.run(lambda step, steps, _: progress("training", step, steps))
    return {name: tensor.contiguous().clone() for name, tensor in trainer.attended.state().items()}


def measure(
    weights: Mapping[str, Mapping[str, torch.Tensor] | Path | None],
    sources: Sources,
    views: DataRecipe,
    progress: Progress,
    map_of: Mapping[str, str] | None = None,
    *,
    fully: bool = True,
) -> list[Evaluation]:
    """Evaluate models on the same views.

    Args:
        weights: By model name: the attention's tensors, a file of them, or ``None`` for the shipped ones.
        sources: What views are made of, before the split.
        views: Which views; with the seed of training, what was held out then is held out now.
        progress: Told of the progress.
        map_of: By model name, the map that points; see :func:`~attnviz.training.evaluation.evaluate`.
        fully: See there.
    """
    models = {}
    for name, given in weights.items():
        attended = attend(name, pretrained_trunk())
        if attended.attention:
            if isinstance(given, Mapping):
                attended.load(dict(given), name)
            else:
                attended.load(read_weights(given) if given else read_shipped(name), given or name)
        models[name] = attended
    done = 0
    part = "evaluation" if views.held_out else "choosing"

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(part, done, views.views)

    return evaluate(models, pretrained_trunk(), views.make(sources), advance, map_of, fully=fully)


def made(plan: TrainingPlan, sources: Sources) -> dict[str, Any]:
    """How a model came about: enough to make it again."""
    counts = {}
    for which, held_out in (("trained_on", False), ("held_out", True)):
        part = split(sources, plan.data.seed, held_out=held_out)
        counts[which] = {"objects": len(part.objects), "photographs": len(part.photographs)}
    return {
        "command": plan.command,
        "data": {**asdict(plan.data), **counts},
        "training": asdict(plan.training),
        "held_out_views": plan.held_out_views,
        "versions": {"attnviz": plan.version, **versions()},
    }


def versions() -> dict[str, str]:
    """Of everything that the figures may depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }


def refuse_to_overwrite(paths: Sequence[Path]) -> None:
    """Stop before hours of work whose result has no place.

    Raises:
        OutputError: one of the files exists.
    """
    for path in paths:
        if path.exists():
            raise OutputError(f"{path} exists: give another --out, or --overwrite")


def _write(path: Path, write: Callable[[Path], object]) -> None:
    try:
        write_atomically(path, write)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error

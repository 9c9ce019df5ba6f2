"""A complete training run of a built-in model: data, training, weights, evaluation and model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from attnviz.media.atomic_files import write_atomically, write_json
from attnviz.models.builtin import attend
from attnviz.models.mechanism import MODELS
from attnviz.models.trunk import pretrained_trunk
from attnviz.training.evaluation import Evaluation, evaluate_models
from attnviz.training.features import DataRecipe, Progress
from attnviz.training.sources import Sources, split
from attnviz.training.trainer import Trainer, TrainRecipe, versions
from builtin_training.cached_features import prepare
from builtin_training.card import card_text

_CHOICE_VIEWS = 384  # training views, at most, on which the map that is scored is chosen


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Parameters of a run.

    Attributes:
        model: Name of a built-in model.
        data: Recipe of the training views.
        training: Hyperparameters.
        held_out_views: Number of views of the evaluation.
        out: Folder of the outputs.
        cache: Folder of features and checkpoints.
        command: Command that repeats the run.
    """

    model: str
    data: DataRecipe
    training: TrainRecipe
    held_out_views: int
    out: Path
    cache: Path
    command: str

    @property
    def outputs(self) -> tuple[str, str, str]:
        """Paths below ``out``: weights, card as JSON, card as Markdown."""
        return f"weights/{self.model}.safetensors", f"cards/{self.model}.json", f"cards/{self.model}.md"


def train(plan: TrainingPlan, sources: Sources, progress: Progress) -> Evaluation:
    """Train a model, evaluate it on held-out views, and write its weights and its card.

    A model without parameters, such as the control ``none``, is only evaluated.

    Raises:
        UnknownNameError: no such model.
        DataError: too little data.
        OutputError: the results cannot be written.
    """
    weights = _learn(plan, sources, progress)
    choice = replace(plan.data, views=min(_CHOICE_VIEWS, plan.data.views), plain_share=0.5, patches=0)
    chosen = evaluate_models({plan.model: weights}, sources, choice, progress, full=False)
    held_out = replace(plan.data, views=plan.held_out_views, plain_share=0.5, held_out=True, patches=0)
    map_of = {plan.model: chosen[0].map_of}
    (result,) = evaluate_models({plan.model: weights}, sources, held_out, progress, map_of)
    weights_path, json_path, markdown_path = (plan.out / name for name in plan.outputs)
    if weights:
        write_atomically(weights_path, lambda path: save_file(weights, path))
    facts = {"model": plan.model, "figures": result.as_dict(), "made": provenance(plan, sources)}
    write_json(json_path, facts)
    write_atomically(markdown_path, lambda path: path.write_text(card_text(facts), encoding="utf-8"))
    return result


def _learn(plan: TrainingPlan, sources: Sources, progress: Progress) -> dict[str, Tensor]:
    """The trained tensors of the attention; the initial ones where it has no parameters."""
    attended = attend(plan.model, pretrained_trunk(), plan.training.seed)
    if attended.parameters():
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
        attended = trainer.attended
    return {name: tensor.contiguous().clone() for name, tensor in attended.state().items()}


def provenance(plan: TrainingPlan, sources: Sources) -> Mapping[str, Any]:
    """Return how the model was made: command, data, hyperparameters and versions."""
    counts = {}
    for which, held_out in (("trained_on", False), ("held_out", True)):
        part = split(sources, plan.data.seed, held_out=held_out)
        counts[which] = {"objects": len(part.objects), "photographs": len(part.photographs)}
    return {
        "command": plan.command,
        "data": {**asdict(plan.data), **counts},
        "training": asdict(plan.training),
        "held_out_views": plan.held_out_views,
        "versions": versions(),
    }

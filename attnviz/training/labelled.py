"""Train a mechanism and a classifier on labelled images, and compare them with the control."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from attnviz.core.intervals import Interval, mean_interval
from attnviz.core.json_encoding import to_plain
from attnviz.errors import DataError
from attnviz.media.atomic_files import write_atomically, write_json
from attnviz.models.builtin import PREPROCESS, Attended
from attnviz.models.mechanism import MODELS
from attnviz.models.trunk import EfficientNetLite0, fold_norms, pretrained_trunk
from attnviz.models.weights_file import LABELS
from attnviz.training.features import BATCH, Progress
from attnviz.training.labelled_images import Labelled, label_features
from attnviz.training.trainer import Trainer, TrainRecipe

CONTROL = "none"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracy of a model on held-out images.

    Attributes:
        model: Name of the model.
        parameters: Number of trained parameters.
        top1: Share of images whose best class is the label.
        top5: Share of images whose label is among the five best classes.
        gain: ``top1`` minus that of the control, which trains only a classifier; paired image by image.
    """

    model: str
    parameters: int
    top1: Interval
    top5: Interval
    gain: Interval | None = None


def train_labelled(
    name: str,
    data: Labelled,
    views: int,
    recipe: TrainRecipe,
    out: Path,
    cache: Path,
    made: Mapping[str, Any],
    progress: Progress,
) -> list[Accuracy]:
    """Train a model's attention and a new classifier, and the control; return the accuracies, the control's first.

    ``weights/NAME.safetensors`` in ``out`` holds the names of the classes, so that the file is all that ``--weights
    FILE`` needs; ``cards/NAME.json`` holds the figures and how the model was ``made``. Checkpoints are in ``cache``.

    Raises:
        DataError: a model of clips; too few images, or none that can be decoded.
        OutputError: the results cannot be written.
    """
    if MODELS[name].frames is not None:
        raise DataError(f"{name} is a model of clips: a folder of labelled images cannot train it")
    trunk = pretrained_trunk()
    fold_norms(trunk)
    trunk.to(memory_format=torch.channels_last)
    training, held_out = (data.part(recipe.seed, held_out=which) for which in (False, True))
    trained = {
        one: _train(one, training, views, recipe, trunk, cache, progress) for one in dict.fromkeys((CONTROL, name))
    }
    accuracies = classify(trained, held_out, lambda done, total: progress("evaluation", done, total))
    weights = {key: tensor.contiguous().clone() for key, tensor in trained[name].state().items()}
    metadata = {LABELS: json.dumps(data.classes)}
    write_atomically(out / "weights" / f"{name}.safetensors", lambda path: save_file(weights, path, metadata=metadata))
    facts = {"model": name, "classes": data.classes, "figures": to_plain(accuracies), "made": dict(made)}
    write_json(out / "cards" / f"{name}.json", facts)
    return accuracies


def _train(
    name: str,
    data: Labelled,
    views: int,
    recipe: TrainRecipe,
    trunk: EfficientNetLite0,
    cache: Path,
    progress: Progress,
) -> Attended:
    stage = MODELS[name].first_stage
    features = label_features(
        data, views, recipe.seed, trunk, stage, lambda done, total: progress("features", done, total)
    )
    trainer = Trainer(name, recipe, features, cache / "checkpoints" / f"{name}-labelled.pt", len(data.classes))
    trainer.run(lambda step, steps, _: progress("training", step, steps))
    return trainer.attended


@torch.no_grad()
def classify(models: Mapping[str, Attended], data: Labelled, progress: Callable[[int, int], None]) -> list[Accuracy]:
    """Measure the accuracy of models on the same images, preprocessed as by ``attnviz explain``.

    Raises:
        DataError: no image can be decoded.
    """
    hits: dict[str, list[Tensor]] = {name: [] for name in models}
    files: list[str] = []
    total = len(data.files)
    for start in range(0, total, BATCH):
        end = min(start + BATCH, total)
        batch = list(data.read(range(start, end)))
        if batch:
            x = torch.stack([PREPROCESS(pixels) for _, pixels in batch])
            labels = torch.tensor([data.labels[index] for index, _ in batch])
            files += [data.files[index] for index, _ in batch]
            for name, model in models.items():
                best = model.network.eval()(x).topk(min(5, len(data.classes))).indices
                hits[name].append(best == labels[:, None])
        progress(end, total)
    if not files:
        raise DataError(f"{data.folder}: none of the {total} held-out images can be decoded")
    correct = {name: torch.cat(parts).double().numpy() for name, parts in hits.items()}
    return [_accuracy(name, model, correct, np.array(files)) for name, model in models.items()]


def _accuracy(
    name: str, model: Attended, correct: Mapping[str, np.ndarray[Any, Any]], files: np.ndarray[Any, Any]
) -> Accuracy:
    """The accuracies from the hits ``(N, 5)`` of each model's best classes, best first."""
    has_gain = name != CONTROL and CONTROL in correct
    return Accuracy(
        name,
        sum(parameter.numel() for parameter in model.parameters()),
        mean_interval(correct[name][:, 0], files),
        mean_interval(correct[name].sum(1), files),
        mean_interval(correct[name][:, 0] - correct[CONTROL][:, 0], files) if has_gain else None,
    )

"""Train on a folder of one's own, a subfolder for each class: attention and a classifier, by the labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from attnviz.core.intervals import Figure, resampled
from attnviz.errors import DataError, ImageError
from attnviz.media.atomic_files import write_atomically, write_json
from attnviz.media.image_decoding import decode
from attnviz.models.builtin import PREPROCESS, Attended
from attnviz.models.mechanism import MODELS
from attnviz.models.trunk import EfficientNetLite0, fold_norms, pretrained_trunk
from attnviz.models.weights_file import LABELS
from attnviz.training.features import BATCH, Features, Progress
from attnviz.training.scenes import as_input, random_crop
from attnviz.training.sources import Pixels, is_held_out
from attnviz.training.trainer import Trainer, TrainRecipe

CONTROL = "none"
_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
_SMOOTH = 0.1  # probability that the wanted answer leaves to the other classes


@dataclass(frozen=True, slots=True)
class Labelled:
    """Photographs with their classes, from a folder with a subfolder for each class.

    Attributes:
        folder: Where they are.
        classes: Names of the subfolders, sorted.
        files: Each photograph's path below ``folder``, sorted.
        labels: The class of each.
    """

    folder: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: tuple[int, ...]

    def part(self, seed: int, *, held_out: bool) -> Labelled:
        """Those to train on, or those held out: a fifth, chosen by a hash of each path and the seed.

        Raises:
            DataError: none would be held out, or a class would have none to train on.
        """
        chosen = [
            (file, label) for file, label in zip(self.files, self.labels, strict=True)
            if is_held_out(file, seed) == held_out
        ]  # fmt: skip
        empty = set(range(len(self.classes))) - {label for _, label in chosen}
        if not chosen or (empty and not held_out):
            which = f"class {self.classes[min(empty)]!r}" if chosen else "every class"
            raise DataError(f"{self.folder}: too few photographs of {which} to hold some out: add more")
        return replace(self, files=tuple(file for file, _ in chosen), labels=tuple(label for _, label in chosen))


def find_labelled(folder: Path) -> Labelled:
    """The photographs of a class-folder tree, as torchvision's ``ImageFolder`` reads it.

    Raises:
        DataError: fewer than two classes, or a class without photographs.
    """
    classes = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    if len(classes) < 2:
        raise DataError(f"{folder}: wanted a subfolder of photographs for each of two classes or more")
    found = [
        (path.relative_to(folder).as_posix(), label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in _ENDINGS and path.is_file()
    ]
    empty = set(range(len(classes))) - {label for _, label in found}
    if empty:
        raise DataError(f"{folder / classes[min(empty)]}: no photographs in it")
    return Labelled(folder, classes, tuple(file for file, _ in found), tuple(label for _, label in found))


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How a model classifies photographs that it was not trained on.

    Attributes:
        model: Its name.
        parameters: How many were trained.
        top1: Share of photographs whose best class is right.
        top5: Share of them whose class is among the five best.
        gain: The share of right answers less that of the control, which has a classifier alone.
    """

    model: str
    parameters: int
    top1: Figure
    top5: Figure
    gain: Figure | None = None


def train_labelled(
    name: str,
    data: Labelled,
    views: int,
    recipe: TrainRecipe,
    out: Path,
    cache: Path,
    made: Mapping[str, Any],
    progress: Callable[[str, int, int], None],
) -> list[Accuracy]:
    """Train a model's attention and a classifier of its own, and the control beside it; write weights and figures.

    The weights hold the names of the classes, so that ``--weights FILE`` is all that is needed to use them.

    Args:
        name: A built-in model of single images.
        data: All photographs.
        views: How many crops to train on.
        recipe: How.
        out: Folder for ``weights/NAME.safetensors`` and ``cards/NAME.json``.
        cache: Folder for checkpoints.
        made: How, for the card.
        progress: Told how far each part is.

    Returns:
        The control first.

    Raises:
        DataError: a model of clips; or too few photographs, or none that can be read.
    """
    if MODELS[name].frames is not None:
        raise DataError(f"{name} looks at clips; a folder of labelled photographs cannot train it")
    trunk = pretrained_trunk()
    fold_norms(trunk)
    trunk.to(memory_format=torch.channels_last)
    learned, held_out = (data.part(recipe.seed, held_out=which) for which in (False, True))
    trained: dict[str, Attended] = {}
    for one in dict.fromkeys((CONTROL, name)):
        features = label_features(
            learned,
            views,
            recipe.seed,
            trunk,
            MODELS[one].first_stage,
            lambda done, all_: progress("features", done, all_),
        )
        trainer = Trainer(one, recipe, features, cache / "checkpoints" / f"{one}-labelled.pt", len(data.classes))
        trainer.run(lambda step, steps, _: progress("training", step, steps))
        trained[one] = trainer.attended
    measured = classify(trained, held_out, lambda done, all_: progress("evaluation", done, all_))
    weights = {key: tensor.contiguous().clone() for key, tensor in trained[name].state().items()}
    metadata = {LABELS: json.dumps(data.classes)}
    write_atomically(out / "weights" / f"{name}.safetensors", lambda path: save_file(weights, path, metadata=metadata))
    facts = {"model": name, "classes": data.classes, "figures": [asdict(one) for one in measured], "made": dict(made)}
    write_json(out / "cards" / f"{name}.json", facts)
    return measured


@torch.no_grad()
def label_features(
    data: Labelled, views: int, seed: int, trunk: EfficientNetLite0, stage: int, progress: Progress
) -> Features:
    """What a model is trained on: random crops, perhaps mirrored, and their classes.

    Args:
        data: Photographs to train on; what cannot be read is left out.
        views: How many crops; each photograph is used about equally often.
        seed: Of the crops.
        trunk: The frozen trunk.
        stage: The features are what ``trunk.before(x, stage)`` gives.
        progress: Told how many views are done, of how many.

    Raises:
        DataError: no photograph can be read.
    """
    crops, found, labels = _crops(data, seed), [], []
    for start in range(0, views, BATCH):
        batch = list(islice(crops, min(BATCH, views - start)))
        found.append(trunk.before(as_input(np.stack([crop for _, crop in batch])), stage).half().numpy())
        labels += [data.labels[index] for index, _ in batch]
        progress(len(labels), views)
    key = json.dumps([*data.files, *data.classes, views, seed, stage])
    return Features(
        np.concatenate(found),
        wanted_answers(torch.tensor(labels), len(data.classes)).half().numpy(),
        np.ones(views, np.bool_),
        hashlib.sha256(key.encode()).hexdigest()[:12],
    )


def wanted_answers(labels: Tensor, classes: int) -> Tensor:
    """Log-probabilities ``(M, K)`` that leave a tenth to the other classes: label smoothing.

    Source: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7.

    >>> wanted_answers(torch.tensor([1]), 3).exp()
    tensor([[0.0500, 0.9000, 0.0500]])
    """
    hot = F.one_hot(labels, classes).float()
    return (hot * (1 - _SMOOTH) + (1 - hot) * _SMOOTH / (classes - 1)).log()


@torch.no_grad()
def classify(models: Mapping[str, Attended], data: Labelled, progress: Progress) -> list[Accuracy]:
    """How right each model is on the same photographs, each cropped as ``attnviz explain`` crops it.

    Raises:
        DataError: no photograph can be read.
    """
    hits: dict[str, list[Tensor]] = {name: [] for name in models}
    files: list[str] = []
    kept = list(range(len(data.files)))
    for start in range(0, len(kept), BATCH):
        batch = list(_pictures(data, kept[start : start + BATCH]))
        if batch:
            x = torch.stack([PREPROCESS(pixels) for _, pixels in batch])
            labels = torch.tensor([data.labels[index] for index, _ in batch])
            files += [data.files[index] for index, _ in batch]
            for name, model in models.items():
                best = model.network.eval()(x).topk(min(5, len(data.classes))).indices
                hits[name].append(best == labels[:, None])
        progress(min(start + BATCH, len(kept)), len(kept))
    if not files:
        raise DataError(f"{data.folder}: none of the {len(kept)} photographs that were held out can be read")
    subjects = np.array(files)
    right = {name: torch.cat(parts).double().numpy() for name, parts in hits.items()}
    return [
        Accuracy(
            name,
            sum(parameter.numel() for parameter in model.parameters()),
            resampled(right[name][:, 0], subjects),
            resampled(right[name].sum(1), subjects),
            None if name == CONTROL or CONTROL not in right
            else resampled(right[name][:, 0] - right[CONTROL][:, 0], subjects),
        )
        for name, model in models.items()
    ]  # fmt: skip


def _crops(data: Labelled, seed: int) -> Iterator[tuple[int, Pixels]]:
    """Crops without end, each with its photograph's place in ``data``; the order is shuffled anew in each round."""
    for turn in count():
        random = np.random.default_rng((seed, 5, turn))
        found = False
        for index, pixels in _pictures(data, random.permutation(len(data.files)).tolist()):
            found = True
            yield index, random_crop(pixels, random)
        if not found:
            raise DataError(f"{data.folder}: none of {len(data.files)} photographs can be read")


def _pictures(data: Labelled, which: Iterable[int]) -> Iterator[tuple[int, Pixels]]:
    """The photographs that can be read, each with its place in ``data``."""
    for index in which:
        try:
            yield index, decode(data.folder / data.files[index]).pixels
        except ImageError:
            continue

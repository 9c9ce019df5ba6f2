"""Images with class labels, from a folder with one subfolder per class, and their features for training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.errors import DataError, ImageError
from attnviz.media.channels import with_channel_count
from attnviz.media.image_decoding import decode
from attnviz.media.image_listing import IMAGE_ENDINGS
from attnviz.models.trunk import EfficientNetLite0
from attnviz.training.features import BATCH, Features
from attnviz.training.scenes import as_input, random_crop
from attnviz.training.sources import Pixels, is_held_out

_SMOOTHING = 0.1  # target probability of all wrong classes together


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images and their classes.

    Attributes:
        folder: Root folder, with one subfolder per class.
        classes: Names of the subfolders, sorted.
        files: Paths of the images below ``folder``, sorted by class and path.
        labels: Class index of each image.
    """

    folder: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: tuple[int, ...]

    def part(self, seed: int, *, held_out: bool) -> Labelled:
        """Return the training part or the held-out part: a fifth, chosen by a hash of path and seed.

        Raises:
            DataError: the held-out part would be empty, or the training part would lack a class.
        """
        chosen = [
            (file, label) for file, label in zip(self.files, self.labels, strict=True)
            if is_held_out(file, seed) == held_out
        ]  # fmt: skip
        empty = set(range(len(self.classes))) - {label for _, label in chosen}
        if not chosen or (empty and not held_out):
            which = f"class {self.classes[min(empty)]!r}" if chosen else "every class"
            raise DataError(f"{self.folder}: too few images of {which} to hold some out: add more")
        return replace(self, files=tuple(file for file, _ in chosen), labels=tuple(label for _, label in chosen))

    def read(self, indices: Iterable[int]) -> Iterator[tuple[int, Pixels]]:
        """Yield the index and the pixels of each of these images; images that cannot be decoded are skipped."""
        for index in indices:
            try:
                yield index, with_channel_count(decode(self.folder / self.files[index]).pixels, 3)
            except ImageError:
                continue


def find_labelled(folder: Path) -> Labelled:
    """List the images of a folder with one subfolder per class, as torchvision's ``ImageFolder`` does.

    Raises:
        DataError: fewer than two classes, or a class without images.
    """
    classes = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    if len(classes) < 2:
        raise DataError(f"{folder}: wanted one subfolder of images per class, for two classes or more")
    found = [
        (path.relative_to(folder).as_posix(), label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in IMAGE_ENDINGS and path.is_file()
    ]
    empty = set(range(len(classes))) - {label for _, label in found}
    if empty:
        raise DataError(f"{folder / classes[min(empty)]}: no images")
    return Labelled(folder, classes, tuple(file for file, _ in found), tuple(label for _, label in found))


@torch.no_grad()
def label_features(
    data: Labelled, views: int, seed: int, trunk: EfficientNetLite0, stage: int, progress: Callable[[int, int], None]
) -> Features:
    """Compute the trunk features, ``trunk.before(x, stage)``, and the targets of random crops.

    Each image is used about equally often; those that cannot be decoded are skipped.

    Raises:
        DataError: no image can be decoded.
    """
    crops, features, labels = _crops(data, seed), [], []
    for start in range(0, views, BATCH):
        batch = list(islice(crops, min(BATCH, views - start)))
        features.append(trunk.before(as_input(np.stack([crop for _, crop in batch])), stage).half().numpy())
        labels += [data.labels[index] for index, _ in batch]
        progress(len(labels), views)
    key = json.dumps([*data.files, *data.classes, views, seed, stage])
    return Features(
        np.concatenate(features),
        smoothed_targets(torch.tensor(labels), len(data.classes)).half().numpy(),
        np.ones(views, np.bool_),
        hashlib.sha256(key.encode()).hexdigest()[:12],
    )


def smoothed_targets(labels: Tensor, classes: int) -> Tensor:
    """Return target log-probabilities ``(M, K)`` with label smoothing: 0.9 for the label, 0.1 for the other classes.

    Source: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7.

    >>> smoothed_targets(torch.tensor([1]), 3).exp()
    tensor([[0.0500, 0.9000, 0.0500]])
    """
    hot = F.one_hot(labels, classes).float()
    return (hot * (1 - _SMOOTHING) + (1 - hot) * _SMOOTHING / (classes - 1)).log()


def _crops(data: Labelled, seed: int) -> Iterator[tuple[int, Pixels]]:
    """An endless sequence of random crops with the index of their image: all images in a random order, repeatedly."""
    for epoch in count():
        random = np.random.default_rng((seed, 5, epoch))
        is_empty = True
        for index, pixels in data.read(random.permutation(len(data.files)).tolist()):
            is_empty = False
            yield index, random_crop(pixels, random)
        if is_empty:
            raise DataError(f"{data.folder}: none of {len(data.files)} images can be decoded")

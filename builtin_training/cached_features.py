"""Trunk features and teacher predictions of the training views: computed once, kept on disk, resumable."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnviz.media.atomic_files import write_json
from attnviz.models.trunk import CLASSES, INPUT_SIZE_PX, EfficientNetLite0, fold_norms
from attnviz.training.features import BATCH, DataRecipe, Features, Teacher, chunks
from attnviz.training.scenes import View, as_input
from attnviz.training.sources import Source, Sources, split
from builtin_training.cutout_patches import cut_patches

Progress = Callable[[int, int], None]


def prepare(
    recipe: DataRecipe,
    sources: Sources,
    trunk: EfficientNetLite0,
    stage: int,
    cache: Path,
    progress: Progress,
    chunk: int = BATCH,
) -> Features:
    """Return the features of a recipe, ``trunk.before(x, stage)``, from ``cache`` if an earlier run computed them.

    An interrupted computation continues at the chunk, of ``chunk`` images, where it stopped. The cache has about 46 kB
    per view. ``progress`` is called with the number of finished views and the number of all views.
    """
    key = _key(recipe, sources, stage)
    folder = cache / f"{'held-out' if recipe.held_out else 'train'}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        shape = tuple(trunk.before(torch.zeros(1, 3, INPUT_SIZE_PX, INPUT_SIZE_PX), stage).shape[1:])
    total, shape = recipe.views, shape if recipe.frames is None else (recipe.frames, *shape)
    features = Features(
        _array(folder / "features.npy", (total, *shape), np.float16),
        _array(folder / "answers.npy", (total, CLASSES), np.float16),
        _array(folder / "scene.npy", (total,), np.bool_),
        key,
    )
    state = folder / "done.json"
    done = json.loads(state.read_text())["views"] if state.is_file() else 0
    progress(done, total)
    if done < total:
        for finished in _fill(features, recipe, sources, trunk, stage, done, chunk):
            write_json(state, {"views": finished})
            progress(finished, total)
    return features


@torch.no_grad()
def _fill(
    features: Features, recipe: DataRecipe, sources: Sources, trunk: EfficientNetLite0, stage: int, done: int, size: int
) -> Iterator[int]:
    """Compute the features from view ``done`` on; yield the number of finished views after each chunk."""
    trunk = copy.deepcopy(trunk)
    fold_norms(trunk)
    trunk.to(memory_format=torch.channels_last)
    teacher = Teacher(trunk)
    patches: Sequence[Source] = ()
    if recipe.patches:
        photographs = split(sources, recipe.seed, held_out=recipe.held_out).photographs
        patches = cut_patches(photographs, trunk, recipe.patches, recipe.seed)
    for chunk in chunks(recipe.make(sources, done, patches), size):
        start, done = done, done + len(chunk)
        computed, targets = _compute(chunk, trunk, teacher, stage)
        features.features[start:done] = computed.reshape(features.features[start:done].shape).numpy()
        features.targets[start:done] = targets.numpy()
        features.scene[start:done] = [view.kind == "scene" for view in chunk]
        for array in (features.features, features.targets, features.scene):
            if isinstance(array, np.memmap):
                array.flush()
        yield done


def _compute(chunk: Sequence[View], trunk: EfficientNetLite0, teacher: Teacher, stage: int) -> tuple[Tensor, Tensor]:
    """Features ``(n, T, C, H, W)``, ``T`` = 1 for single images, and target log-probabilities ``(n, 1000)``."""
    x = as_input(np.stack([view.pixels for view in chunk]))
    features = trunk.before(x.flatten(0, -4), stage).unflatten(0, (len(chunk), -1))
    of_plain = _trunk_predictions(trunk, features[[view.kind == "plain" for view in chunk]], stage)
    return features, torch.stack([teacher(view) if view.kind == "scene" else next(of_plain) for view in chunk])


def _trunk_predictions(trunk: EfficientNetLite0, features: Tensor, stage: int) -> Iterator[Tensor]:
    """The trunk's log-probabilities for views ``(n, T, C, H, W)``; of a clip, from its mean pooled features."""
    if len(features) == 0:
        return iter(())
    pooled = trunk.pooled(features.flatten(0, 1), stage).unflatten(0, features.shape[:2])
    logits: Tensor = trunk.classifier(pooled.mean(1))
    return iter(logits.log_softmax(1))


def _key(recipe: DataRecipe, sources: Sources, stage: int) -> str:
    names = [source.name for source in (*sources.objects, *sources.photographs)]
    text = json.dumps([asdict(recipe), stage, names])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _array(path: Path, shape: tuple[int, ...], dtype: type) -> Any:
    mode = "r+" if path.is_file() else "w+"
    return np.lib.format.open_memmap(path, mode=mode, dtype=dtype, shape=None if mode == "r+" else shape)

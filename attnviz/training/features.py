"""Everything about the views that does not change while a mechanism is trained: computed once, kept on disk."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnviz.media.atomic_files import write_json
from attnviz.models.trunk import CLASSES, INPUT_SIZE_PX, EfficientNetLite0, fold_norms
from attnviz.training.cutout_patches import cut_patches
from attnviz.training.scenes import View, alone, as_input, make_views
from attnviz.training.sources import Source, Sources, split

BATCH = 64
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """Which views are made.

    Attributes:
        views: How many, scenes and plain photographs together.
        plain_share: Share of plain photographs among them.
        seed: Of the split, and of every random choice in a view.
        held_out: Whether the views show held-out objects and photographs.
        frames: Frames of each view, a clip; ``None`` for single images.
        patches: At most how many parts of each photograph serve as objects too, in every other scene.
    """

    views: int
    plain_share: float = 0.5
    seed: int = 0
    held_out: bool = False
    frames: int | None = None
    patches: int = 0

    def kinds(self) -> list[str]:
        """What each view is, in a seeded order."""
        plain = np.random.default_rng((self.seed, 7)).random(self.views) < self.plain_share
        return ["plain" if is_plain else "scene" for is_plain in plain]

    def make(self, sources: Sources, start: int = 0, patches: Sequence[Source] = ()) -> Iterator[View]:
        """The views from the ``start``-th on; held-out ones share no object, photograph or seed with the others."""
        chosen = replace(split(sources, self.seed, held_out=self.held_out), patches=tuple(patches))
        return make_views(chosen, self.kinds(), 2 * self.seed + self.held_out, start, self.frames)


class Teacher:
    """The trunk, looking at each object alone: its answer is the mean probability over three sizes on grey."""

    def __init__(self, trunk: EfficientNetLite0) -> None:
        self._trunk = trunk
        self._answers: dict[tuple[str, bool], Tensor] = {}

    @torch.no_grad()
    def __call__(self, view: View) -> Tensor:
        """Log-probabilities ``(1000,)`` for a scene; the same object is looked at once for each side.

        Raises:
            ValueError: a plain photograph, whose teacher is the trunk on the photograph itself.
        """
        if view.cut is None:
            raise ValueError(f"{view.subject}: a plain photograph shows no object alone")
        key = (view.subject, view.mirrored)
        if key not in self._answers:
            probabilities: Tensor = self._trunk(as_input(alone(view.cut))).softmax(1)
            self._answers[key] = probabilities.mean(0).log()
        return self._answers[key]


@dataclass(frozen=True, slots=True)
class Features:
    """The trunk's features of many views, before the first attention site, and the answers wanted.

    Attributes:
        features: ``(M, C, H, W)`` float16, what ``trunk.before`` gives; of clips ``(M, T, …)``.
        answers: ``(M, 1000)`` float16, the teacher's log-probabilities.
        scene: ``(M,)`` bool, a scene or a plain photograph.
        key: What they were made of and how, in a few letters: other views have another.
    """

    features: np.ndarray[Any, np.dtype[np.float16]]
    answers: np.ndarray[Any, np.dtype[np.float16]]
    scene: np.ndarray[Any, np.dtype[np.bool_]]
    key: str = ""

    def __len__(self) -> int:
        return len(self.scene)


def chunks(views: Iterator[View], size: int = BATCH) -> Iterator[list[View]]:
    """The views in lists of ``size`` pictures, each frame of a clip being one; the last may be shorter."""
    chunk: list[View] = []
    for view in views:
        chunk.append(view)
        frames = len(view.pixels) if view.pixels.ndim == 4 else 1
        if len(chunk) * frames >= size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def prepare(
    recipe: DataRecipe, sources: Sources, trunk: EfficientNetLite0, stage: int, cache: Path, progress: Progress
) -> Features:
    """The features of a recipe, from ``cache`` where an earlier run left them; an interrupted run is taken up again.

    Args:
        recipe: Which views.
        sources: What they are made of, before the split.
        trunk: The frozen trunk.
        stage: The features are what ``trunk.before(x, stage)`` gives.
        cache: Folder that keeps them, about 46 kB a view.
        progress: Told how many views are done, of how many.
    """
    key = _key(recipe, sources, stage)
    folder = cache / f"{'held-out' if recipe.held_out else 'train'}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        shape = tuple(trunk.before(torch.zeros(1, 3, INPUT_SIZE_PX, INPUT_SIZE_PX), stage).shape[1:])
    total, shape = recipe.views, shape if recipe.frames is None else (recipe.frames, *shape)
    found = Features(
        _array(folder / "features.npy", (total, *shape), np.float16),
        _array(folder / "answers.npy", (total, CLASSES), np.float16),
        _array(folder / "scene.npy", (total,), np.bool_),
        key,
    )
    state = folder / "done.json"
    done = json.loads(state.read_text())["views"] if state.is_file() else 0
    progress(done, total)
    if done < total:
        _fill(found, recipe, sources, trunk, stage, state, done, progress)
    return found


@torch.no_grad()
def _fill(
    found: Features,
    recipe: DataRecipe,
    sources: Sources,
    trunk: EfficientNetLite0,
    stage: int,
    state: Path,
    done: int,
    progress: Progress,
) -> None:
    trunk = copy.deepcopy(trunk)
    fold_norms(trunk)
    trunk.to(memory_format=torch.channels_last)
    teacher = Teacher(trunk)
    patches: Sequence[Source] = ()
    if recipe.patches:
        photographs = split(sources, recipe.seed, held_out=recipe.held_out).photographs
        patches = cut_patches(photographs, trunk, recipe.patches, recipe.seed)
    for chunk in chunks(recipe.make(sources, done, patches)):
        start, done = done, done + len(chunk)
        x = as_input(np.stack([view.pixels for view in chunk]))
        features = trunk.before(x.flatten(0, -4), stage)
        features = features.unflatten(0, (len(chunk), -1))
        own = _own(trunk, features[[view.kind == "plain" for view in chunk]], stage)
        answers = [teacher(view) if view.kind == "scene" else next(own) for view in chunk]
        found.features[start:done] = features.reshape(found.features[start:done].shape).numpy()
        found.answers[start:done] = torch.stack(answers).numpy()
        found.scene[start:done] = [view.kind == "scene" for view in chunk]
        for array in (found.features, found.answers, found.scene):
            if isinstance(array, np.memmap):
                array.flush()
        write_json(state, {"views": done})
        progress(done, recipe.views)


def _own(trunk: EfficientNetLite0, features: Tensor, stage: int) -> Iterator[Tensor]:
    """The trunk's answers to views ``(n, T, C, H, W)``, one by one; to a clip from the mean of its pooled frames."""
    if len(features) == 0:
        return iter(())
    pooled = trunk.pooled(features.flatten(0, 1), stage).unflatten(0, features.shape[:2])
    logits: Tensor = trunk.classifier(pooled.mean(1))
    return iter(logits.log_softmax(1))


def _key(recipe: DataRecipe, sources: Sources, stage: int) -> str:
    names = [picture.name for picture in (*sources.objects, *sources.photographs)]
    text = json.dumps([asdict(recipe), stage, names])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _array(path: Path, shape: tuple[int, ...], dtype: type) -> Any:
    mode = "r+" if path.is_file() else "w+"
    return np.lib.format.open_memmap(path, mode=mode, dtype=dtype, shape=None if mode == "r+" else shape)

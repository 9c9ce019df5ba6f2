"""Recipes of views, the teacher, and the precomputed features that a model is trained on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnviz.models.trunk import EfficientNetLite0
from attnviz.training.scenes import View, as_input, make_views, teacher_views
from attnviz.training.sources import Source, Sources, split

BATCH = 64
Progress = Callable[[str, int, int], None]
"""Progress callback: name of the step, amount done, total."""


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """Parameters of a set of views.

    Attributes:
        views: Number of views, scenes and plain photographs together.
        plain_share: Share of plain photographs.
        seed: Random seed of the split and of each view.
        held_out: Whether the views show held-out objects and photographs.
        frames: Number of frames of each view, a clip; ``None`` for single images.
        patches: Maximum number of parts of each photograph that are used as objects, in every other scene.
    """

    views: int
    plain_share: float = 0.5
    seed: int = 0
    held_out: bool = False
    frames: int | None = None
    patches: int = 0

    def kinds(self) -> list[str]:
        """Return the kind of each view, ``"scene"`` or ``"plain"``, in a random order."""
        plain = np.random.default_rng((self.seed, 7)).random(self.views) < self.plain_share
        return ["plain" if is_plain else "scene" for is_plain in plain]

    def make(self, sources: Sources, start: int = 0, patches: Sequence[Source] = ()) -> Iterator[View]:
        """Yield the views with index ``start`` and above.

        Held-out views share no object, photograph or seed with the training views.
        """
        chosen = replace(split(sources, self.seed, held_out=self.held_out), patches=tuple(patches))
        return make_views(chosen, self.kinds(), 2 * self.seed + self.held_out, start, self.frames)


class Teacher:
    """The bare trunk, applied to the object of a scene on grey: the mean probabilities over three sizes."""

    def __init__(self, trunk: EfficientNetLite0) -> None:
        self._trunk = trunk
        self._predictions: dict[tuple[str, bool], Tensor] = {}

    @torch.no_grad()
    def __call__(self, view: View) -> Tensor:
        """Return log-probabilities ``(1000,)``; computed once for each object and its mirror image.

        Raises:
            ValueError: a plain photograph, which has no object.
        """
        if view.cut is None:
            raise ValueError(f"{view.subject}: a plain photograph has no object")
        key = (view.subject, view.mirrored)
        if key not in self._predictions:
            probabilities: Tensor = self._trunk(as_input(teacher_views(view.cut))).softmax(1)
            self._predictions[key] = probabilities.mean(0).log()
        return self._predictions[key]


@dataclass(frozen=True, slots=True)
class Features:
    """Trunk features of the training views, and their target probabilities.

    Attributes:
        features: ``(M, C, H, W)`` float16, the output of ``trunk.before``; of clips ``(M, T, …)``.
        targets: ``(M, K)`` float16, the target log-probabilities.
        scene: ``(M,)`` bool, true for a scene, false for a plain photograph.
        key: Hash of the recipe and the source images.
    """

    features: np.ndarray[Any, np.dtype[np.float16]]
    targets: np.ndarray[Any, np.dtype[np.float16]]
    scene: np.ndarray[Any, np.dtype[np.bool_]]
    key: str = ""

    def __len__(self) -> int:
        return len(self.scene)


def chunks(views: Iterator[View], size: int = BATCH) -> Iterator[list[View]]:
    """Group the views into lists of at least ``size`` images, each frame of a clip counting as one.

    The last list can be shorter.
    """
    chunk: list[View] = []
    for view in views:
        chunk.append(view)
        frames = len(view.pixels) if view.pixels.ndim == 4 else 1
        if len(chunk) * frames >= size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk

"""A model with everything that is needed to use it: its preprocessing, the names of its classes, its own name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from attnviz.media.images import Preprocess
from attnviz.models.class_names import class_index


@dataclass(frozen=True, slots=True, eq=False)
class VisionModel:
    """A network that maps images to classes, ready to be explained.

    Attributes:
        module: ``(N, 3, H, W)`` normalised images to ``(N, K)`` logits; in evaluation mode.
        preprocess: From a photograph to what ``module`` wants.
        labels: Names of the ``K`` classes.
        name: How it was asked for: ``"cbam"``, ``"timm:seresnet50"``.
        notes: What a reader of its results must know, for example that its weights are random.
        frames: How many frames of a clip it looks at together unless told otherwise; its input is then
            ``(N, T, 3, H, W)``. ``None`` for a model of single images.
    """

    module: nn.Module
    preprocess: Preprocess
    labels: Sequence[str]
    name: str
    notes: tuple[str, ...] = field(default=())
    frames: int | None = None

    def class_index(self, target: int | str) -> int:
        """The index of a class that is given by index or by name.

        Raises:
            TargetError: no class has that index.
            UnknownNameError: no class has that name; suggests the nearest.
        """
        return class_index(self.labels, target)

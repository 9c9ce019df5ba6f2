"""A model with its preprocessing, class names and name."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from attnviz.core.model_outputs import OutputPath
from attnviz.media.images import Preprocess, as_preprocess
from attnviz.targets import Task
from attnviz.targets.labels import class_index


@dataclass(frozen=True, slots=True, eq=False)
class VisionModel:
    """A network with everything that an explanation needs.

    Attributes:
        module: From normalised images ``(N, C, H, W)`` to any output; in evaluation mode.
        preprocess: Preprocessing of an image for ``module``; a transform of torchvision or timm is converted by
            :func:`~attnviz.media.transforms.as_preprocess`.
        labels: Names of the classes, or of the outputs of a regressor; empty if there are none.
        name: Name for :func:`~attnviz.load_model`: ``"cbam"``, ``"timm:seresnet50"``.
        notes: Notes for the reader of its results, for example that the weights are random.
        frames: Default number of frames of a model of clips, with input ``(N, T, 3, H, W)``; ``None`` for a model of
            single images.
        task: What the model predicts; ``None`` if it is found from the output, see :func:`~attnviz.models.find_task`.
        output: Part of the output that is explained; by default it is found.
    """

    module: nn.Module
    preprocess: Preprocess
    labels: Sequence[str]
    name: str
    notes: tuple[str, ...] = field(default=())
    frames: int | None = None
    task: Task | None = None
    output: OutputPath = None

    def __post_init__(self) -> None:
        """Accept a transform of torchvision or timm as ``preprocess``."""
        object.__setattr__(self, "preprocess", as_preprocess(self.preprocess))

    def class_index(self, target: int | str) -> int:
        """Return the index of a class that is given by index or by name.

        Raises:
            TargetError: no class has that index.
            UnknownNameError: no class has that name; the message suggests the nearest.
        """
        return class_index(self.labels, target)

"""A model with its task, its sites and the layer of class activation maps, which are found once per input size."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from attnviz.attribution import METHODS, Layer, Logits, find_layer
from attnviz.attribution.targets import Objective, Subject
from attnviz.errors import AttributionError
from attnviz.models import VisionModel, find_task
from attnviz.targets import Target, Task
from attnviz.tracing import Sites, find_attention


@dataclass(slots=True, eq=False)
class PreparedModel:
    """A model that explains several images: pass it to :func:`attnviz.explain` in place of the model.

    The task is found with the first image; sites and layers with the first image of each input size.

    Attributes:
        vision: The model, on its device.
    """

    vision: VisionModel
    _task: Task | None = field(default=None, init=False, repr=False)
    _sites: dict[tuple[int, ...], Sites] = field(default_factory=dict, init=False, repr=False)
    _layers: dict[tuple[Any, ...], Layer | None] = field(default_factory=dict, init=False, repr=False)

    def task(self, x: Tensor) -> Task:
        """The task of the model, given its input.

        Raises:
            ModelError: no task fits the output.
        """
        if self._task is None:
            vision = self.vision
            self._task = vision.task or find_task(vision.module, x, labels=vision.labels, output=vision.output)
        return self._task

    def sites(self, x: Tensor) -> Sites:
        """The attention sites for inputs of the size of ``x``."""
        key = tuple(x.shape[1:])
        if key not in self._sites:
            self._sites[key] = find_attention(self.vision.module, x)
        return self._sites[key]

    @property
    def layers(self) -> list[Layer]:
        """The layers that were found so far, each once."""
        return list(dict.fromkeys(layer for layer in self._layers.values() if layer is not None))

    def options(self, method: str, x: Tensor, target: Target) -> dict[str, Any]:
        """Options of an attribution method that depend on the model only: the layer, where it takes one.

        The layer is found once for each kind of target. A model without such a layer has no options: each method raises
        its own error.
        """
        if "layer" not in METHODS[method].options:
            return {}
        key = (*x.shape[1:], type(target))
        if key not in self._layers:
            try:
                self._layers[key] = find_layer(Logits(Subject.of(self.vision), Objective.of_target(target, 1)), x)
            except AttributionError:
                self._layers[key] = None
        layer = self._layers[key]
        return {} if layer is None else {"layer": layer}

"""A model with its attention sites and the layer of class activation maps, which are found once per input size."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from attnviz.attribution import METHODS, Layer, Logits, find_layer
from attnviz.errors import AttributionError
from attnviz.models import VisionModel
from attnviz.tracing import Sites, find_attention


@dataclass(slots=True, eq=False)
class PreparedModel:
    """A model that explains several images: pass it to :func:`attnviz.explain` in place of the model.

    Sites and layers are found with the first image of each input size and reused for the others.

    Attributes:
        vision: The model, on its device.
    """

    vision: VisionModel
    _sites: dict[tuple[int, ...], Sites] = field(default_factory=dict, init=False, repr=False)
    _layers: dict[tuple[int, ...], Layer | None] = field(default_factory=dict, init=False, repr=False)

    def sites(self, x: Tensor) -> Sites:
        """The attention sites for inputs of the size of ``x``."""
        key = tuple(x.shape[1:])
        if key not in self._sites:
            self._sites[key] = find_attention(self.vision.module, x)
        return self._sites[key]

    def options(self, method: str, x: Tensor, target: int) -> dict[str, Any]:
        """Options of an attribution method that depend on the model only: the layer, where it takes one.

        A model without such a layer has no options: each method raises its own error.
        """
        if "layer" not in METHODS[method].options:
            return {}
        key = tuple(x.shape[1:])
        if key not in self._layers:
            try:
                self._layers[key] = find_layer(Logits(self.vision.module, target), x)
            except AttributionError:
                self._layers[key] = None
        layer = self._layers[key]
        return {} if layer is None else {"layer": layer}

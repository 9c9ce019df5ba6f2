"""Attributions of the frames of a clip, for a model that looks at them together.

Attribution methods know images ``(N, 3, H, W)``. So the frames are pasted one under the other into a film strip, one
tall image ``(1, 3, T * H, W)``, which is cut again in front of the model: the strip's map is the maps of the frames.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from attnviz.attribution import METHODS, Layer, Logits, completeness_gap, find_layer
from attnviz.attribution.targets import Objective
from attnviz.core.model_state import borrowed
from attnviz.core.records import Heatmap
from attnviz.errors import AttributionError
from attnviz.targets import Target


class FilmStrip(nn.Module):
    """A model of clips ``(N, T, 3, H, W)`` as a model of images ``(N, 3, T * H, W)``; ``T`` is ``frames``."""

    def __init__(self, module: nn.Module, frames: int) -> None:
        super().__init__()
        self.module = module
        self.frames = frames
        self.training = module.training

    def forward(self, x: Tensor) -> Any:
        """What the model gives for the clip that was cut from the strip."""
        return self.module(x.unflatten(2, (self.frames, -1)).transpose(1, 2))


def attribute_frames(
    module: nn.Module,
    clip: Tensor,
    target: Target,
    method: str,
    *,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> tuple[Heatmap, float | None]:
    """Return the attribution of a target to each frame of a clip that the model processes as one input.

    A method that explains a layer is given the layer that it would choose for a clip of one frame: in a longer one,
    that layer holds frames where methods look for images.

    Args:
        module: ``(N, T, 3, H, W)`` to any output.
        clip: ``(1, T, 3, H, W)``.
        target: What is explained.
        method: A name in :data:`~attnviz.attribution.METHODS`.
        seed: Of methods that draw noise.
        progress: Progress callback: number of clips in each forward pass.

    Returns:
        ``(T, H, W)``, one scale for all frames; and, for Integrated Gradients, by how much the map's sum misses the
        rise of the logit.

    Raises:
        AttributionError: the method gives no map of each frame, or the model takes no clip of one frame.
    """
    frames, height, width = clip.shape[1], clip.shape[3], clip.shape[4]
    strip, x = FilmStrip(module, frames), clip[0].transpose(0, 1).flatten(1, 2)[None]
    options: dict[str, Any] = {}
    if "layer" in METHODS[method].options:
        options["layer"] = _layer(module, clip, target)
    heatmap = METHODS[method](strip, x, target, seed=seed, progress=progress, **options)
    gap = float(completeness_gap(strip, x, target, heatmap)[0]) if method == "integrated_gradients" else None
    values = heatmap.values
    if values.shape == (1, frames * height, width):
        values = values[0].unflatten(0, (frames, height))
    elif values.shape == (frames, frames * height, width):  # a layer that holds each frame as an image
        values = F.avg_pool2d(values[:, None], (frames, 1))[:, 0]
    else:
        raise AttributionError(f"{method}: gives no map of each of {frames} frames, but {tuple(values.shape)}")
    source = heatmap.source.removeprefix("module.")
    return Heatmap(values=values, method=heatmap.method, source=source, kind="attribution"), gap


def _layer(module: nn.Module, clip: Tensor, target: Target) -> Layer:
    """Return the layer of class activation maps, found with the first frame only."""
    try:
        with borrowed(module):
            return find_layer(Logits(FilmStrip(module, 1), Objective.of_target(target, 1)), clip[:, 0])
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise AttributionError(
            f"the layer of the map is found with a clip of one frame, which the model cannot process: {first}"
        ) from error

"""Inputs of a model: an image, the frames of a clip one by one, or all frames together."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from attnviz.errors import ClipError
from attnviz.media.image_decoding import Picture, as_picture
from attnviz.media.images import Images, as_images
from attnviz.media.video import Footage, check_clip, is_clip, read_clip

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from attnviz.models import VisionModel

Source: TypeAlias = "Picture | os.PathLike[str] | str"
"""An image, or the path of a clip."""

FRAMES = 8
"""Number of frames of a clip if neither the caller nor the model determines it."""

MOST_FRAMES = 64
"""Largest number of frames: results of each frame are kept in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """The inputs of a model.

    Attributes:
        images: The image, or all frames.
        inputs: Inputs of the forward passes: ``(1, C, H, W)`` each, or one ``(1, T, C, H, W)`` for a model that
            processes frames together.
        footage: The clip; ``None`` for an image.
    """

    images: Images
    inputs: tuple[Tensor, ...]
    footage: Footage | None

    @property
    def together(self) -> bool:
        """Whether the model processes all frames of a clip together."""
        return self.inputs[0].ndim == 5

    def on(self, device: torch.device, dtype: torch.dtype) -> ModelInput:
        """Return the inputs on a device."""
        return replace(self, inputs=tuple(x.to(device, dtype) for x in self.inputs))


def open_source(image: object) -> Source:
    """Decode an image, or check that a clip can be decoded, before any other work.

    Raises:
        ImageError: the file cannot be decoded.
    """
    if isinstance(image, str | os.PathLike) and is_clip(image):
        check_clip(image)
        return image
    return as_picture(image)  # type: ignore[arg-type]  # as_picture raises an error for other types


def prepare(source: Source, vision: VisionModel, frames: int | None = None) -> ModelInput:
    """Preprocess the result of :func:`open_source` for a model; of a clip by default as many frames as it takes, or 8.

    Raises:
        ClipError: the model takes clips and the source is an image, the clip is damaged, or there are too many frames.
    """
    if isinstance(source, Picture):
        if vision.frames is not None:
            name = source.path or "the image"
            raise ClipError(f"{name}: {vision.name} takes {vision.frames} frames of a clip, wanted a video")
        images = as_images([source], vision.preprocess)
        return ModelInput(images, (images.x,), None)
    count = frames or vision.frames or FRAMES
    if not 1 <= count <= MOST_FRAMES:
        raise ClipError(f"{os.fspath(source)}: wanted 1 to {MOST_FRAMES} frames, got {count}")
    footage = read_clip(source, count)
    pictures = [Picture(footage.path, frame, footage.size) for frame in footage.frames]
    images = as_images(pictures, vision.preprocess)
    inputs = (images.x[None],) if vision.frames is not None else images.x.split(1)
    return ModelInput(images, tuple(inputs), footage)


def photos(model_input: ModelInput, vision: VisionModel, most_px: int) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """Return the crops for display, ``(T, H, W, 3)``, at up to ``most_px`` pixels; ``None`` if that is no finer."""
    pixels = [picture.pixels for picture in model_input.images.pictures]
    left, top, right, bottom = vision.preprocess.box(*pixels[0].shape[:2])
    height, width = model_input.images.size
    scale = min(most_px / max(height, width), max((right - left) / width, (bottom - top) / height))
    if scale <= 1:
        return None
    size = (round(height * scale), round(width * scale))
    return np.stack([vision.preprocess.shown(one, size=size) for one in pixels])

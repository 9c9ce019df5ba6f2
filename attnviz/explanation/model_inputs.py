"""What a model is shown: a photograph, the frames of a clip one by one, or the frames of a clip together."""

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
"""A photograph, or the path of a clip."""

FRAMES = 8
"""Frames of a clip, where neither the caller nor the model says how many."""

MOST_FRAMES = 64
"""What is kept of each frame bounds how many there may be."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """What a model is shown.

    Attributes:
        images: The photograph, or each frame.
        inputs: What the model is called with, one after the other: ``(1, 3, H, W)`` each, or one ``(1, T, 3, H, W)``
            for a model that looks at frames together.
        footage: The clip; ``None`` for a photograph.
    """

    images: Images
    inputs: tuple[Tensor, ...]
    footage: Footage | None

    @property
    def together(self) -> bool:
        """Whether the model looks at all frames of a clip together."""
        return self.inputs[0].ndim == 5

    def on(self, device: torch.device, dtype: torch.dtype) -> ModelInput:
        """The same, where the model computes."""
        return replace(self, inputs=tuple(x.to(device, dtype) for x in self.inputs))


def open_source(image: object) -> Source:
    """Decode a photograph, or make sure that a clip can be decoded, before any work.

    Raises:
        ImageError: it cannot.
    """
    if isinstance(image, str | os.PathLike) and is_clip(image):
        check_clip(image)
        return image
    return as_picture(image)  # type: ignore[arg-type]  # which tells what it cannot take


def prepare(source: Source, vision: VisionModel, frames: int | None = None) -> ModelInput:
    """Bring a photograph or a clip into the form that a model takes.

    Args:
        source: What :func:`open_source` gave.
        vision: The model.
        frames: How many frames of a clip; by default as many as the model looks at together, or :data:`FRAMES`.

    Raises:
        ClipError: the model looks at clips and this is a photograph; the clip is damaged; or there are too many frames.
    """
    if isinstance(source, Picture):
        if vision.frames is not None:
            name = source.path or "the photograph"
            raise ClipError(f"{name}: {vision.name} looks at {vision.frames} frames of a clip together, wanted a video")
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
    """The crops for people, ``(T, S, S, 3)``: at their own resolution up to a limit; ``None`` if that is no finer."""
    pixels = [picture.pixels for picture in model_input.images.pictures]
    left, _, right, _ = vision.preprocess.box(*pixels[0].shape[:2])
    side = min(most_px, int(right - left))
    if side <= vision.preprocess.size_px:
        return None
    return np.stack([vision.preprocess.crop(one, side) for one in pixels])

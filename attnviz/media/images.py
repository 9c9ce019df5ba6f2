"""Load images and preprocess them as a model expects."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attnviz.errors import ImageError
from attnviz.media.bands import picture_for
from attnviz.media.image_decoding import MAX_PIXELS, Picture, decode
from attnviz.media.preprocess import Pixels, Preprocess
from attnviz.media.transforms import as_preprocess

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MAX_PIXELS", "Images", "Picture", "Preprocess", "as_images", "as_preprocess", "decode", "load_images"]


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """A batch of preprocessed images.

    Attributes:
        x: Normalised images, ``(N, C, H, W)`` float32, contiguous.
        pixels: The same crops before normalisation as pictures, ``(N, H, W, 3)`` uint8 RGB.
        paths: Paths of the ``N`` files.
        size: ``(H, W)`` of the crops.
        pictures: The decoded images, before the crop.
    """

    x: Tensor
    pixels: Pixels
    paths: tuple[str, ...]
    size: tuple[int, int]
    pictures: tuple[Picture, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)


def load_images(path_or_paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], preprocess: Any) -> Images:
    """Load images and preprocess them.

    Args:
        path_or_paths: Path, or several paths.
        preprocess: Preprocessing of the model: a :class:`Preprocess`, or a transform of torchvision or timm, see
            :func:`~attnviz.media.transforms.as_preprocess`.

    Returns:
        The images, in the given order.

    Raises:
        ImageError: a file is missing, empty, truncated, too large or not an image, or has another number of channels
            than the model takes; the message names it.
        ModelError: a transform of which it is unknown which part of a picture it shows.
        ValueError: no path.
    """
    one = isinstance(path_or_paths, str | os.PathLike)
    paths: Sequence[Any] = [path_or_paths] if one else list(path_or_paths)  # type: ignore[arg-type]  # narrowed above
    if not paths:
        raise ValueError("load_images: wanted at least one path, got none")
    how = as_preprocess(preprocess)
    return as_images([decode(path, keep_px=how.keep_px) for path in paths], how)


def as_images(pictures: Sequence[Picture], preprocess: Preprocess) -> Images:
    """Preprocess decoded images.

    Raises:
        ImageError: a picture has another number of channels than the model takes, or the inputs differ in size.
    """
    pictures = tuple(picture_for(picture, preprocess.channels) for picture in pictures)
    prepared = [preprocess.prepare(picture.pixels) for picture in pictures]
    shown = [preprocess.shown(picture.pixels, one) for picture, one in zip(pictures, prepared, strict=True)]
    for picture, one in zip(pictures, prepared, strict=True):
        if one.shape != prepared[0].shape:
            name, size, first = picture.path or "an image", one.shape, prepared[0].shape
            raise ImageError(f"{name}: its input is {size}, that of the first image {first}: resize in the transform")
    if len({one.dtype for one in prepared}) > 1:  # an array of numbers among image files
        x = _concatenated([preprocess.normalise(one[None]) for one in prepared])
    else:
        x = preprocess.normalise(np.stack(prepared))
    paths = tuple(picture.path for picture in pictures)
    return Images(x, np.stack(shown), paths, (x.shape[-2], x.shape[-1]), pictures)


def _concatenated(parts: Sequence[Tensor]) -> Tensor:
    import torch

    return torch.cat(list(parts))

"""Load images and preprocess them as a model expects; convert model inputs back to images.

Torch is imported when a tensor is created, so that an unreadable file is reported without delay.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from attnviz.media.image_decoding import MAX_PIXELS, Picture, decode

if TYPE_CHECKING:
    from torch import Tensor

    Pixels = np.ndarray[Any, np.dtype[np.uint8]]

__all__ = ["MAX_PIXELS", "Images", "Picture", "Preprocess", "decode", "load_images"]


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Preprocessing of an image: resize the shorter side to ``resize_px``, crop the centre, normalise.

    The resize is antialiased, as Pillow's and torchvision's are.

    Attributes:
        size_px: Side of the model's square input.
        resize_px: Shorter side after the resize, before the crop.
        mean: Mean of each channel, in [0, 1].
        std: Standard deviation of each channel.
        interpolation: Filter of the resize.
    """

    size_px: int = 224
    resize_px: int = 256
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    interpolation: Literal["bicubic", "bilinear", "lanczos"] = "bicubic"

    def __post_init__(self) -> None:
        if not 1 <= self.size_px <= self.resize_px:
            raise ValueError(f"preprocess: wanted 1 <= size_px <= resize_px, got {self.size_px} and {self.resize_px}")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(s > 0 for s in self.std):
            raise ValueError(f"preprocess: wanted 3 means and 3 positive stds, got {self.mean} and {self.std}")

    def __call__(self, pixels: Pixels) -> Tensor:
        """Return ``(x / 255 - mean) / std`` of the resized centre crop.

        Args:
            pixels: RGB, ``(H, W, 3)`` uint8.

        Returns:
            ``(3, size_px, size_px)`` float32.

        Raises:
            ValueError: not an RGB uint8 image.

        >>> import numpy as np
        >>> Preprocess(2, 2)(np.full((4, 6, 3), 255, np.uint8))[0]
        tensor([[1., 1.],
                [1., 1.]])
        """
        return self.normalise(self.crop(pixels))

    def crop(self, pixels: Pixels, side_px: int | None = None, max_aspect: float = 8) -> Pixels:
        """Return the resized centre crop as an image.

        Args:
            pixels: RGB, ``(H, W, 3)`` uint8.
            side_px: Side of the result; ``size_px`` by default. The crop shows the same part of the image at any side.
            max_aspect: Images with a larger aspect ratio are cropped before they are resized.

        Returns:
            ``(side_px, side_px, 3)`` uint8.

        Raises:
            ValueError: not an RGB uint8 image.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise ValueError(f"an RGB image is (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
        image, side = Image.fromarray(pixels), side_px or self.size_px
        resample = Image.Resampling[self.interpolation.upper()]
        height, width = self._resized(*pixels.shape[:2])
        if side == self.size_px and max(height, width) <= max_aspect * self.resize_px:
            top, left = (round((length - side) / 2.0) for length in (height, width))
            image = image.resize((width, height), resample).crop((left, top, left + side, top + side))
        else:
            # The resized image of an extreme aspect ratio would need a lot of memory. The filter samples beyond the
            # box, so the result is the same, except that the box is not rounded to whole pixels.
            image = image.resize((side, side), resample, box=self.box(*pixels.shape[:2]))
        return np.array(image)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        short = min(height, width)
        tall, wide = (
            self.resize_px if side == short else int(self.resize_px * side / short) for side in (height, width)
        )
        return tall, wide

    def box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of the crop, in pixels of the original.

        >>> Preprocess(224, 256).box(256, 512)
        (144.0, 16.0, 368.0, 240.0)
        """
        resized = self._resized(height, width)
        top, left = (round((side - self.size_px) / 2.0) for side in resized)
        down, across = height / resized[0], width / resized[1]
        return (left * across, top * down, (left + self.size_px) * across, (top + self.size_px) * down)

    def normalise(self, pixels: Pixels) -> Tensor:
        """Return ``(x / 255 - mean) / std``, channels first, of an image ``(H, W, 3)`` or a batch ``(N, H, W, 3)``."""
        import torch

        x = torch.tensor(pixels).movedim(-1, -3).float().div_(255)
        return x.sub_(torch.tensor(self.mean)[:, None, None]).div_(torch.tensor(self.std)[:, None, None])

    def inverse(self, x: Tensor) -> Pixels:
        """Convert a normalised tensor back to an image.

        Args:
            x: ``(3, H, W)`` or ``(N, 3, H, W)``.

        Returns:
            ``(H, W, 3)`` or ``(N, H, W, 3)`` uint8; values outside black and white are clipped.

        Raises:
            ValueError: ``x`` does not have 3 channels.
        """
        import torch

        if x.ndim < 3 or x.shape[-3] != 3:
            raise ValueError(f"a normalised image is (..., 3, H, W), got {tuple(x.shape)}")
        values = x.detach().cpu().float()
        values = values * torch.tensor(self.std)[:, None, None] + torch.tensor(self.mean)[:, None, None]
        pixels: Pixels = values.mul(255).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1).numpy()
        return pixels


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """A batch of preprocessed images.

    Attributes:
        x: Normalised images, ``(N, 3, H, W)`` float32.
        pixels: The same crops before normalisation, ``(N, H, W, 3)`` uint8 RGB.
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


def load_images(
    path_or_paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], preprocess: Preprocess
) -> Images:
    """Load images and preprocess them.

    Args:
        path_or_paths: Path, or several paths.
        preprocess: Preprocessing of the model.

    Returns:
        The images, in the given order.

    Raises:
        ImageError: a file is missing, empty, truncated, too large or not an image; the message names it.
        ValueError: no path.
    """
    one = isinstance(path_or_paths, str | os.PathLike)
    paths: Sequence[Any] = [path_or_paths] if one else list(path_or_paths)  # type: ignore[arg-type]  # narrowed above
    if not paths:
        raise ValueError("load_images: wanted at least one path, got none")
    # Reducing a huge image to four times the model's resolution first makes no visible difference.
    pictures = tuple(decode(path, keep_px=4 * preprocess.resize_px) for path in paths)
    return as_images(pictures, preprocess)


def as_images(pictures: Sequence[Picture], preprocess: Preprocess) -> Images:
    """Preprocess decoded images."""
    pixels = np.stack([preprocess.crop(picture.pixels) for picture in pictures])
    size = (preprocess.size_px, preprocess.size_px)
    paths = tuple(picture.path for picture in pictures)
    return Images(preprocess.normalise(pixels), pixels, paths, size, tuple(pictures))

"""Load photographs, show a model exactly what it was trained on, and show people what the model saw.

Torch is imported when a tensor is made, so that a file that cannot be read is reported at once.
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

_LONG = 8  # pictures longer than this, in shorter sides, are cropped before they are resized

__all__ = ["MAX_PIXELS", "Images", "Picture", "Preprocess", "decode", "load_images"]


@dataclass(frozen=True, slots=True)
class Preprocess:
    """From a photograph to what a model wants: shorter side to ``resize_px``, centre crop, normalise.

    The resize is antialiased, as Pillow's and torchvision's are.

    Attributes:
        size_px: Side of the square that the model sees.
        resize_px: What the shorter side is resized to before the crop.
        mean: Subtracted from each channel, in [0, 1].
        std: Divides each channel afterwards.
        interpolation: The resize's filter.
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
        """``(x / 255 - mean) / std`` of the resized centre crop.

        Args:
            pixels: RGB, ``(H, W, 3)`` uint8.

        Returns:
            ``(3, size_px, size_px)`` float32.

        Raises:
            ValueError: not an RGB uint8 picture.

        >>> import numpy as np
        >>> Preprocess(2, 2)(np.full((4, 6, 3), 255, np.uint8))[0]
        tensor([[1., 1.],
                [1., 1.]])
        """
        return self.normalise(self.crop(pixels))

    def crop(self, pixels: Pixels, side_px: int | None = None) -> Pixels:
        """The square that the model sees, still as a picture.

        Args:
            pixels: RGB, ``(H, W, 3)`` uint8.
            side_px: Side of the result; ``size_px`` by default. Another side shows the same part of the photograph.

        Returns:
            ``(side_px, side_px, 3)`` uint8.

        Raises:
            ValueError: not an RGB uint8 picture.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise ValueError(f"an RGB picture is (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
        image, side = Image.fromarray(pixels), side_px or self.size_px
        resample = Image.Resampling[self.interpolation.upper()]
        height, width = self._resized(*pixels.shape[:2])
        if side == self.size_px and max(height, width) <= _LONG * self.resize_px:
            top, left = (round((length - side) / 2.0) for length in (height, width))
            image = image.resize((width, height), resample).crop((left, top, left + side, top + side))
        else:
            # The filter reads beyond the box, so this is the same within a rounding of the box, without the
            # memory that an extremely long picture would take in between.
            image = image.resize((side, side), resample, box=self.box(*pixels.shape[:2]))
        return np.array(image)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        short = min(height, width)
        tall, wide = (
            self.resize_px if side == short else int(self.resize_px * side / short) for side in (height, width)
        )
        return tall, wide

    def box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the crop, in pixels of the original.

        >>> Preprocess(224, 256).box(256, 512)
        (144.0, 16.0, 368.0, 240.0)
        """
        resized = self._resized(height, width)
        top, left = (round((side - self.size_px) / 2.0) for side in resized)
        down, across = height / resized[0], width / resized[1]
        return (left * across, top * down, (left + self.size_px) * across, (top + self.size_px) * down)

    def normalise(self, pixels: Pixels) -> Tensor:
        """``(x / 255 - mean) / std`` of one picture ``(H, W, 3)`` or of many ``(N, H, W, 3)``, channels first."""
        import torch

        x = torch.tensor(pixels).movedim(-1, -3).float().div_(255)
        return x.sub_(torch.tensor(self.mean)[:, None, None]).div_(torch.tensor(self.std)[:, None, None])

    def inverse(self, x: Tensor) -> Pixels:
        """The picture behind a normalised tensor.

        Args:
            x: ``(3, H, W)`` or ``(N, 3, H, W)``.

        Returns:
            ``(H, W, 3)`` or ``(N, H, W, 3)`` uint8; values beyond black and white are clipped.

        Raises:
            ValueError: ``x`` has not 3 channels.
        """
        import torch

        if x.ndim < 3 or x.shape[-3] != 3:
            raise ValueError(f"a normalised picture is (..., 3, H, W), got {tuple(x.shape)}")
        values = x.detach().cpu().float()
        values = values * torch.tensor(self.std)[:, None, None] + torch.tensor(self.mean)[:, None, None]
        pixels: Pixels = values.mul(255).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1).numpy()
        return pixels


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Photographs as a model sees them.

    Attributes:
        x: Normalised, ``(N, 3, H, W)`` float32.
        pixels: The same crops as pictures, ``(N, H, W, 3)`` uint8 RGB.
        paths: Where they came from, ``N`` of them.
        size: ``(H, W)``.
        pictures: The decoded photographs, before the crop.
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
    """Read photographs and make them what the model wants.

    Args:
        path_or_paths: One file or several.
        preprocess: The model's own.

    Returns:
        All of them, in the order given.

    Raises:
        ImageError: a file is missing, empty, truncated, too large or no image; the message names it.
        ValueError: no path at all.
    """
    one = isinstance(path_or_paths, str | os.PathLike)
    paths: Sequence[Any] = [path_or_paths] if one else list(path_or_paths)  # type: ignore[arg-type]  # narrowed above
    if not paths:
        raise ValueError("load_images: wanted at least one path, got none")
    # Four times the model's resolution: reducing a huge picture to that first changes nothing that can be seen.
    pictures = tuple(decode(path, keep_px=4 * preprocess.resize_px) for path in paths)
    return as_images(pictures, preprocess)


def as_images(pictures: Sequence[Picture], preprocess: Preprocess) -> Images:
    """Decoded pictures as a model wants them."""
    pixels = np.stack([preprocess.crop(picture.pixels) for picture in pictures])
    size = (preprocess.size_px, preprocess.size_px)
    paths = tuple(picture.path for picture in pictures)
    return Images(preprocess.normalise(pixels), pixels, paths, size, tuple(pictures))

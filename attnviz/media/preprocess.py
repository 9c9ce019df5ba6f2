"""Preprocessing of an image for a model: resize, crop or pad, normalise; and where the input lies in the picture.

Torch is imported when a tensor is created, so that an unreadable file is reported without delay.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from attnviz.media.channels import displayed, resampled, with_channel_count

if TYPE_CHECKING:
    from torch import Tensor

Pixels: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Fit: TypeAlias = Literal["crop", "squash", "letterbox"]
Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos"]

_WHITE = 127  # values of a mask above this one are white
FITS: tuple[Fit, ...] = ("crop", "squash", "letterbox")


@dataclass(frozen=True, slots=True, init=False)
class Preprocess:
    """Preprocessing of an image in three steps: resize to ``resize``, crop or pad to ``size``, normalise.

    The resize is antialiased, as Pillow's and torchvision's are.

    Attributes:
        size: ``(H, W)`` of the model's input, in pixels.
        resize: ``(H, W)`` of the rectangle for the resize: see ``fit``.
        mean: Mean of each channel, in [0, 1]. Their number is the number of channels.
        std: Standard deviation of each channel.
        interpolation: Filter of the resize.
        fit: ``"crop"``: the resized image covers ``resize`` and keeps its proportions. ``"squash"``: it has exactly
            this size. ``"letterbox"``: it lies inside and keeps its proportions. The centre is then cropped, or padded,
            to ``size``.
        fill: Value of padded pixels, in [0, 1]; ``None`` for the mean of each channel.
        align: Position of an image that is smaller than the input: in its centre, or in its upper left corner.
    """

    size: tuple[int, int]
    resize: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation
    fit: Fit
    fill: float | None
    align: Literal["centre", "corner"]

    def __init__(
        self,
        size: int | Sequence[int] = 224,
        resize: int | Sequence[int] | None = None,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        interpolation: Interpolation = "bicubic",
        fit: Fit = "crop",
        fill: float | None = None,
        align: Literal["centre", "corner"] = "centre",
    ) -> None:
        """Create a preprocessing; a number is a square, and ``resize`` is ``size`` if omitted.

        Raises:
            ValueError: an impossible size, or not one positive std for each mean.
        """
        height, width = _sides(size, "size")
        resized = (height, width) if resize is None else _sides(resize, "resize")
        means, stds = tuple(map(float, mean)), tuple(map(float, std))
        if fit not in FITS:
            raise ValueError(f"preprocess: wanted a fit among {', '.join(FITS)}, got {fit!r}")
        if fit == "crop" and not (height <= resized[0] and width <= resized[1]):
            raise ValueError(f"preprocess: wanted a crop inside the resized image, got size {size} and resize {resize}")
        if not means or len(means) != len(stds) or not all(one > 0 for one in stds):
            raise ValueError(f"preprocess: wanted one positive std for each mean, got {means} and {stds}")
        values = ((height, width), resized, means, stds, interpolation, fit, fill, align)
        for name, value in zip(Preprocess.__slots__, values, strict=True):
            object.__setattr__(self, name, value)

    @property
    def channels(self) -> int:
        """Number of channels of the input."""
        return len(self.mean)

    @property
    def part(self) -> Hashable:
        """Equal for preprocessings that show the same part of any picture, with the same channels."""
        ratios = tuple(resized / side for resized, side in zip(self.resize, self.size, strict=True))
        return self.fit, ratios, self.size[0] / self.size[1], self.align, self.channels

    def __call__(self, pixels: Pixels) -> Tensor:
        """Return the model's input for one image: ``(x - mean) / std`` of the resized and cropped image.

        Args:
            pixels: ``(H, W, C)``, or ``(H, W)`` for one channel: uint8, of which 255 is 1, or float32, which is used
                as it is. Colours become luminance for a model of one channel; grey is repeated for three.

        Returns:
            ``(C, *size)`` float32.

        Raises:
            ImageError: not an image, or another number of channels.

        >>> import numpy as np
        >>> Preprocess(2)(np.full((4, 6, 3), 255, np.uint8))[0]
        tensor([[1., 1.],
                [1., 1.]])
        """
        return self.normalise(self.prepare(pixels))

    def prepare(self, pixels: Pixels) -> Pixels:
        """Return what :meth:`normalise` converts to the input: here the crop."""
        return self.crop(pixels)

    def shown(self, pixels: Pixels, prepared: Pixels | None = None, size: tuple[int, int] | None = None) -> Pixels:
        """Return the crop as an RGB picture ``(H, W, 3)`` uint8: see :func:`~attnviz.media.channels.displayed`.

        Args:
            pixels: The image.
            prepared: The result of :meth:`prepare` if it was computed already.
            size: ``(H, W)`` of the picture; that of the input by default.
        """
        return displayed(self.crop(pixels, size) if prepared is None or size is not None else prepared)

    def crop(self, pixels: Pixels, size: tuple[int, int] | None = None, max_aspect: float = 8) -> Pixels:
        """Return the resized image, cropped or padded to the input, before normalisation.

        Args:
            pixels: As for :meth:`__call__`.
            size: ``(H, W)`` of the result; that of the input by default. It shows the same part of the image.
            max_aspect: Images with a larger aspect ratio are cropped before they are resized.

        Returns:
            ``(H, W, C)`` of the type of ``pixels``.

        Raises:
            ImageError: not an image, or another number of channels.
        """
        return self.cut(with_channel_count(pixels, self.channels), size, max_aspect)

    def cut(self, pixels: Pixels, size: tuple[int, int] | None = None, max_aspect: float = 8) -> Pixels:
        """Return :meth:`crop` of an image ``(H, W, K)`` with any number of channels, such as a mask."""
        height, width = size or self.size
        source = pixels.shape[0], pixels.shape[1]
        top, left, bottom, right = self.visible(*source, (height, width))
        inside = (bottom - top, right - left)
        resized = self._resized(*source)
        if (height, width) == self.size and max(resized) <= max_aspect * max(self.resize):
            upper, lefter = (max(0, one) for one in self._offset(resized))
            cut = resampled(pixels, resized, self.interpolation)[upper : upper + inside[0], lefter : lefter + inside[1]]
        else:
            # The resized image of an extreme aspect ratio would need a lot of memory. The filter samples beyond the
            # box, so the result is the same, except that the box is not rounded to whole pixels.
            x0, y0, x1, y1 = self.box(*source)
            box = (max(0.0, x0), max(0.0, y0), min(float(source[1]), x1), min(float(source[0]), y1))
            cut = resampled(pixels, inside, self.interpolation, box)
        if inside == (height, width):
            return np.ascontiguousarray(cut)
        canvas = np.zeros((height, width, pixels.shape[2]), pixels.dtype)
        if pixels.shape[2] == self.channels:
            canvas[:] = self._padding(pixels.dtype)
        canvas[top:bottom, left:right] = cut
        return canvas

    def _padding(self, dtype: np.dtype[Any]) -> Pixels:
        values = np.array(self.mean if self.fill is None else [self.fill] * self.channels, np.float32)
        return (values * 255).round().clip(0, 255).astype(dtype) if dtype == np.uint8 else values.astype(dtype)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """``(H, W)`` of the image after the resize."""
        tall, wide = self.resize
        if self.fit == "squash":
            return tall, wide
        if self.fit == "crop" and tall == wide:  # torchvision's rounding
            short = min(height, width)
            return tuple(tall if side == short else int(tall * side / short) for side in (height, width))  # type: ignore[return-value]
        ratio = (max if self.fit == "letterbox" else min)(height / tall, width / wide)
        return max(1, round(height / ratio)), max(1, round(width / ratio))  # timm's rounding

    def _offset(self, resized: tuple[int, int]) -> tuple[int, int]:
        """Top and left of the input in the resized image; negative where it is padded."""
        top, left = (
            round((has - wanted) / 2.0) if has >= wanted else -((wanted - has) // 2) * (self.align == "centre")
            for has, wanted in zip(resized, self.size, strict=True)
        )
        return top, left

    def mask(self, pixels: Pixels) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return the pixels of the input that are white in a picture of a mask, ``(H, W)``; padding is not.

        Args:
            pixels: ``(H, W, K)`` of the proportions of the image, uint8 or float32.
        """
        white = displayed(pixels)
        left, top, right, bottom = self.box(white.shape[0], white.shape[1])
        height, width = self.size
        ys, xs = centres(top, bottom, height), centres(left, right, width)
        inside = ((ys >= 0) & (ys < white.shape[0]))[:, None] & ((xs >= 0) & (xs < white.shape[1]))[None]
        seen: np.ndarray[Any, np.dtype[np.bool_]] = inside & (self.cut(white).max(axis=2) > _WHITE)
        return seen

    def box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of the input, in pixels of the picture; outside of it where it is padded.

        >>> Preprocess(224, 256).box(256, 512)
        (144.0, 16.0, 368.0, 240.0)
        >>> Preprocess(224, fit="letterbox").box(100, 200)
        (0.0, -50.0, 200.0, 150.0)
        """
        resized = self._resized(height, width)
        top, left = self._offset(resized)
        down, across = height / resized[0], width / resized[1]
        return (left * across, top * down, (left + self.size[1]) * across, (top + self.size[0]) * down)

    def visible(self, height: int, width: int, size: tuple[int, int] | None = None) -> tuple[int, int, int, int]:
        """Return top, left, bottom and right of the part of the input that is not padding.

        Args:
            height: Height of the picture.
            width: Width of the picture.
            size: ``(H, W)`` in which the result is counted; the input's by default. A map of the input is cut back to
                the picture with ``values[top:bottom, left:right]``.

        >>> Preprocess(224, fit="letterbox").visible(100, 200)
        (56, 0, 168, 224)
        """
        x0, y0, x1, y1 = self.box(height, width)
        tall, wide = size or self.size
        down, across = tall / (y1 - y0), wide / (x1 - x0)
        top, bottom = round(max(0.0, -y0) * down), round((min(float(height), y1) - y0) * down)
        left, right = round(max(0.0, -x0) * across), round((min(float(width), x1) - x0) * across)
        return top, left, max(bottom, top + 1), max(right, left + 1)

    def normalise(self, pixels: Pixels) -> Tensor:
        """Return ``(x - mean) / std``, channels first, of an image ``(H, W, C)`` or a batch ``(N, H, W, C)``.

        The result is contiguous.
        """
        import torch

        # One channel counts as contiguous in either format, and convolutions would choose the one of its strides.
        x = torch.tensor(pixels).movedim(-1, -3).clone(memory_format=torch.contiguous_format).float()
        x = x.div_(255) if pixels.dtype == np.uint8 else x
        return x.sub_(torch.tensor(self.mean)[:, None, None]).div_(torch.tensor(self.std)[:, None, None])

    def inverse(self, x: Tensor) -> Pixels:
        """Convert a normalised tensor back to an image.

        Args:
            x: ``(C, H, W)`` or ``(N, C, H, W)``.

        Returns:
            ``(H, W, C)`` or ``(N, H, W, C)`` uint8; values outside 0 and 1 are clipped.

        Raises:
            ValueError: ``x`` has another number of channels.
        """
        import torch

        if x.ndim < 3 or x.shape[-3] != self.channels:
            raise ValueError(f"a normalised image is (..., {self.channels}, H, W), got {tuple(x.shape)}")
        values = x.detach().cpu().float()
        values = values * torch.tensor(self.std)[:, None, None] + torch.tensor(self.mean)[:, None, None]
        pixels: Pixels = values.mul(255).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1).numpy()
        return pixels

    @property
    def keep_px(self) -> int:
        """Shorter side to which a huge image can be reduced before without a visible difference: 4 times the resize."""
        return 4 * max(self.resize)


def centres(start: float, end: float, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the positions of the centres of ``count`` pixels between two positions.

    >>> centres(0, 4, 2).tolist()
    [1.0, 3.0]
    """
    return start + (np.arange(count) + 0.5) / count * (end - start)


def _sides(value: int | Sequence[int], name: str) -> tuple[int, int]:
    sides = (value, value) if isinstance(value, int) else tuple(map(int, value))
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"preprocess: wanted a {name} of one or two positive numbers of pixels, got {value}")
    return sides[0], sides[1]

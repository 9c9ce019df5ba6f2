"""Use the transforms of torchvision and timm as preprocessing, and find which part of a picture they show."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attnviz.errors import ImageError, ModelError
from attnviz.media.channels import displayed, resampled, with_channel_count
from attnviz.media.preprocess import Pixels, Preprocess
from attnviz.media.shown_part import applied, shown_part

if TYPE_CHECKING:
    from torch import Tensor

_TRIAL = (256, 384)
"""``(H, W)`` of the picture with which transforms are tried: usual crops of it have whole offsets, which all libraries
round in the same way."""

_CLOSE = 0.01  # of values in [0, 1]: the filters of the libraries differ by rounding
_UNCHANGED = frozenset({
    "ToTensor", "MaybeToTensor", "PILToTensor", "MaybePILToTensor", "ToImage", "ToDtype", "ToPILImage", "Identity",
    "ConvertImageDtype", "ToPureTensor", "RGB",
})  # fmt: skip
"""Transforms that change neither the part of the picture nor the size."""


def as_preprocess(transform: Any, expected: Preprocess | None = None) -> Preprocess:
    """Return a preprocessing as a :class:`Preprocess`.

    Args:
        transform: A :class:`Preprocess`; or any function from a PIL image to a tensor ``(C, H, W)``: a ``Compose`` of
            torchvision, a preset such as ``weights.transforms()``, timm's ``create_transform``. Resize, crop and
            normalisation are read from their attributes, and the result is compared with the transform on a trial
            picture. If it differs, or if a step is unknown, the transform itself computes the input, and the part of
            the picture that it shows is measured.
        expected: Settings of the transform, if they are not read from its attributes.

    Raises:
        ModelError: not such a function; or it mirrors, rotates or warps the picture, or draws random numbers, so that
            maps could not be laid on the picture.
    """
    if isinstance(transform, Preprocess):
        return transform
    if not callable(transform):
        raise ModelError(
            f"preprocess: wanted a Preprocess or a function from a PIL image to a tensor, got a "
            f"{type(transform).__name__}"
        )
    known, trial = expected or _read(transform), _trial_picture()
    if known is not None and known.channels == 1:  # a normalisation of one channel: pictures are opened as grey
        trial = with_channel_count(trial, 1)
    wanted = applied(transform, trial)
    if known is not None:
        ours = known.normalise(known.prepare(trial))
        if ours.shape == wanted.shape and float((ours - wanted).abs().max()) < _CLOSE / min(known.std):
            return known
    function: Callable[[Any], Any] = _Call(transform) if type(transform).__hash__ is None else transform
    return TransformPreprocess(function, wanted)


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """A function of a type whose objects have no hash: one is equal only to itself."""

    function: Callable[[Any], Any]

    def __call__(self, image: Any) -> Any:
        """The result for an image."""
        return self.function(image)


def _trial_picture() -> Pixels:
    """A picture with coarse and fine structure that differs in all places and channels."""
    random = np.random.default_rng(0)
    coarse = resampled(random.integers(0, 128, (8, 10, 3), np.uint8), _TRIAL, "bicubic")
    picture: Pixels = coarse // 2 + random.integers(0, 128, coarse.shape, np.uint8)
    return picture


def _steps(transform: Any) -> Iterator[Any]:
    """The steps of a transform, those of nested ones one by one."""
    inner: Any = transform if type(transform).__name__ == "Sequential" else getattr(transform, "transforms", None)
    if inner is None:
        yield transform
        return
    for one in inner:
        yield from _steps(one)


def _read(transform: Any) -> Preprocess | None:
    """The settings of a transform from its attributes; ``None`` if one of its steps is unknown."""
    found: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    try:
        for step in _steps(transform):
            settings = _read_step(step, found)
            if settings is None:
                return None
            found |= settings
        found.setdefault("size", found.get("resize"))
        return None if found["size"] is None else Preprocess(**found)
    except (AttributeError, TypeError, ValueError, IndexError):
        return None


def _read_step(step: Any, found: dict[str, Any]) -> dict[str, Any] | None:
    """The settings that a step adds to those before it; ``None`` if it is unknown."""
    name = type(step).__name__
    if name in _UNCHANGED:
        return {}
    if name in _READERS:
        return None if "resize" in found and "Resize" in name else _READERS[name](step)
    is_preset = hasattr(step, "crop_size") and hasattr(step, "resize_size")  # of torchvision's classifiers
    return _read_preset(step) if is_preset else None


def _read_resize(step: Any) -> dict[str, Any] | None:
    if getattr(step, "max_size", None) is not None:
        return None
    sides = [step.size] if isinstance(step.size, int) else list(step.size)
    fit = "squash" if len(sides) == 2 else "crop"
    return {"resize": sides * (3 - len(sides)), "fit": fit, "interpolation": _filter_of(step)}


def _read_ratio_resize(step: Any) -> dict[str, Any] | None:
    fit = {0: "crop", 1: "letterbox"}.get(step.longest)
    return None if fit is None else {"resize": list(step.size), "fit": fit, "interpolation": _filter_of(step)}


def _read_crop(step: Any) -> dict[str, Any]:
    size = step.size if isinstance(step.size, int) else tuple(step.size)
    return {"size": size, "fill": 0.0 if isinstance(getattr(step, "fill", 0), int) else None}


def _read_normalize(step: Any) -> dict[str, Any]:
    return {"mean": [float(one) for one in step.mean], "std": [float(one) for one in step.std]}


def _read_grayscale(step: Any) -> dict[str, Any] | None:
    return {"mean": (0.0,), "std": (1.0,)} if step.num_output_channels == 1 else None


def _read_preset(step: Any) -> dict[str, Any]:
    size, resize = int(step.crop_size[0]), int(step.resize_size[0])
    return {"size": size, "resize": resize, "interpolation": _filter_of(step), **_read_normalize(step)}


_READERS: dict[str, Callable[[Any], dict[str, Any] | None]] = {
    "Resize": _read_resize,
    "ResizeKeepRatio": _read_ratio_resize,
    "CenterCrop": _read_crop,
    "CenterCropOrPad": _read_crop,
    "Normalize": _read_normalize,
    "Grayscale": _read_grayscale,
}


def _filter_of(step: Any) -> str:
    chosen = step.interpolation
    names = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
    name = str(getattr(chosen, "value", chosen)) if not isinstance(chosen, int) else names[int(chosen)]
    if name not in names.values():
        raise ValueError(name)
    return name


@dataclass(frozen=True, slots=True, init=False)
class TransformPreprocess(Preprocess):
    """A preprocessing that is a function from a PIL image to a tensor.

    ``size`` is that of its output for a trial picture. The part of a picture that it shows is measured for each size of
    picture: a picture of which the values increase along one axis is transformed, and the positions are read from the
    values. The mean and the standard deviation are 0 and 1: its output is not changed.

    Attributes:
        transform: The function.
    """

    transform: Callable[[Any], Any]

    def __init__(self, transform: Callable[[Any], Any], output: Tensor) -> None:
        """Measure a transform; ``output`` is that of the trial picture.

        Raises:
            ModelError: it mirrors, rotates or warps pictures, or draws random numbers.
        """
        channels, height, width = output.shape
        super(TransformPreprocess, self).__init__(  # slots replace the class
            (height, width), None, (0.0,) * channels, (1.0,) * channels, fit="squash"
        )
        object.__setattr__(self, "transform", transform)
        shown_part(transform, *_TRIAL)

    @property
    def part(self) -> Hashable:
        """The transform."""
        return self.transform

    def prepare(self, pixels: Pixels) -> Pixels:
        """Return the output of the transform, ``(C, H, W)`` float32."""
        try:
            values: Pixels = applied(self.transform, pixels).numpy()
        except ModelError as error:
            raise ImageError(f"an image of shape {pixels.shape}: {error}") from error
        return values

    def normalise(self, pixels: Pixels) -> Tensor:
        """Return the outputs of :meth:`prepare` as a tensor."""
        import torch

        return torch.tensor(pixels)

    def shown(self, pixels: Pixels, prepared: Pixels | None = None, size: tuple[int, int] | None = None) -> Pixels:
        """Return the part of the picture that the transform shows, ``(H, W, 3)`` uint8; padding is black."""
        own = None if prepared is None else (prepared.shape[1], prepared.shape[2])
        return displayed(self.cut(pixels, size or own))

    def crop(self, pixels: Pixels, size: tuple[int, int] | None = None, max_aspect: float = 8) -> Pixels:
        """Return :meth:`cut`; the transform itself converts channels."""
        return self.cut(pixels, size, max_aspect)

    def cut(self, pixels: Pixels, size: tuple[int, int] | None = None, max_aspect: float = 8) -> Pixels:
        """Return the part of the picture that the transform shows, at its own or another size."""
        del max_aspect
        tall, wide = size or self.size
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        source = pixels.shape[0], pixels.shape[1]
        top, left, bottom, right = self.visible(*source, (tall, wide))
        x0, y0, x1, y1 = self.box(*source)
        box = (max(0.0, x0), max(0.0, y0), min(float(source[1]), x1), min(float(source[0]), y1))
        canvas = np.zeros((tall, wide, pixels.shape[2]), pixels.dtype)
        canvas[top:bottom, left:right] = resampled(pixels, (bottom - top, right - left), "bicubic", box)
        return canvas

    def box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of the input, in pixels of a picture of this size."""
        return shown_part(self.transform, height, width)

"""The preprocessing that an image processor of transformers applies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from attnviz.errors import ModelError
from attnviz.media.images import Preprocess, as_preprocess

_FILTERS: dict[int, Literal["nearest", "bilinear", "bicubic", "lanczos"]] = {
    0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic",
}  # fmt: skip
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

KEEPS_PROPORTIONS_NOTE = (
    "The model's own preprocessing keeps the proportions of the picture and gives inputs of different sizes; here the "
    "whole picture is resized to a square and padded, so that all inputs have one size."
)


@dataclass(frozen=True, slots=True, eq=False)
class _ProcessorCall:
    """An image processor as a function from a PIL image to a tensor."""

    processor: Any

    def __call__(self, image: Any) -> Any:
        """The model's input ``(C, H, W)`` for an image."""
        values = self.processor(images=image, return_tensors="pt")["pixel_values"]
        return values[0] if isinstance(values, list) else values.flatten(0, -4)[0]


def preprocess_of_processor(processor: Any, image_size: int | tuple[int, int] | None = None) -> Preprocess:
    """Return the preprocessing of an image processor of transformers, of any task.

    A fixed height and width is a squash; a shorter side followed by a centre crop is a crop. Processors that keep the
    proportions of the picture without a crop (DETR, SAM) become a letterbox, see :func:`keeps_proportions`. The result
    is compared with the processor on a trial picture, if an object is given: one with other steps, such as BGR,
    computes the input itself.

    Args:
        processor: An image processor, a processor that has one, or the content of ``preprocessor_config.json``.
        image_size: Size for a processor that does not resize, from the model's configuration; 224 if unknown.
    """
    known = _preprocess_of_settings(settings_of_processor(processor), image_size)
    if isinstance(processor, Mapping) or keeps_proportions(processor):
        return known
    try:
        return as_preprocess(_ProcessorCall(getattr(processor, "image_processor", processor)), known)
    except ModelError:  # it takes more than an image, or its part of the picture cannot be measured
        return known


def _preprocess_of_settings(settings: Mapping[str, Any], image_size: int | tuple[int, int] | None) -> Preprocess:
    size, crop = settings.get("size"), _sides(settings.get("crop_size"))
    default = image_size or crop or 224
    geometry: dict[str, Any] = {"size": default}
    crops = bool(settings.get("do_center_crop")) and crop is not None
    if settings.get("do_resize", True) and size is not None:
        geometry = _geometry(settings, size, crop if crops else None, default)
    elif crops:
        geometry = {"size": crop}
    mean, std = _normalisation(settings)
    interpolation = _FILTERS.get(_number(settings.get("resample")), "bicubic")
    return Preprocess(**geometry, mean=mean, std=std, interpolation=interpolation)


def settings_of_processor(processor: Any) -> Mapping[str, Any]:
    """Return the settings of an image processor, of a processor that has one, or of a configuration file."""
    if isinstance(processor, Mapping):
        inner = processor.get("image_processor")
        return inner if isinstance(inner, Mapping) else processor
    processor = getattr(processor, "image_processor", processor)
    found: Mapping[str, Any] = processor.to_dict()
    return found


def keeps_proportions(processor: Any) -> bool:
    """Whether a processor resizes without a crop and keeps proportions, so that its inputs differ in size."""
    settings = settings_of_processor(processor)
    size = settings.get("size")
    has_edge = isinstance(size, Mapping) and bool({"shortest_edge", "longest_edge", "max_height"} & set(size))
    fixed = isinstance(size, Mapping) and "height" in size
    crops = settings.get("do_center_crop", False) or settings.get("crop_pct") is not None
    return bool(settings.get("do_resize", True)) and has_edge and not fixed and not crops


def _geometry(
    settings: Mapping[str, Any], size: Any, crop: tuple[int, int] | None, default: int | tuple[int, int]
) -> dict[str, Any]:
    """The fields ``size``, ``resize``, ``fit`` and ``align`` of a preprocessing that resizes."""
    fixed = _sides(size)
    fields = size if isinstance(size, Mapping) else {}
    shortest, longest = fields.get("shortest_edge"), fields.get("longest_edge")
    if fixed and not isinstance(size, int):
        return {"size": crop or fixed, "resize": fixed, "fit": "squash"}
    shortest = shortest if shortest is not None else size if isinstance(size, int) else None
    part = settings.get("crop_pct")  # ConvNeXT and PoolFormer: the resize is the size divided by this part
    if shortest and part:
        # ConvNeXT squashes from 384 pixels on, without a crop.
        whole = type_of(settings).startswith("ConvNext") and shortest >= 384
        return {"size": shortest, "fit": "squash"} if whole else {"size": shortest, "resize": int(shortest / part)}
    if shortest and crop:
        return {"size": crop, "resize": max(shortest, *crop)}
    is_sam = type_of(settings).startswith("Sam")
    edge = longest if is_sam and longest else shortest or longest or fields.get("max_height") or default
    padded = _sides(settings.get("pad_size"))
    align = "corner" if padded or settings.get("do_pad") else "centre"
    return {"size": padded or edge, "resize": edge, "fit": "letterbox", "align": align}


def type_of(settings: Mapping[str, Any]) -> str:
    """Return the class name of a processor in its settings; empty if it is missing."""
    return str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "")


def _normalisation(settings: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of values in [0, 1]."""
    mean = tuple(map(float, settings.get("image_mean") or _IMAGENET_MEAN))
    std = tuple(map(float, settings.get("image_std") or _IMAGENET_STD))
    if not settings.get("do_normalize", "image_mean" in settings or "image_std" in settings or not settings):
        mean, std = (0.0,) * len(mean), (1.0,) * len(std)
    scale = 255.0 * float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 255.0
    # (scale x - mean) / std = (x - mean / scale) / (std / scale)
    return tuple(one / scale for one in mean), tuple(one / scale for one in std)


def _sides(value: Any) -> tuple[int, int] | None:
    if isinstance(value, Mapping):
        value = (value.get("height"), value.get("width"))
    values = (value, value) if isinstance(value, int) else value
    if isinstance(values, list | tuple) and len(values) == 2 and all(isinstance(side, int) for side in values):
        return values[0], values[1]
    return None


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int) else 3

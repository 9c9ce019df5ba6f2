"""What is known about the preprocessing of a model, from its checkpoint, its library and its attributes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

import torch
from torch import nn

_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
_FITS = {"center": "crop", "squash": "squash", "border": "letterbox"}  # timm's crop modes
_SIZES = ("input_size", "img_size", "image_size", "imgsz", "val_crop_size", "crop_size")
_NESTED = ("hyper_parameters", "hparams", "args", "config", "cfg", "meta", "metadata", "data_config", "pretrained_cfg")
_WRAPPED = ("module", "_orig_mod", "model", "net", "network", "backbone", "encoder")


class PreprocessFacts(TypedDict, total=False):
    """Settings of a preprocessing, each of them optional.

    ``crop`` is the part of the resized image that the input is, ``size / resize``; the others are those of
    :class:`~attnviz.media.preprocess.Preprocess`.
    """

    size: tuple[int, int]
    crop: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    fit: str
    fill: float | None
    align: str


def facts_of_checkpoint(content: Any) -> PreprocessFacts:
    """Settings that a checkpoint holds, at its top or in its hyperparameters; empty if there are none."""
    for one in _mappings(content):
        found = facts_of_mapping(one)
        if found:
            return found
    return {}


def _mappings(content: Any) -> Iterator[Mapping[str, Any]]:
    fields = content if isinstance(content, Mapping) else getattr(content, "__dict__", None)
    if not isinstance(fields, Mapping):
        return
    yield fields
    for key in _NESTED:
        if key in fields:
            yield from _mappings(fields[key])


def facts_of_mapping(settings: Mapping[str, Any]) -> PreprocessFacts:
    """Settings by the names that timm, torchvision's references and Ultralytics use.

    >>> facts_of_mapping({"input_size": (3, 64, 96), "crop_pct": 0.9, "lr": 0.1})
    {'size': (64, 96), 'crop': 0.9}
    """
    found: PreprocessFacts = {}
    size = next((sides for key in _SIZES if (sides := _sides(settings.get(key)))), None)
    if size:
        found["size"] = size
    for key in ("mean", "std"):
        values = _numbers(settings.get(key))
        if values and (key == "mean" or min(values) > 0):
            found[key] = values
    crop, resize = settings.get("crop_pct"), settings.get("val_resize_size")
    if isinstance(crop, int | float) and crop > 0:
        found["crop"] = float(crop)
    elif size and isinstance(resize, int) and resize >= max(size):
        found["crop"] = size[0] / resize
    if settings.get("interpolation") in _INTERPOLATIONS:
        found["interpolation"] = str(settings["interpolation"])
    if settings.get("crop_mode") in _FITS:
        found["fit"] = _FITS[str(settings["crop_mode"])]
    return found


def facts_of_timm(config: Mapping[str, Any]) -> PreprocessFacts:
    """Settings of a configuration of timm, which is complete."""
    found = facts_of_mapping(config)
    found.setdefault("crop", 0.875)
    found.setdefault("interpolation", "bicubic")
    found.setdefault("fit", "crop")
    return found


def facts_of_module(module: nn.Module) -> tuple[PreprocessFacts, str]:
    """Settings in the attributes of a model, or of the model that it wraps, and the name of the attribute."""
    for name, one in _own_and_wrapped(module):
        for attribute in ("pretrained_cfg", "default_cfg"):
            config = getattr(one, attribute, None)
            fields = config if isinstance(config, Mapping) else getattr(config, "__dict__", None)
            if isinstance(fields, Mapping) and _sides(fields.get("input_size")):
                found = facts_of_timm(fields)
                found["size"] = _sides(getattr(getattr(one, "patch_embed", None), "img_size", None)) or found["size"]
                return found, name + attribute
        config = getattr(one, "config", None)
        of_config = facts_of_mapping({key: getattr(config, key, None) for key in ("image_size",)})
        if of_config:
            return of_config, f"{name}config.image_size"
        own = {key: value for key in ("mean", "std", *_SIZES) if not callable(value := getattr(one, key, None))}
        found = facts_of_mapping(own)
        if found:
            return found, ", ".join(f"{name}{key}" for key in own if own[key] is not None)
    return {}, ""


def channels_of_module(module: nn.Module) -> int | None:
    """Number of channels that the configuration of a model states; ``None`` if it states none."""
    for _, one in _own_and_wrapped(module):
        for owner in (getattr(one, "config", None), one):
            for key in ("num_channels", "in_chans", "in_channels"):
                found = getattr(owner, key, None)
                if isinstance(found, int) and not isinstance(found, bool) and found > 0:
                    return found
    return None


def _own_and_wrapped(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """A module, and the modules that it wraps, each with the path that leads to it."""
    yield "", module
    for name in _WRAPPED:
        inner = module._modules.get(name)
        if inner is not None:
            yield from ((f"{name}.{path}", one) for path, one in _own_and_wrapped(inner))


def _sides(value: Any) -> tuple[int, int] | None:
    """``(H, W)`` of a number, ``(H, W)`` or ``(C, H, W)``."""
    if isinstance(value, Mapping):
        value = (value.get("height"), value.get("width"))
    values = (value, value) if isinstance(value, int) else value
    if isinstance(values, list | tuple | torch.Size) and len(values) in {2, 3}:
        sides = tuple(values[-2:])
        if all(isinstance(side, int) and not isinstance(side, bool) and 0 < side < 1 << 16 for side in sides):
            return sides[0], sides[1]
    return None


def _numbers(value: Any) -> tuple[float, ...] | None:
    """Numbers, one for each channel, from a sequence, an array or a tensor."""
    if isinstance(value, torch.Tensor) or type(value).__module__ == "numpy":
        value = value.flatten().tolist() if value.ndim else [value.item()]
    if isinstance(value, float):
        value = [value]
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str) and 0 < len(value) < 1 << 12
    if is_sequence and all(isinstance(one, int | float) and math.isfinite(one) for one in value):
        return tuple(map(float, value))
    return None

"""Loaders of timm and torchvision models; a library is imported when one of its models is loaded."""

import math
from pathlib import Path
from typing import Any

from torch import nn

from attnviz.core.model_state import CPU, seeded
from attnviz.errors import UnknownNameError
from attnviz.media.images import Preprocess
from attnviz.models.library_support import (
    IMAGENET_PREPROCESS,
    IMAGENET_PREPROCESS_NOTE,
    class_names,
    count_outputs,
    download_errors,
    import_library,
    interpolation_name,
    load_weights_file,
    notes_of,
)
from attnviz.models.loaders import LOADERS
from attnviz.models.vision import VisionModel


@LOADERS.register("timm")
def load_timm(name: str, weights: str | Path, seed: int) -> VisionModel:
    """Load a timm model by its name in timm, with or without the tag of its weights."""
    timm = import_library("timm", "timm")
    known = timm.list_models()
    if name.partition(".")[0] not in known:
        raise UnknownNameError("timm model", name, known)
    with seeded(CPU, seed), download_errors(f"timm:{name}"):
        module: nn.Module = timm.create_model(name, pretrained=weights == "default").eval()
    load_weights_file(module, weights)
    config = timm.data.resolve_model_data_config(module)
    size_px = int(config["input_size"][-1])
    preprocess = Preprocess(
        size=size_px,
        resize=max(size_px, math.floor(size_px / config["crop_pct"])),
        mean=tuple(map(float, config["mean"])),
        std=tuple(map(float, config["std"])),
        interpolation=interpolation_name(config["interpolation"]),
    )
    classes = int(getattr(module, "num_classes", 0)) or count_outputs(module, preprocess, f"timm:{name}")
    squashes = config.get("crop_mode", "center") != "center"
    return VisionModel(module, preprocess, class_names(classes), f"timm:{name}", notes_of(weights, squashes=squashes))


@LOADERS.register("torchvision")
def load_torchvision(name: str, weights: str | Path, seed: int) -> VisionModel:
    """Load a torchvision classification model by its name in torchvision."""
    models = import_library("torchvision.models", "torchvision")
    known = models.list_models(module=models)
    if name not in known:
        raise UnknownNameError("torchvision model", name, known)
    published = models.get_model_weights(name).DEFAULT
    options: dict[str, Any] = {"init_weights": True} if name in {"googlenet", "inception_v3"} else {}
    with seeded(CPU, seed), download_errors(f"torchvision:{name}"):
        chosen = published if weights == "default" else None
        module: nn.Module = models.get_model(name, weights=chosen, **({} if chosen else options)).eval()
    load_weights_file(module, weights)
    preprocess = _torchvision_preprocess(published.transforms())
    notes = notes_of(weights) if preprocess else (*notes_of(weights), IMAGENET_PREPROCESS_NOTE)
    labels = tuple(published.meta["categories"])
    return VisionModel(module, preprocess or IMAGENET_PREPROCESS, labels, f"torchvision:{name}", notes)


def _torchvision_preprocess(preset: Any) -> Preprocess | None:
    """The settings of a preset of ``torchvision.transforms``; ``None`` if it lacks these undocumented attributes."""
    try:
        return Preprocess(
            size=int(preset.crop_size[0]),
            resize=int(preset.resize_size[0]),
            mean=tuple(map(float, preset.mean)),
            std=tuple(map(float, preset.std)),
            interpolation=interpolation_name(preset.interpolation.value),
        )
    except AttributeError:
        return None

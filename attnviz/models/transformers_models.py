"""Loader of transformers models; the library is imported when a model is loaded."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from attnviz.core.model_state import CPU, seeded
from attnviz.errors import WeightsError
from attnviz.media.images import Preprocess
from attnviz.models.class_names import numbered_labels
from attnviz.models.library_support import (
    IMAGENET_PREPROCESS,
    count_outputs,
    download_errors,
    import_library,
    interpolation_name,
    notes_of,
)
from attnviz.models.loaders import LOADERS
from attnviz.models.vision import VisionModel
from attnviz.models.weights_file import read_weights

_RESAMPLING = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers, in which processors store the filter


class Logits(nn.Module):
    """A transformers model that returns only logits, or pooled features if it has no classifier."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, K)`` for images ``(N, 3, H, W)``."""
        output = self.model(pixel_values=x)
        for name in ("logits", "pooler_output"):
            found: Tensor | None = getattr(output, name, None)
            if found is not None:
                return found.flatten(1)
        hidden: Tensor = output.last_hidden_state
        return hidden[:, 0] if hidden.ndim == 3 else hidden.mean((2, 3))


@LOADERS.register("hf")
def load_hf(name: str, weights: str | Path, seed: int) -> VisionModel:
    """Load a transformers model: a repository on the hub, or a folder with ``config.json``."""
    transformers = import_library("transformers", "transformers")
    with download_errors(f"hf:{name}", "give a repository on the hub, or a folder with config.json"):
        config = transformers.AutoConfig.from_pretrained(name)
    classifies = any("ForImageClassification" in a for a in config.architectures or ["ForImageClassification"])
    auto = transformers.AutoModelForImageClassification if classifies else transformers.AutoModel
    with seeded(CPU, seed), _silenced(transformers):
        if weights == "none":
            model = auto.from_config(config)
        elif weights == "default":
            with download_errors(f"hf:{name}"):
                model = auto.from_pretrained(name)
        else:
            model = _from_file(auto.from_config(config), weights)
    module = Logits(model).eval()
    preprocess, squashes = _preprocess(_processor_settings(transformers, name), config)
    if classifies:
        labels: Sequence[str] = tuple(config.id2label[index] for index in range(config.num_labels))
    else:
        labels = numbered_labels(count_outputs(module, preprocess, f"hf:{name}"))
    return VisionModel(module, preprocess, labels, f"hf:{name}", notes_of(weights, squashes=squashes))


def _from_file(model: Any, weights: str | Path) -> nn.Module:
    """The model with the weights of a file, loaded by transformers, which renames the tensors of its files."""
    tensors = read_weights(weights)
    loaded, info = type(model).from_pretrained(
        None, config=model.config, state_dict=tensors, output_loading_info=True, ignore_mismatched_sizes=True
    )
    for key, what in (
        ("missing_keys", "missing"),
        ("unexpected_keys", "unexpected"),
        ("mismatched_keys", "other shape of"),
    ):
        if info.get(key):
            first = min(str(name) for name in info[key])
            raise WeightsError(f"{weights}: does not fit {type(model).__name__}: {what} {first}")
    built: nn.Module = loaded
    return built


@contextlib.contextmanager
def _silenced(transformers: ModuleType) -> Iterator[None]:
    """Suppress progress bars and messages of transformers; a release without one of these functions keeps them."""
    log = transformers.utils.logging
    verbosity = log.get_verbosity()
    bars = getattr(log, "is_progress_bar_enabled", lambda: False)()
    log.set_verbosity(log.CRITICAL)
    if bars:
        log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


def _processor_settings(transformers: ModuleType, name: str) -> dict[str, Any]:
    """The content of ``preprocessor_config.json``; empty if there is none."""
    mixin = getattr(transformers, "ImageProcessingMixin", None)
    read = getattr(mixin, "get_image_processor_dict", None)
    try:
        if read is not None:
            settings: dict[str, Any] = read(name)[0]
        else:  # slower, and needs the processor's own dependencies
            settings = transformers.AutoImageProcessor.from_pretrained(name).to_dict()
    except (OSError, ImportError):
        return {}
    return settings


def _preprocess(settings: dict[str, Any], config: Any) -> tuple[Preprocess, bool]:
    """The preprocessing, ImageNet's where settings lack, and whether the original resize changes proportions."""
    image_size = config.image_size if isinstance(getattr(config, "image_size", None), int) else 224
    resize_px = _side(settings.get("size"), image_size)
    size_px = _side(settings.get("crop_size"), resize_px) if settings.get("do_center_crop", False) else resize_px
    preprocess = Preprocess(
        size=size_px,
        resize=max(size_px, resize_px),
        mean=tuple(map(float, settings.get("image_mean", IMAGENET_PREPROCESS.mean))),
        std=tuple(map(float, settings.get("image_std", IMAGENET_PREPROCESS.std))),
        interpolation=interpolation_name(_RESAMPLING.get(settings.get("resample", 3), "bicubic")),
    )
    squashes = isinstance(settings.get("size"), dict) and "height" in settings["size"]
    return preprocess, squashes


def _side(size: Any, default: int) -> int:
    if isinstance(size, dict):
        size = size.get("shortest_edge", size.get("height"))
    return size if isinstance(size, int) else default

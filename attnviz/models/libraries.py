"""Loaders for models of other libraries; each library is imported when a model of it is asked for."""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.errors import ModelError, UnknownNameError, WeightsError
from attnviz.media.images import Preprocess
from attnviz.models.builtin import RANDOM_NOTE
from attnviz.models.class_names import imagenet_labels, numbered_labels
from attnviz.models.loaders import LOADERS
from attnviz.models.vision import VisionModel
from attnviz.models.weights_file import fit_weights, read_weights

SQUASH_NOTE = (
    "The model's own preprocessing fits the whole photograph into a square; here its centre square is seen, "
    "so that maps keep their proportions."
)
_RESAMPLING = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers, as processors store them
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@LOADERS.register("timm")
def load_timm(name: str, weights: str | Path, seed: int) -> VisionModel:
    """A model of timm, by its name there, tags included."""
    timm = _library("timm", "timm")
    known = timm.list_models()
    if name.partition(".")[0] not in known:
        raise UnknownNameError("timm model", name, known)
    with _seeded(seed), _fetching(f"timm:{name}"):
        module: nn.Module = timm.create_model(name, pretrained=weights == "default").eval()
    _read_into(module, weights)
    config = timm.data.resolve_model_data_config(module)
    size_px = int(config["input_size"][-1])
    preprocess = Preprocess(
        size_px=size_px,
        resize_px=max(size_px, math.floor(size_px / config["crop_pct"])),
        mean=_triple(config["mean"]),
        std=_triple(config["std"]),
        interpolation=_interpolation(config["interpolation"]),
    )
    classes = int(getattr(module, "num_classes", 0)) or _count_outputs(module, preprocess, f"timm:{name}")
    squashes = config.get("crop_mode", "center") != "center"
    return VisionModel(module, preprocess, _labels(classes), f"timm:{name}", _notes(weights, squashes=squashes))


@LOADERS.register("torchvision")
def load_torchvision(name: str, weights: str | Path, seed: int) -> VisionModel:
    """A classification model of torchvision, by its name there."""
    models = _library("torchvision.models", "torchvision")
    known = models.list_models(module=models)
    if name not in known:
        raise UnknownNameError("torchvision model", name, known)
    published = models.get_model_weights(name).DEFAULT
    options: dict[str, Any] = {"init_weights": True} if name in {"googlenet", "inception_v3"} else {}
    with _seeded(seed), _fetching(f"torchvision:{name}"):
        chosen = published if weights == "default" else None
        module: nn.Module = models.get_model(name, weights=chosen, **({} if chosen else options)).eval()
    _read_into(module, weights)
    shown = published.transforms()
    preprocess = Preprocess(
        size_px=int(shown.crop_size[0]),
        resize_px=int(shown.resize_size[0]),
        mean=_triple(shown.mean),
        std=_triple(shown.std),
        interpolation=_interpolation(shown.interpolation.value),
    )
    labels = tuple(published.meta["categories"])
    return VisionModel(module, preprocess, labels, f"torchvision:{name}", _notes(weights))


class Logits(nn.Module):
    """A transformers model as a network from images to logits, or to features where it has no classifier."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        output = self.model(pixel_values=x)
        for name in ("logits", "pooler_output"):
            found: Tensor | None = getattr(output, name, None)
            if found is not None:
                return found.flatten(1)
        hidden: Tensor = output.last_hidden_state
        return hidden[:, 0] if hidden.ndim == 3 else hidden.mean((2, 3))


@LOADERS.register("hf")
def load_hf(name: str, weights: str | Path, seed: int) -> VisionModel:
    """A model of transformers: a repository on the hub, or a folder with ``config.json``."""
    transformers = _library("transformers", "transformers")
    with _fetching(f"hf:{name}", "give a repository on the hub, or a folder with config.json"):
        config = transformers.AutoConfig.from_pretrained(name)
    classifies = any("ForImageClassification" in a for a in config.architectures or ["ForImageClassification"])
    auto = transformers.AutoModelForImageClassification if classifies else transformers.AutoModel
    with _seeded(seed), _quiet(transformers):
        if weights == "none":
            model = auto.from_config(config)
        elif weights == "default":
            with _fetching(f"hf:{name}"):
                model = auto.from_pretrained(name)
        else:
            model = _hf_from_file(auto.from_config(config), weights)
    module = Logits(model).eval()
    preprocess, squashes = _hf_preprocess(transformers, name, config)
    if classifies:
        labels: Sequence[str] = tuple(config.id2label[index] for index in range(config.num_labels))
    else:
        labels = numbered_labels(_count_outputs(module, preprocess, f"hf:{name}"))
    return VisionModel(module, preprocess, labels, f"hf:{name}", _notes(weights, squashes=squashes))


@LOADERS.register("function")
def load_function(name: str, weights: str | Path, seed: int) -> VisionModel:
    """What the user's own ``package.module:function`` returns; modules of the current folder are found too."""
    path, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*path.split("."), attribute)):
        raise ModelError(f"{name!r}: wanted the name of a model, or package.module:function")
    try:
        with _current_folder_first():
            module = importlib.import_module(path)
    except Exception as error:
        raise ModelError(
            f"{name}: no built-in model, no library of that name, and importing {path} fails: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, attribute):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UnknownNameError(f"function of {path}", attribute, public)
    with _seeded(seed):
        try:
            built = getattr(module, attribute)()
        except Exception as error:
            raise ModelError(f"{name}: the function failed with {type(error).__name__}: {error}") from error
    if isinstance(built, VisionModel):
        _read_into(built.module, weights)
        return built
    if not isinstance(built, nn.Module):
        raise ModelError(
            f"{name}: wanted an nn.Module or a VisionModel, the function returned a {type(built).__name__}"
        )
    _read_into(built.eval(), weights)
    preprocess = Preprocess(mean=_IMAGENET_MEAN, std=_IMAGENET_STD)
    labels = _labels(_count_outputs(built, preprocess, name))
    return VisionModel(built, preprocess, labels, name, ("Preprocessing: ImageNet's usual, 224 px of 256.",))


def _library(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelError(f"{package} is not installed ({error}): pip install 'attnviz[zoo]'") from error


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _fetching(name: str, hint: str = "give a file with --weights PATH, or --weights none") -> Iterator[None]:
    """What is published comes over the network, with many ways to fail."""
    try:
        yield
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:160]
        raise WeightsError(f"{name}: cannot be had ({type(error).__name__}: {reason}); {hint}") from error


@contextlib.contextmanager
def _current_folder_first() -> Iterator[None]:
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def _read_into(module: nn.Module, weights: str | Path) -> None:
    if weights not in {"default", "none"}:
        fit_weights(module, read_weights(weights), weights)


def _notes(weights: str | Path, *, squashes: bool = False) -> tuple[str, ...]:
    random = (RANDOM_NOTE,) if weights == "none" else ()
    return (*random, SQUASH_NOTE) if squashes else random


def _labels(count: int) -> Sequence[str]:
    return imagenet_labels() if count == 1000 else numbered_labels(count)


@torch.no_grad()
def _count_outputs(module: nn.Module, preprocess: Preprocess, name: str) -> int:
    try:
        output = module(torch.zeros(1, 3, preprocess.size_px, preprocess.size_px))
    except Exception as error:
        raise ModelError(
            f"{name}: fails on an image of {preprocess.size_px} px: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(output, Tensor) or output.ndim != 2:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(f"{name}: wanted logits (N, K), the model gives {shape}")
    return output.shape[1]


def _hf_from_file(model: Any, weights: str | Path) -> nn.Module:
    """The same model with a file's weights: transformers renames what its files hold, so it must load them itself."""
    tensors = read_weights(weights)
    loaded, found = type(model).from_pretrained(
        None, config=model.config, state_dict=tensors, output_loading_info=True, ignore_mismatched_sizes=True
    )
    for key, what in (
        ("missing_keys", "it lacks"),
        ("unexpected_keys", "no place for"),
        ("mismatched_keys", "shape of"),
    ):
        if found[key]:
            first = sorted(str(name) for name in found[key])[0]
            raise WeightsError(f"{weights}: does not fit {type(model).__name__}: {what} {first}")
    built: nn.Module = loaded
    return built


@contextlib.contextmanager
def _quiet(transformers: ModuleType) -> Iterator[None]:
    """No bars and no reports from transformers: what matters of them becomes an error."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


def _hf_preprocess(transformers: ModuleType, name: str, config: Any) -> tuple[Preprocess, bool]:
    """From the folder's ``preprocessor_config.json``, and whether it squashes; ImageNet's usual where there is none."""
    try:
        settings, _ = transformers.image_processing_utils.ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:
        settings = {}
    image_size = config.image_size if isinstance(getattr(config, "image_size", None), int) else 224
    resize_px = _side(settings.get("size"), image_size)
    size_px = _side(settings.get("crop_size"), resize_px) if settings.get("do_center_crop", False) else resize_px
    preprocess = Preprocess(
        size_px=size_px,
        resize_px=max(size_px, resize_px),
        mean=_triple(settings.get("image_mean", _IMAGENET_MEAN)),
        std=_triple(settings.get("image_std", _IMAGENET_STD)),
        interpolation=_interpolation(_RESAMPLING.get(settings.get("resample", 3), "bicubic")),
    )
    squashes = isinstance(settings.get("size"), dict) and "height" in settings["size"]
    return preprocess, squashes


def _side(size: Any, default: int) -> int:
    if isinstance(size, dict):
        size = size.get("shortest_edge", size.get("height"))
    return size if isinstance(size, int) else default


def _triple(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _interpolation(name: str) -> Any:
    return name if name in {"bicubic", "bilinear", "lanczos"} else "bicubic"

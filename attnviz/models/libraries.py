"""Loaders of timm and torchvision models; a library is imported when one of its models is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from attnviz.core.model_state import CPU, seeded
from attnviz.errors import UnknownNameError
from attnviz.media.images import Preprocess, as_preprocess
from attnviz.media.transforms import TransformPreprocess
from attnviz.models.checkpoint import Checkpoint, read_checkpoint
from attnviz.models.input_trial import channels_of_first_layer
from attnviz.models.library_support import download_errors, import_library, notes_of
from attnviz.models.loaders import LOADERS
from attnviz.models.model_settings import ModelSettings, find_labels, find_preprocess
from attnviz.models.preprocess_facts import PreprocessFacts, facts_of_timm
from attnviz.models.vision import VisionModel
from attnviz.models.weights_file import load_weights, shapes_of_ends

Build = Callable[..., nn.Module]


@LOADERS.register("timm")
def load_timm(name: str, weights: str | Path, seed: int, settings: ModelSettings) -> VisionModel:
    """Load a timm model by its name in timm, with or without the tag of its weights."""
    timm = import_library("timm", "timm")
    known = timm.list_models()
    if name.partition(".")[0] not in known:
        raise UnknownNameError("timm model", name, known)
    full = f"timm:{name}"

    def build(classes: int | None = None, channels: int | None = None) -> nn.Module:
        options = {key: value for key, value in (("num_classes", classes), ("in_chans", channels)) if value is not None}
        module: nn.Module = timm.create_model(name, pretrained=weights == "default", **options)
        return module

    with seeded(CPU, seed), download_errors(full):
        module = build().eval()
    notes = notes_of(weights)
    if weights not in {"default", "none"}:
        checkpoint = read_checkpoint(weights)
        settings = replace(settings, stored=checkpoint.facts)
        module, notes = _with_weights(module, checkpoint, build)
    facts = facts_of_timm(timm.data.resolve_model_data_config(module))
    found = find_preprocess(module, full, settings, facts, channels_of_first_layer(module))
    outputs = int(getattr(module, "num_classes", 0)) or None
    labels, more = find_labels(module, full, settings, found, outputs=outputs, library=_timm_labels(timm, module))
    return VisionModel(module, found.preprocess, labels, full, (*notes, *found.notes, *more))


def _timm_labels(timm: Any, module: nn.Module) -> Sequence[str] | None:
    """The class names of the subset of ImageNet on which the weights of a timm model were trained."""
    if getattr(module, "num_classes", 0) == 1000:
        from attnviz.models.class_names import imagenet_labels

        return imagenet_labels()
    try:
        subset = timm.data.infer_imagenet_subset(module)
        return None if not subset else timm.data.ImageNetInfo(subset).label_descriptions()
    except (AttributeError, LookupError, TypeError, ValueError):
        return None


@LOADERS.register("torchvision")
def load_torchvision(name: str, weights: str | Path, seed: int, settings: ModelSettings) -> VisionModel:
    """Load a torchvision classification model by its name in torchvision."""
    models = import_library("torchvision.models", "torchvision")
    known = models.list_models(module=models)
    if name not in known:
        raise UnknownNameError("torchvision model", name, known)
    full = f"torchvision:{name}"
    published = models.get_model_weights(name).DEFAULT
    chosen = published if weights == "default" else None
    initialised = {"init_weights": True} if name in {"googlenet", "inception_v3"} and not chosen else {}

    def build(classes: int | None = None, channels: int | None = None) -> nn.Module:
        del channels  # torchvision's models take three
        counted = {} if classes is None else {"num_classes": classes}
        module: nn.Module = models.get_model(name, weights=chosen, **initialised, **counted)
        return module

    with seeded(CPU, seed), download_errors(full):
        module = build().eval()
    notes, categories = notes_of(weights), tuple(published.meta["categories"])
    if weights not in {"default", "none"}:
        checkpoint = read_checkpoint(weights)
        settings = replace(settings, stored=checkpoint.facts)
        module, notes = _with_weights(module, checkpoint, build)
    known = as_preprocess(published.transforms())
    if settings.preprocess is None and isinstance(known, TransformPreprocess):  # of a release with other attributes
        settings = replace(settings, preprocess=known)
    found = find_preprocess(module, full, settings, _torchvision_facts(known), 3)
    outputs = None if weights not in {"default", "none"} else len(categories)
    labels, more = find_labels(module, full, settings, found, outputs=outputs, library=categories)
    return VisionModel(module, found.preprocess, labels, full, (*notes, *found.notes, *more))


def _torchvision_facts(known: Preprocess) -> PreprocessFacts:
    """The settings of a preset of ``torchvision.transforms``."""
    return {
        "size": known.size,
        "crop": known.size[0] / known.resize[0],
        "mean": known.mean,
        "std": known.std,
        "interpolation": known.interpolation,
        "fit": known.fit,
    }


def _with_weights(module: nn.Module, checkpoint: Checkpoint, build: Build) -> tuple[nn.Module, tuple[str, ...]]:
    """A model with the weights of a file; it is built again if the file has other numbers of classes or channels.

    Raises:
        WeightsError: the weights do not fit.
    """
    classes, channels = shapes_of_ends(module, checkpoint)
    notes = []
    if classes is not None or channels is not None:
        module = build(classes, channels).eval()
        if classes is not None:
            notes.append(f"The model is built with {classes} classes, as many as the head in the file has.")
        if channels is not None:
            notes.append(f"The model is built for {channels} input channels, as many as the file has.")
    return module, (*load_weights(module, checkpoint), *notes)

"""Loader of transformers models; the library is imported when a model is loaded."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from attnviz.core.model_state import CPU, seeded
from attnviz.errors import WeightsError
from attnviz.models.checkpoint import Checkpoint, read_checkpoint
from attnviz.models.image_processors import KEEPS_PROPORTIONS_NOTE, keeps_proportions, preprocess_of_processor
from attnviz.models.library_support import download_errors, import_library, notes_of
from attnviz.models.loaders import LOADERS, with_settings
from attnviz.models.model_settings import SQUASH_NOTE, FoundPreprocess, ModelSettings, find_labels, find_preprocess
from attnviz.models.task_of_model import find_task
from attnviz.models.transformers_inputs import with_inputs
from attnviz.models.vision import VisionModel
from attnviz.models.weights_file import load_weights, match_weights
from attnviz.targets import Task


@LOADERS.register("hf")
def load_hf(name: str, weights: str | Path, seed: int, settings: ModelSettings) -> VisionModel:
    """Load a transformers model of any task: a repository on the hub, or a folder with ``config.json``."""
    transformers = import_library("transformers", "transformers")
    with download_errors(f"hf:{name}", "give a repository on the hub, or a folder with config.json"):
        config = transformers.AutoConfig.from_pretrained(name)
    architecture = _architecture(transformers, config)
    notes = notes_of(weights)
    with seeded(CPU, seed), _silenced(transformers):
        if weights == "none":
            model = _from_config(architecture, config)
        elif weights == "default":
            with download_errors(f"hf:{name}"):
                model = architecture.from_pretrained(name)
        else:
            model, checkpoint, notes = _from_file(_from_config(architecture, config), weights)
            settings = replace(settings, stored=checkpoint.facts)
        model = model.eval()
        processor = _processor(transformers, name)
        size = settings.given.get("size") or _size_of(processor, config)
        inputs = with_inputs(transformers, name, model, settings.texts, size)
    module = inputs.module.eval()
    found = _find_preprocess(module, f"hf:{name}", settings, processor, config)
    task = inputs.task or find_task(module, torch.zeros(1, found.preprocess.channels, *found.preprocess.size))
    named = inputs.labels if inputs.labels is not None else _class_names(config, task)
    labels, more = find_labels(module, f"hf:{name}", settings, found, outputs=len(named), library=named)
    return VisionModel(
        module, found.preprocess, labels, f"hf:{name}", (*notes, *inputs.notes, *found.notes, *more), task=task
    )


def _architecture(transformers: ModuleType, config: Any) -> Any:
    """The class of a model: that of its configuration, or else an image classifier."""
    for name in config.architectures or ():
        if hasattr(transformers, name):
            return getattr(transformers, name)
    return transformers.AutoModelForImageClassification if not config.architectures else transformers.AutoModel


def _from_config(architecture: Any, config: Any) -> Any:
    """A model with random weights, of a class of models or of an automatic class."""
    build = getattr(architecture, "from_config", None) or getattr(architecture, "_from_config", architecture)
    return build(config)


def _size_of(processor: Any, config: Any) -> tuple[int, int]:
    """The size of the input, as far as it is known before the model runs."""
    if processor is not None:
        return preprocess_of_processor(processor).size
    size: Any = getattr(config, "image_size", None) or getattr(
        getattr(config, "vision_config", None), "image_size", 224
    )
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _class_names(config: Any, task: Task) -> tuple[str, ...]:
    """The class names of a configuration; none for a model without classes."""
    if task.name in {"embedding", "dense-regression", "sequence", "zero-shot"}:
        return ()
    names = getattr(config, "id2label", None) or {}
    return tuple(names[index] for index in range(len(names)) if index in names)


def _from_file(model: Any, weights: str | Path) -> tuple[Any, Checkpoint, tuple[str, ...]]:
    """The model with the weights of a file, the content of the file, and notes.

    Tensors under other names than the model's are loaded by transformers, which renames those of its own files.
    """
    checkpoint = read_checkpoint(weights)
    if match_weights(model, checkpoint).is_complete:
        return model, checkpoint, load_weights(model, checkpoint)
    tensors = next(iter(checkpoint.states.values()))
    loaded, info = type(model).from_pretrained(
        None, config=model.config, state_dict=tensors, output_loading_info=True, ignore_mismatched_sizes=True
    )
    for key, what in (
        ("missing_keys", "missing"),
        ("unexpected_keys", "unexpected"),
        ("mismatched_keys", "other shape of"),
    ):
        if info.get(key):
            first = min(" ".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in info[key])
            raise WeightsError(f"{weights}: does not fit {type(model).__name__}: {what} {first}")
    return loaded, checkpoint, ()


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


def _processor(transformers: ModuleType, name: str) -> Any:
    """The image processor of a model, or the content of its ``preprocessor_config.json``; ``None`` if it has none."""
    with contextlib.suppress(Exception), _silenced(transformers):  # it can need packages that are not installed
        return transformers.AutoImageProcessor.from_pretrained(name)
    mixin = getattr(transformers, "ImageProcessingMixin", None)
    read = getattr(mixin, "get_image_processor_dict", None)
    if read is None:
        return None
    try:
        return read(name)[0] or None
    except (OSError, ImportError):
        return None


def _find_preprocess(
    module: nn.Module, name: str, settings: ModelSettings, processor: Any, config: Any
) -> FoundPreprocess:
    """The preprocessing of the image processor, with what the user sets; a guess without a processor."""
    if settings.is_complete or processor is None:
        return find_preprocess(module, name, settings)
    size = getattr(config, "image_size", None)
    known = preprocess_of_processor(processor, size if isinstance(size, int) else None)
    vision = with_settings(VisionModel(module, known, (), name), replace(settings, labels=None))
    notes = [KEEPS_PROPORTIONS_NOTE] if keeps_proportions(processor) and vision.preprocess == known else []
    if vision.preprocess.fit == "squash":
        notes.append(SQUASH_NOTE)
    return FoundPreprocess(vision.preprocess, tuple(notes))

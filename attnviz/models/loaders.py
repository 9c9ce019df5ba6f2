"""Load a model by name: built-in, of timm, torchvision or transformers, or from the user's function."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnviz.core.model_outputs import OutputPath
from attnviz.core.registry import Registry
from attnviz.errors import ModelError
from attnviz.media.transforms import TransformPreprocess
from attnviz.models.builtin import load_builtin
from attnviz.models.model_settings import ModelSettings
from attnviz.models.vision import VisionModel
from attnviz.targets import TASKS

Loader = Callable[[str, str | Path, int, ModelSettings], VisionModel]
"""A function of the name behind the colon, the weights, the seed and the user's settings."""

LOADERS: Registry[Loader] = Registry("model library", home="attnviz.models")


def load_model(
    name: str,
    weights: str | Path = "default",
    seed: int = 0,
    labels: str | Path | Sequence[str] | None = None,
    preprocess: Any = None,
    *,
    texts: Sequence[str] = (),
    task: str | None = None,
    output: OutputPath = None,
) -> VisionModel:
    """Load a model with its preprocessing and class names.

    Preprocessing and class names that are not given are taken from the weights file, the library or the attributes of
    the model, in this order. What remains is guessed, with a :class:`~attnviz.errors.GuessWarning` and a note.

    Args:
        name: ``"cbam"`` and the other built-in names; ``"timm:NAME"``, ``"torchvision:NAME"``,
            ``"hf:REPOSITORY-OR-FOLDER"``; or ``"package.module:function"`` or ``"folder/file.py:function"``, a function
            or class without arguments that returns an ``nn.Module`` or a :class:`VisionModel`.
        weights: ``"default"`` for the published weights, or those that the function sets; ``"none"`` for random ones;
            or a file, which is read without executing code from it.
        seed: Random seed of random weights.
        labels: Class names, or a file or folder of them: see :func:`~attnviz.models.label_files.read_label_file`.
        preprocess: A :class:`~attnviz.Preprocess`; a transform of torchvision or timm; or some of the fields of a
            ``Preprocess`` by name, such as ``{"size": (64, 160), "fit": "squash"}``.
        texts: Texts for a model that compares images with them: its classes, or a prompt.
        task: Name of the task, in :data:`~attnviz.targets.TASKS`; by default it is found.
        output: Part of the output that is explained: ``"logits"``, ``"heads.0"``, a function; by default it is found.

    Returns:
        The model, in evaluation mode.

    Raises:
        UnknownNameError: no such model or task; the message suggests the nearest.
        WeightsError: weights are missing, damaged or do not fit; or a file of class names cannot be read.
        ModelError: the model cannot be built, or its library is not installed.
    """
    settings = ModelSettings(labels, preprocess, texts=texts, task=task, output=output)
    vision = _loaded(name, weights, seed, settings)
    return replace(vision, task=TASKS[task] if task else vision.task, output=output or vision.output)


def _loaded(name: str, weights: str | Path, seed: int, settings: ModelSettings) -> VisionModel:
    scheme, separator, rest = name.partition(":")
    if settings.texts and scheme != "hf":
        raise ModelError(f"{name}: takes no texts")
    if not separator and name.endswith(".py"):
        raise ModelError(f"{name}: wanted the name of a function or class too: {name}:build")
    if not separator:
        return with_settings(load_builtin(name, weights, seed), settings)
    load = LOADERS[scheme] if scheme in LOADERS else LOADERS["function"]
    return load(rest if scheme in LOADERS else name, weights, seed, settings)


def with_settings(vision: VisionModel, settings: ModelSettings) -> VisionModel:
    """Return a model whose preprocessing and class names are known, with those that the user sets.

    Raises:
        ModelError: the number of class names differs.
    """
    labels = settings.labels_given()
    if labels is not None:
        if vision.labels and len(labels) != len(vision.labels):
            raise ModelError(
                f"{vision.name}: {len(labels)} class names were given, it has {len(vision.labels)} classes"
            )
        vision = replace(vision, labels=labels)
    if settings.is_complete:
        return replace(vision, preprocess=settings.preprocess)
    given = dict(settings.given)
    if not given:
        return vision
    before = vision.preprocess
    if isinstance(before, TransformPreprocess):
        raise ModelError(
            f"{vision.name}: its preprocessing is a transform, of which {', '.join(given)} cannot be changed: set the "
            "whole preprocessing with preprocess=Preprocess(...)"
        )
    if "size" in given and "resize" not in given:
        sides = (given["size"],) * 2 if isinstance(given["size"], int) else tuple(given["size"])
        scaled = [side * old / own for side, old, own in zip(sides, before.resize, before.size, strict=True)]
        given["resize"] = sides if given.get("fit", "crop") != "crop" else tuple(map(round, scaled))
    elif given.get("fit", "crop") != "crop" and "resize" not in given:
        given["resize"] = before.size
    try:
        return replace(vision, preprocess=replace(before, **given))
    except ValueError as error:
        raise ModelError(f"{vision.name}: {error}") from error

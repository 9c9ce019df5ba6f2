"""Load a model by name: built-in, of timm, torchvision or transformers, or from the user's function."""

from collections.abc import Callable
from pathlib import Path

from attnviz.core.registry import Registry
from attnviz.models.builtin import load_builtin
from attnviz.models.vision import VisionModel

Loader = Callable[[str, str | Path, int], VisionModel]

LOADERS: Registry[Loader] = Registry("model library", home="attnviz.models")


def load_model(name: str, weights: str | Path = "default", seed: int = 0) -> VisionModel:
    """Load a model with its preprocessing and class names.

    Args:
        name: ``"cbam"`` and the other built-in names; ``"timm:NAME"``, ``"torchvision:NAME"``,
            ``"hf:REPOSITORY-OR-FOLDER"``; or ``"package.module:function"``, a function without arguments that returns
            an ``nn.Module`` or a :class:`VisionModel`.
        weights: ``"default"`` for the published weights, ``"none"`` for random ones, or a file, which is read without
            executing code from it.
        seed: Random seed of random weights.

    Returns:
        The model, in evaluation mode.

    Raises:
        UnknownNameError: no such model; the message suggests the nearest.
        WeightsError: weights are missing, damaged or do not fit.
        ModelError: the model cannot be built, or its library is not installed.
    """
    scheme, separator, rest = name.partition(":")
    if not separator:
        return load_builtin(name, weights, seed)
    load = LOADERS[scheme] if scheme in LOADERS else LOADERS["function"]
    return load(rest if scheme in LOADERS else name, weights, seed)

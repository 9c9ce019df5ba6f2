"""Load a model by name: a built-in one, one of timm, torchvision or transformers, or the user's own function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attnviz.core.registry import Registry
from attnviz.models.builtin import load_builtin
from attnviz.models.vision import VisionModel

Loader = Callable[[str, str | Path, int], VisionModel]

LOADERS: Registry[Loader] = Registry("model library", home="attnviz.models.libraries")


def load_model(name: str, weights: str | Path = "default", seed: int = 0) -> VisionModel:
    """Load a model, ready to be explained.

    Args:
        name: ``"cbam"`` and the other built-in names; ``"timm:NAME"``, ``"torchvision:NAME"``,
            ``"hf:REPOSITORY-OR-FOLDER"``; or ``"package.module:function"``, a function without arguments that returns
            an ``nn.Module`` or a :class:`VisionModel`.
        weights: ``"default"``, the published ones; ``"none"``, random ones; or a file, read without running what is
            in it.
        seed: Of the random weights.

    Returns:
        The model, in evaluation mode.

    Raises:
        UnknownNameError: no such model; suggests the nearest.
        WeightsError: weights are missing, damaged or do not fit.
        ModelError: the model cannot be built, or its library is not installed.
    """
    scheme, separator, rest = name.partition(":")
    if not separator:
        return load_builtin(name, weights, seed)
    load = LOADERS[scheme] if scheme in LOADERS else LOADERS["function"]
    return load(rest if scheme in LOADERS else name, weights, seed)

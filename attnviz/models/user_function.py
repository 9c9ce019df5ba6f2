"""Loader of models that a function of the user returns."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from torch import nn

from attnviz.core.model_state import CPU, seeded
from attnviz.errors import ModelError, UnknownNameError
from attnviz.models.library_support import (
    IMAGENET_PREPROCESS,
    IMAGENET_PREPROCESS_NOTE,
    class_names,
    count_outputs,
    load_weights_file,
)
from attnviz.models.loaders import LOADERS
from attnviz.models.vision import VisionModel


@LOADERS.register("function")
def load_function(name: str, weights: str | Path, seed: int) -> VisionModel:
    """Load the model that ``package.module:function`` returns; modules of the current folder are found too."""
    path, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*path.split("."), attribute)):
        raise ModelError(f"{name!r}: wanted the name of a model, or package.module:function")
    module = _import(path, name)
    if not hasattr(module, attribute):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UnknownNameError(f"function of {path}", attribute, public)
    with seeded(CPU, seed):
        try:
            built = getattr(module, attribute)()
        except Exception as error:
            raise ModelError(f"{name}: the function failed with {type(error).__name__}: {error}") from error
    if isinstance(built, VisionModel):
        load_weights_file(built.module, weights)
        return built
    if not isinstance(built, nn.Module):
        raise ModelError(
            f"{name}: wanted an nn.Module or a VisionModel, the function returned a {type(built).__name__}"
        )
    load_weights_file(built.eval(), weights)
    labels = class_names(count_outputs(built, IMAGENET_PREPROCESS, name))
    return VisionModel(built, IMAGENET_PREPROCESS, labels, name, (IMAGENET_PREPROCESS_NOTE,))


def _import(path: str, name: str) -> ModuleType:
    try:
        with _current_folder_first():
            return importlib.import_module(path)
    except Exception as error:
        raise ModelError(
            f"{name}: no built-in model, no library of that name, and importing {path} fails: "
            f"{type(error).__name__}: {error}"
        ) from error


@contextlib.contextmanager
def _current_folder_first() -> Iterator[None]:
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before

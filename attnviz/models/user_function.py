"""Loader of models that a function or class of the user returns."""

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from attnviz.core.model_state import CPU, seeded
from attnviz.errors import ModelError, UnknownNameError
from attnviz.models.checkpoint import read_checkpoint
from attnviz.models.loaders import LOADERS, with_settings
from attnviz.models.model_settings import ModelSettings, find_labels, find_preprocess
from attnviz.models.vision import VisionModel
from attnviz.models.weights_file import load_weights

NO_RANDOM_NOTE = "The weights are those that the function sets: none of them are drawn again."


@LOADERS.register("function")
def load_function(name: str, weights: str | Path, seed: int, settings: ModelSettings) -> VisionModel:
    """Load the model that ``package.module:function`` or ``folder/file.py:function`` returns.

    Modules of the current folder, and of the folder of a file, are found too.
    """
    build, folder = _function_of(name)
    with seeded(CPU, seed), _folders_first(folder, Path.cwd()):
        try:
            built = build()
        except Exception as error:
            raise ModelError(f"{name}: the function failed with {type(error).__name__}: {error}") from error
    if not isinstance(built, VisionModel | nn.Module):
        raise ModelError(
            f"{name}: wanted an nn.Module or a VisionModel, the function returned a {type(built).__name__}"
        )
    module = built.module.eval() if isinstance(built, VisionModel) else built.eval()
    notes: tuple[str, ...] = (NO_RANDOM_NOTE,) if weights == "none" else ()
    if weights not in {"default", "none"}:
        checkpoint = read_checkpoint(weights)
        notes = load_weights(module, checkpoint)
        settings = replace(settings, stored=checkpoint.facts)
    if isinstance(built, VisionModel):
        return with_settings(replace(built, notes=(*built.notes, *notes)), settings)
    found = find_preprocess(module, name, settings)
    labels, more = find_labels(module, name, settings, found)
    return VisionModel(module, found.preprocess, labels, name, (*notes, *found.notes, *more))


def _function_of(name: str) -> tuple[Callable[[], Any], Path]:
    """The function or class of a name, and the folder of its file.

    Raises:
        ModelError: the name is invalid, its module fails to import, or the function takes arguments.
        UnknownNameError: the module has no such function.
    """
    path, _, attribute = name.rpartition(":")
    is_file = path.endswith(".py")
    parts = (attribute,) if is_file else (*path.split("."), attribute)
    if not all(part.isidentifier() for part in parts):
        raise ModelError(f"{name!r}: wanted the name of a model, package.module:function or folder/file.py:function")
    module = _import_file(Path(path), name) if is_file else _import(path, name)
    if not hasattr(module, attribute):
        public = [
            key for key, value in vars(module).items()
            if callable(value) and not key.startswith("_") and getattr(value, "__module__", "") == module.__name__
        ]  # fmt: skip
        raise UnknownNameError(f"function of {path}", attribute, public)
    build, folder = getattr(module, attribute), (Path(path).resolve().parent if is_file else Path.cwd())
    if isinstance(build, nn.Module | VisionModel):
        return (lambda: build), folder
    if not callable(build):
        raise ModelError(f"{name}: wanted a function or class, {attribute} is a {type(build).__name__}")
    needed = _needed_arguments(build)
    if needed:
        raise ModelError(
            f"{name}: takes the arguments {', '.join(needed)}, wanted none: write a function without arguments that "
            f"calls it, such as def build(): return {attribute}(...)"
        )
    return build, folder


def _needed_arguments(build: Callable[..., Any]) -> list[str]:
    """The names of the arguments without a default."""
    try:
        parameters = inspect.signature(build).parameters.values()
    except (ValueError, TypeError):  # of a builtin
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.default is one.empty and one.kind not in optional]


def _import_file(path: Path, name: str) -> ModuleType:
    """Import a file; the modules of its folder are importable meanwhile, and the file is not another import of it."""
    if not path.is_file():
        raise ModelError(f"{name}: no such file: {path}")
    full = path.resolve()
    spec = importlib.util.spec_from_file_location(full.stem, full)
    if spec is None or spec.loader is None:
        raise ModelError(f"{name}: {path} cannot be imported")
    known = sys.modules.get(full.stem)
    if known is not None and _file_of(known) == full:
        return known
    module = importlib.util.module_from_spec(spec)
    # Classes look their module up by name, for example dataclasses. A module of another file keeps its name.
    is_new = known is None
    if is_new:
        sys.modules[full.stem] = module
    try:
        with _folders_first(full.parent, Path.cwd()):
            spec.loader.exec_module(module)
    except Exception as error:
        if is_new:
            sys.modules.pop(full.stem, None)
        raise ModelError(f"{name}: importing {path} fails: {type(error).__name__}: {error}") from error
    return module


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def _import(path: str, name: str) -> ModuleType:
    try:
        with _folders_first(Path.cwd()):
            return importlib.import_module(path)
    except Exception as error:
        raise ModelError(
            f"{name}: no built-in model, no library of that name, and importing {path} fails: "
            f"{type(error).__name__}: {error}"
        ) from error


@contextlib.contextmanager
def _folders_first(*folders: Path) -> Iterator[None]:
    before = list(sys.path)
    sys.path[:0] = map(str, folders)
    try:
        yield
    finally:
        sys.path[:] = before

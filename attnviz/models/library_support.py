"""Helpers of the loaders: errors of downloads, class names and notes."""

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from attnviz.core.model_outputs import logits_of
from attnviz.errors import ModelError, WeightsError
from attnviz.media.images import Preprocess
from attnviz.models.builtin import RANDOM_NOTE
from attnviz.models.class_names import imagenet_labels, numbered_labels
from attnviz.models.weights_file import fit_weights, read_weights

SQUASH_NOTE = (
    "The model's own preprocessing resizes the whole image to a square; here the centre square is used, so that maps "
    "keep their proportions."
)
IMAGENET_PREPROCESS = Preprocess(224, 256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
IMAGENET_PREPROCESS_NOTE = "Preprocessing: the usual one for ImageNet, 224 px of 256."


def import_library(module: str, package: str) -> ModuleType:
    """Import a module of a library.

    Raises:
        ModelError: the library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelError(f"{package} is not installed ({error}): pip install 'attnviz[zoo]'") from error


@contextlib.contextmanager
def download_errors(name: str, hint: str = "give a file with --weights PATH, or --weights none") -> Iterator[None]:
    """Turn any exception of a download, whose types depend on the library, into a :class:`WeightsError`."""
    try:
        yield
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:160]
        raise WeightsError(f"{name}: cannot be loaded ({type(error).__name__}: {reason}); {hint}") from error


def load_weights_file(module: nn.Module, weights: str | Path) -> None:
    """Load ``weights`` into ``module`` if it is a file."""
    if weights not in {"default", "none"}:
        fit_weights(module, read_weights(weights), weights)


def notes_of(weights: str | Path, *, squashes: bool = False) -> tuple[str, ...]:
    """Return the notes about random weights and about a preprocessing that changes proportions."""
    random = (RANDOM_NOTE,) if weights == "none" else ()
    return (*random, SQUASH_NOTE) if squashes else random


def class_names(count: int) -> Sequence[str]:
    """Return the ImageNet names for 1000 classes, numbered names for other counts."""
    return imagenet_labels() if count == 1000 else numbered_labels(count)


@torch.no_grad()
def count_outputs(module: nn.Module, preprocess: Preprocess, name: str) -> int:
    """Return the number of logits for an image.

    Raises:
        ModelError: the model fails, or its output holds no logits ``(N, K)``.
    """
    shape = (1, preprocess.channels, *preprocess.size)
    try:
        output = module(torch.zeros(shape))
    except Exception as error:
        raise ModelError(
            f"{name}: fails on an input of shape {shape}: {type(error).__name__}: {error}"
        ) from error
    return logits_of(output, name).shape[1]


def interpolation_name(name: str) -> Any:
    """Return the name of a supported interpolation; bicubic for all others."""
    return name if name in {"bicubic", "bilinear", "lanczos"} else "bicubic"

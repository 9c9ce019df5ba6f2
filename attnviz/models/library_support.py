"""Helpers of the loaders: errors of imports and downloads, and notes."""

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from attnviz.errors import ModelError, WeightsError
from attnviz.models.builtin import RANDOM_NOTE


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


def notes_of(weights: str | Path) -> tuple[str, ...]:
    """Return the note about random weights."""
    return (RANDOM_NOTE,) if weights == "none" else ()

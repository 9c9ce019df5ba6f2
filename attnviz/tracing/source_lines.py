"""The line of the model that called an operation."""

from __future__ import annotations

import functools
import sys
import sysconfig
from pathlib import Path
from types import FrameType

import torch

import attnviz.instrumentation

_LIBRARY = sysconfig.get_paths()["purelib"]
_SKIPPED = tuple(str(Path(path).parent) for path in (torch.__file__, attnviz.instrumentation.__file__, __file__))


@functools.lru_cache(maxsize=1024)
def _short(path: str, working_folder: str) -> str:
    """The path relative to the folder of installed packages or to the working folder, if it is inside one of them."""
    for folder in (_LIBRARY, working_folder):
        if folder and path.startswith(folder + "/"):
            return path[len(folder) + 1 :]
    return path


def working_folder() -> str:
    """The working folder; empty if it was deleted."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def source_of_caller(folder: str) -> str:
    """``file:line`` of the nearest caller outside PyTorch, instrumentation and tracing.

    Args:
        folder: The working folder, to which files inside it are relative.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith(_SKIPPED):
            return f"{_short(path, folder)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""

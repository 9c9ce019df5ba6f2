"""Versions of the software that training results depend on."""

from __future__ import annotations

import platform

import numpy as np
import PIL
import torch

from attnviz import __version__


def versions() -> dict[str, str]:
    """Return the versions of attnviz, Python and the libraries that training results depend on."""
    return {
        "attnviz": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }

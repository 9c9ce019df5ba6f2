"""Whether a folder can be written, asked before the work that fills it."""

from __future__ import annotations

import os
from pathlib import Path

from attnviz.errors import OutputError


def check_folder(folder: Path, what: str) -> None:
    """Say before the work that a folder cannot be written; it need not be there yet, and is not made.

    Args:
        folder: Where to.
        what: What for: ``"report"``.

    Raises:
        OutputError: it is a file, lies below one, or may not be written.
        OSError: it cannot be looked into.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, wanted a folder for the {what}")
    parent = folder
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise OutputError(f"{folder}: cannot be made, {parent} is a file")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: cannot be written, no permission in {parent}")

"""Write files so that an interruption leaves either the old one or the new one, never half of one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

_READABLE = 0o644  # some writers make private files


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in ``path``'s place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        write(beside)
        beside.chmod(_READABLE)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, atomically."""
    write_atomically(path, lambda beside: beside.write_text(json.dumps(content, indent=1) + "\n"))

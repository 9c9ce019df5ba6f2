"""Data as scripts: a page that was opened from a file may load scripts, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.core.packing import packed


def call(name: str, *values: Any) -> str:
    r"""A script that hands values to a function of the page.

    Nothing in them can end a script or a line: all but ASCII is escaped, and so is ``<``.

    >>> call("take", 1, {"name": "</script>\u2028é"})
    'attnviz.take(1,{"name":"\\u003c/script>\\u2028\\u00e9"});\n'
    """
    texts = [json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c") for value in values]
    return f"attnviz.{name}({','.join(texts)});\n"


def write_call(path: Path, name: str, *values: Any) -> None:
    """Write such a script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(call(name, *values), encoding="ascii")


def plain(value: float) -> float | None:
    """A number in five digits; ``None`` for NaN and infinity.

    >>> plain(0.123456789), plain(float("nan"))
    (0.12346, None)
    """
    return float(f"{value:.5g}") if np.isfinite(value) else None


def floats(values: Array) -> str:
    """Numbers as base64 of 32-bit floats, NaN included."""
    return packed(np.asarray(values, np.float32))

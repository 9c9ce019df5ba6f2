"""Data as scripts: a page opened from a file can load scripts but no other data."""

import json
from pathlib import Path
from typing import Any

import numpy as np


def call(name: str, *values: Any) -> str:
    r"""Return a script that passes values to a function of the page.

    Non-ASCII characters and ``<`` are escaped, so that no value can end the script or a line.

    >>> call("take", 1, {"name": "</script>\u2028é"})
    'attnviz.take(1,{"name":"\\u003c/script>\\u2028\\u00e9"});\n'
    """
    texts = [json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c") for value in values]
    return f"attnviz.{name}({','.join(texts)});\n"


def write_call(path: Path, name: str, *values: Any) -> None:
    """Write the script of :func:`call`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(call(name, *values), encoding="ascii")


def rounded(value: float) -> float | None:
    """Round a number to five digits; ``None`` for NaN and infinity.

    >>> rounded(0.123456789), rounded(float("nan"))
    (0.12346, None)
    """
    return float(f"{value:.5g}") if np.isfinite(value) else None

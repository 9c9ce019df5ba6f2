"""Components of numbers: named bars and sorted profiles."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.core.component import COMPONENTS, Backdrop, Component
from attnviz.report.core.formatting import number

_WIDTH, _HEIGHT = 100, 40


@COMPONENTS.register("bars")
@dataclass(frozen=True, slots=True, eq=False)
class Bars(Component):
    """A few named numbers, each with a bar.

    Attributes:
        names: Name of each bar.
        values: ``(n,)``. Bars start at 0; the longest possible bar is the largest absolute value, at least 1.
    """

    names: tuple[str, ...]
    values: Array

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """Return name, number and length of each bar."""
        shares = 100 * np.abs(self.values) / max(1.0, float(np.abs(self.values).max(initial=0.0)))
        bars = zip(self.names, self.values.tolist(), shares, strict=True)
        return {"bars": [{"name": name, "value": number(one), "share": f"{share:.1f}"} for name, one, share in bars]}


@COMPONENTS.register("profile")
@dataclass(frozen=True, slots=True, eq=False)
class Profile(Component):
    """Many numbers in descending order. Several series are sorted by the first one.

    Attributes:
        names: Name of each series.
        values: ``(series, n)``.
        unit: Plural noun for the numbers: ``"channels"``.
    """

    names: tuple[str, ...]
    values: Array
    unit: str

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """Return an SVG path for each series, in a box of 100 × 40."""
        order = np.argsort(-self.values[0], kind="stable")
        top = max(1.0, float(self.values.max(initial=0.0)))
        low = min(0.0, float(self.values.min(initial=0.0)))
        rows = [
            {"name": name, "mean": number(float(series.mean())), "path": _stairs(series[order], low, top)}
            for name, series in zip(self.names, self.values, strict=True)
        ]
        return {"rows": rows, "top": number(top), "low": number(low), "count": self.values.shape[1], "unit": self.unit}


def _stairs(values: Array, low: float, top: float) -> str:
    """Return the outline of bars without gaps as an SVG path; adjacent bars of equal height are merged.

    >>> _stairs(np.array([1.0, 1.0, 0.5, 0.0]), 0.0, 1.0)
    'M0,40V0H50V20H75V40H100V40Z'
    """
    heights = np.round(_HEIGHT * (top - values) / max(top - low, 1e-30), 2)
    ends = [*(np.flatnonzero(np.diff(heights)) + 1), len(heights)]
    base = _HEIGHT * top / max(top - low, 1e-30)
    path = f"M0,{base:g}"
    for end in ends:
        path += f"V{heights[end - 1]:g}H{_WIDTH * end / len(heights):.4g}"
    return f"{path}V{base:g}Z"

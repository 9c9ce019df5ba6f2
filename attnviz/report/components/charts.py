"""Components of plain numbers: a few named ones, and many that are sorted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.components.base import COMPONENTS
from attnviz.report.core.component import Backdrop, StaticImage
from attnviz.report.core.formatting import number

_WIDTH, _HEIGHT = 100, 40


@COMPONENTS.register("bars")
@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """A few numbers, each with a name and a bar.

    Attributes:
        title: A few words.
        caption: What is seen.
        names: One for each bar.
        values: ``(n,)``; bars start at 0 and end at the largest of 1 and all sizes.
    """

    title: str
    caption: str
    names: tuple[str, ...]
    values: Array

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """Names, numbers and lengths."""
        shares = 100 * np.abs(self.values) / max(1.0, float(np.abs(self.values).max(initial=0.0)))
        return {
            "bars": [
                {"name": name, "value": number(float(value)), "share": f"{share:.1f}"}
                for name, value, share in zip(self.names, self.values, shares, strict=True)
            ]
        }

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """None: the page shows them."""
        return []


@COMPONENTS.register("profile")
@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """Many numbers without an order of their own, the largest first; several series keep the order of the first.

    Attributes:
        title: A few words.
        caption: What is seen.
        names: One for each series.
        values: ``(series, n)``.
        unit: What is counted, in the plural: ``"channels"``.
    """

    title: str
    caption: str
    names: tuple[str, ...]
    values: Array
    unit: str

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """An outline for each series, in a box of 100 × 40."""
        order = np.argsort(-self.values[0], kind="stable")
        top = max(1.0, float(self.values.max(initial=0.0)))
        low = min(0.0, float(self.values.min(initial=0.0)))
        rows = [
            {"name": name, "mean": number(float(series.mean())), "path": _stairs(series[order], low, top)}
            for name, series in zip(self.names, self.values, strict=True)
        ]
        return {"rows": rows, "top": number(top), "low": number(low), "count": self.values.shape[1], "unit": self.unit}

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """None: the figure has a chart of its own."""
        return []


def _stairs(values: Array, low: float, top: float) -> str:
    """The outline of bars without gaps, as an SVG path; neighbours of the same height are one step.

    >>> _stairs(np.array([1.0, 1.0, 0.5, 0.0]), 0.0, 1.0)
    'M0,40V0H50V20H75V40H100V40Z'
    """
    heights = np.round(_HEIGHT * (top - values) / max(top - low, 1e-30), 2)
    last = [*(np.flatnonzero(np.diff(heights)) + 1), len(heights)]
    base = _HEIGHT * top / max(top - low, 1e-30)
    path = f"M0,{base:g}"
    for end in last:
        path += f"V{heights[end - 1]:g}H{_WIDTH * end / len(heights):.4g}"
    return f"{path}V{base:g}Z"

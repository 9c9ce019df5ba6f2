"""Drawing of box plots."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnviz.report.core.formatting import cut_middle
from attnviz.report.dataset.figures import Boxes, BoxRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"attention": "#1f7a78", "attribution": "#b26a2c", "site": "#1f7a78", "pair": "#5b6ea8", "answer": "#6c5a8e"}
_STYLE = {"text.parse_math": False, "font.family": "DejaVu Sans"}


def save(one: Boxes, path: Path) -> tuple[int, int]:
    """Write the figure, and return its width and height in pixels.

    A character that is missing from the font is drawn as a box; the table of the figure contains it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = draw(one)
        figure.savefig(path)
    width, height = figure.bbox.size
    return round(float(width)), round(float(height))


def draw(one: Boxes) -> Figure:
    """Draw the figure, without pyplot's global state."""
    import seaborn as sns
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = max(map(len, one.panels.values()))
    style: Any = dict(sns.axes_style("whitegrid", {"axes.edgecolor": ".8", "grid.color": ".92"}))
    style |= {**dict(sns.plotting_context("paper")), **_STYLE}
    with rc_context(style):
        width = min(4.6 * len(one.panels) + 0.6, 13.0)
        figure = Figure(figsize=(width, 0.75 + 0.24 * rows), layout="constrained", dpi=110)
        axes: list[Axes] = list(figure.subplots(1, len(one.panels), sharex=True, squeeze=False)[0])
        for axis, (model, members) in zip(axes, one.panels.items(), strict=True):
            _panel(axis, members)
            axis.set_title(cut_middle(model, 40) if len(one.panels) > 1 else "", fontsize=8, loc="left")
    return figure


def _panel(axis: Axes, rows: Sequence[BoxRow]) -> None:
    import seaborn as sns

    names = ("whislo", "q1", "med", "q3", "whishi")
    quantiles = [np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)) for _, _, values in rows]
    stats: list[dict[str, Any]] = [dict(zip(names, map(float, one), strict=True)) | {"fliers": []} for one in quantiles]
    line = {"color": "0.25", "linewidth": 0.8}
    artists = axis.bxp(
        stats, range(len(rows)), widths=0.62, patch_artist=True, showfliers=False, **_horizontal(axis),
        medianprops={"color": "black", "linewidth": 1.4}, whiskerprops=line, capprops=line, boxprops={"linewidth": 0.8},
    )  # fmt: skip
    for box, (_, kind, _) in zip(artists["boxes"], rows, strict=True):
        box.set(facecolor=_COLOURS[kind], alpha=0.75)
    axis.set_yticks(range(len(rows)), [cut_middle(name) for name, _, _ in rows])
    axis.invert_yaxis()
    axis.tick_params(labelsize=7, length=0)
    sns.despine(ax=axis, left=True)


def _horizontal(axis: Axes) -> dict[str, Any]:
    """Return the argument for horizontal boxes: ``orientation`` since Matplotlib 3.10, ``vert`` before."""
    return {"orientation": "horizontal"} if "orientation" in signature(axis.bxp).parameters else {"vert": False}

"""The figures of a comparison: maps over images, maps by metrics, agreement, and curves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from attnviz.core.comparison_results import Comparison, Row
from attnviz.core.glossary import title
from attnviz.report.core.colours import overlay
from attnviz.report.core.formatting import cut_start
from attnviz.report.core.map_view import MapView, colour_range
from attnviz.report.core.study_report import ReportFigure, cluster_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 6
_TILE_IN, _TITLE_IN, _HEADER_IN = 1.6, 0.3, 0.3  # side of a tile, title of a tile, header of an image, in inches


def draw(comparison: Comparison) -> Iterator[ReportFigure]:
    """Yield the figures for which the comparison has data."""
    if comparison.shown:
        yield ReportFigure("maps", "Maps over the images", _MAPS_CAPTION, maps(comparison))
    if comparison.metrics:
        yield ReportFigure("matrix", "Maps by metrics", _MATRIX_CAPTION, matrix(comparison))
    if len(comparison.compared) > 1:
        yield ReportFigure("agreement", "Agreement of maps", _AGREEMENT_CAPTION, clusters(comparison))
    yield ReportFigure("curves", "Insertion and deletion", _CURVES_CAPTION, curves(comparison))


_MAPS_CAPTION = (
    "Maps over the first images as cropped for the model. Each map has its own colour scale: viridis for attention, "
    "inferno for attributions, blue to red for a map with both signs. Colours of two maps cannot be compared."
)
_MATRIX_CAPTION = (
    "Each column has its own colour scale, brighter is better. The number is the mean over the images. The last rows "
    "are baselines that do not depend on the image: by that metric, a map that is not better has no support."
)
_AGREEMENT_CAPTION = (
    "Rank correlation of the strengths of two maps, averaged over the images. Similar maps are adjacent. Two maps can "
    "be similar only because both favour the centre."
)
_CURVES_CAPTION = (
    "Mean probability of the class while the strongest pixels are inserted into a blurred image (good maps rise "
    "early), and while they are deleted (good maps fall early). Grey lines are baselines that ignore the image."
)


def maps(comparison: Comparison) -> Figure:
    """Draw each image, for each model, with its maps."""
    from matplotlib.figure import Figure as Canvas

    kinds = {row.name: row.kind for row in comparison.compared}
    rows = [-(-(1 + len(shown.maps)) // _COLUMNS) for shown in comparison.shown]
    heights = [_HEADER_IN + count * (_TILE_IN + _TITLE_IN) for count in rows]
    figure = Canvas(figsize=(_COLUMNS * _TILE_IN, sum(heights)), dpi=160)
    parts = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights)
    edges = {"left": 0.01, "right": 0.99, "bottom": 0.0, "wspace": 0.04, "hspace": _TITLE_IN / _TILE_IN}
    for part, shown, count, height in zip(parts[:, 0], comparison.shown, rows, heights, strict=True):
        title = f"{cut_start(Path(shown.image).name, 40)} · {shown.model} · target: {shown.target}"
        part.suptitle(title, fontsize=9, x=0.01, ha="left", parse_math=False)
        top = 1 - (_HEADER_IN + _TITLE_IN) / height
        axes = part.subplots(count, _COLUMNS, gridspec_kw={**edges, "top": top}).ravel()
        for axis in axes:
            axis.set_axis_off()
        axes[0].imshow(shown.pixels)
        for axis, (name, values) in zip(axes[1:], shown.maps.items(), strict=False):
            scale = colour_range(values, kind=kinds[name])
            axis.imshow(overlay(shown.pixels, MapView(name, kinds[name], "", "", values, *scale)))
            short = fill(name.removeprefix(f"{shown.model}: ").replace(".", ". "), 26)  # wrapped after words and dots
            axis.set_title(short.replace(". ", "."), fontsize=7)
    return figure


def matrix(comparison: Comparison) -> Figure:
    """Draw maps as rows and metrics as columns."""
    import seaborn as sns
    from matplotlib.figure import Figure as Canvas

    metrics = comparison.metrics
    values = np.array([[row.cells[metric.name].value for metric in metrics] for row in comparison.rows])
    sign = np.array([1.0 if metric.higher_is == "better" else -1.0 for metric in metrics])
    score, unknown = sign * values, np.isnan(values)
    low = np.where(unknown, np.inf, score).min(axis=0)
    spread = np.where(unknown, -np.inf, score).max(axis=0) - low
    shade = np.where(unknown, 0.0, score - np.where(np.isfinite(low), low, 0.0)) / np.where(spread > 0, spread, 1.0)
    names = [row.name for row in comparison.rows]
    figure = Canvas(figsize=(2.6 + 1.1 * len(metrics), 1.2 + 0.32 * len(names)), dpi=160, layout="constrained")
    axis = figure.add_subplot()
    titles = [f"{title('measure', m.name)} {'↑' if m.higher_is == 'better' else '↓'}" for m in metrics]
    sns.heatmap(
        shade, ax=axis, annot=values, fmt=".3f", cmap="viridis", cbar=False, xticklabels=titles, yticklabels=names,
        linewidths=0.5, vmin=0, vmax=1, annot_kws={"fontsize": 7}, mask=unknown,
    )  # fmt: skip
    axis.tick_params(length=0, labelsize=7)
    axis.set_xticks(axis.get_xticks(), titles, rotation=30, ha="right", rotation_mode="anchor")
    axis.axhline(len(comparison.compared), color="white", linewidth=3)
    return figure


def clusters(comparison: Comparison, measure: str = "spearman") -> Figure:
    """Draw the agreement of all pairs of maps, ordered by average linkage; a pair without a number is left blank."""
    values = np.array(comparison.agreement[measure], dtype=float)
    names = [row.name for row in comparison.compared]
    colours = ["#c05621" if row.kind == "attention" else "#2b6cb0" for row in comparison.compared]
    side = 3.2 + 0.34 * len(names)
    grid = cluster_map(
        values, cmap="vlag", vmin=-1, vmax=1, xticklabels=names, yticklabels=names, figsize=(side, side),
        row_colors=colours, annot=len(names) <= 14, fmt=".2f", annot_kws={"fontsize": 6}, dendrogram_ratio=0.14,
        mask=np.isnan(values), cbar_pos=(0.02, 0.86, 0.03, 0.1), linewidths=0.4,
    )  # fmt: skip
    grid.ax_heatmap.tick_params(length=0, labelsize=7)
    figure: Figure = grid.figure
    figure.set_dpi(160)
    return figure


def curves(comparison: Comparison) -> Figure:
    """Draw insertion on the left and deletion on the right, a row for each model."""
    import seaborn as sns
    from matplotlib.figure import Figure as Canvas

    models = list(dict.fromkeys(row.model for row in comparison.rows))
    shares = [100 * share for share in comparison.shares]
    figure = Canvas(figsize=(9, 3.6 * len(models)), dpi=160, layout="constrained")
    panels = figure.subplots(len(models), 2, sharey=True, squeeze=False)
    for model, axes in zip(models, panels, strict=True):
        _curves(axes, shares, [row for row in comparison.rows if row.model == model])
        for axis, curve in zip(axes, ("Insertion", "Deletion"), strict=True):
            axis.set(title=curve, xlabel="pixels changed, strongest first (%)", xlim=(0, 100))
            axis.grid(visible=True, linewidth=0.3, color="0.9")
        axes[0].set_ylabel("probability of the class")
        axes[1].legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    sns.despine(figure)
    return figure


def _curves(axes: tuple[Axes, Axes], shares: list[float], rows: list[Row]) -> None:
    import seaborn as sns

    colours = iter(sns.color_palette("husl", sum(row.kind != "baseline" for row in rows)))
    baseline_styles = iter(("--", ":"))
    for row in rows:
        colour, style = ("0.5", next(baseline_styles)) if row.kind == "baseline" else (next(colours), "-")
        for axis, name in zip(axes, ("insertion", "deletion"), strict=True):
            axis.plot(shares, getattr(row, name), label=row.name, linewidth=1.2, color=colour, linestyle=style)

"""The figures of a comparison: maps by metrics, agreement with its clusters, and curves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from attnviz.core.comparison_results import words
from attnviz.report.core.colours import overlay
from attnviz.report.core.map_view import MapView, colour_range
from attnviz.report.core.templating import Drawn
from attnviz.report.explanation.figure_layout import cut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attnviz.core.comparison_results import Comparison

_TILES = 6  # in a row
_TILE_IN, _TITLE_IN, _HEAD_IN = 1.6, 0.3, 0.3  # side of a tile; above a tile; above the tiles of an image


def draw(found: Comparison) -> Iterator[Drawn]:
    """Every figure that the comparison has something for."""
    if found.shown:
        yield Drawn("maps", "Maps over the images", _READ_MAPS, maps(found))
    if found.metrics:
        yield Drawn("matrix", "Maps by metrics", _READ_MATRIX, matrix(found))
    if len(found.compared) > 1:
        yield Drawn("agreement", "Which maps agree", _READ_AGREEMENT, clusters(found))
    yield Drawn("curves", "Insertion and deletion", _READ_CURVES, curves(found))


_READ_MAPS = (
    "Each map in its own colours over the first images, as the model saw them: viridis for attention, inferno for "
    "attributions, blue to red where a map has both signs. Colours of two maps say nothing of their sizes."
)
_READ_MATRIX = (
    "Each column has its own colours, brighter is better; the number is the mean over the images. The last rows know "
    "nothing of the image: a map that is no better is not worth believing by that test."
)
_READ_AGREEMENT = (
    "Rank correlation of the strength of two maps, averaged over the images. Maps that are alike are joined first. "
    "Maps may be alike because both favour the middle."
)
_READ_CURVES = (
    "Mean probability of the class while the strongest pixels appear in a blurred image (good maps rise early), and "
    "while they are removed (good maps fall early). Grey lines are maps that know nothing."
)


def maps(found: Comparison) -> Figure:
    """A band for each image and model: the image, then its maps."""
    from matplotlib.figure import Figure as Canvas

    kinds = {row.name: row.kind for row in found.compared}
    bands = [-(-(1 + len(shown.maps)) // _TILES) for shown in found.shown]
    heights = [_HEAD_IN + band * (_TILE_IN + _TITLE_IN) for band in bands]
    figure = Canvas(figsize=(_TILES * _TILE_IN, sum(heights)), dpi=160)
    sheets = figure.subfigures(len(bands), 1, squeeze=False, height_ratios=heights)
    edges = {"left": 0.01, "right": 0.99, "bottom": 0.0, "wspace": 0.04, "hspace": _TITLE_IN / _TILE_IN}
    for sheet, shown, band, height in zip(sheets[:, 0], found.shown, bands, heights, strict=True):
        title = f"{cut(Path(shown.image).name, 40)} · {shown.model} · asked: {shown.target}"
        sheet.suptitle(title, fontsize=9, x=0.01, ha="left", parse_math=False)
        top = 1 - (_HEAD_IN + _TITLE_IN) / height
        axes = sheet.subplots(band, _TILES, gridspec_kw={**edges, "top": top}).ravel()
        for axis in axes:
            axis.set_axis_off()
        axes[0].imshow(shown.pixels)
        for axis, (name, values) in zip(axes[1:], shown.maps.items(), strict=False):
            scale = colour_range(values, kind=kinds[name])
            axis.imshow(overlay(shown.pixels, MapView(name, kinds[name], "", "", values, *scale)))
            axis.set_title(_in_lines(name.removeprefix(f"{shown.model}: ")), fontsize=7)
    return figure


def _in_lines(name: str) -> str:
    """A name broken after words and dots."""
    return fill(name.replace(".", ". "), 26).replace(". ", ".")


def matrix(found: Comparison) -> Figure:
    """Maps as rows, metrics as columns."""
    import seaborn as sns
    from matplotlib.figure import Figure as Canvas

    values = np.array([[row.cells[metric.name].value for metric in found.metrics] for row in found.rows])
    sign = np.array([1.0 if metric.higher_is == "better" else -1.0 for metric in found.metrics])
    best, unknown = sign * values, np.isnan(values)
    low = np.where(unknown, np.inf, best).min(axis=0)
    spread = np.where(unknown, -np.inf, best).max(axis=0) - low
    shade = np.where(unknown, 0.0, best - np.where(np.isfinite(low), low, 0.0)) / np.where(spread > 0, spread, 1.0)
    names = [row.name for row in found.rows]
    figure = Canvas(figsize=(2.6 + 1.1 * len(found.metrics), 1.2 + 0.32 * len(names)), dpi=160, layout="constrained")
    axis = figure.add_subplot()
    arrows = [f"{words(m.name)} {'↑' if m.higher_is == 'better' else '↓'}" for m in found.metrics]
    sns.heatmap(
        shade, ax=axis, annot=values, fmt=".3f", cmap="viridis", cbar=False, xticklabels=arrows, yticklabels=names,
        linewidths=0.5, vmin=0, vmax=1, annot_kws={"fontsize": 7}, mask=unknown,
    )  # fmt: skip
    axis.tick_params(length=0, labelsize=7)
    axis.set_xticks(axis.get_xticks(), arrows, rotation=30, ha="right", rotation_mode="anchor")
    axis.axhline(len(found.compared), color="white", linewidth=3)
    return figure


def clusters(found: Comparison, measure: str = "spearman") -> Figure:
    """The agreement of each map with each, ordered by average linkage; a pair without a number is left blank."""
    import seaborn as sns
    from matplotlib import pyplot as plt
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    values = np.array(found.agreement[measure], dtype=float)
    apart = 1 - np.nan_to_num(values, nan=0.0)
    np.fill_diagonal(apart, 0.0)
    joined = linkage(squareform((apart + apart.T) / 2, checks=False), method="average")
    names = [row.name for row in found.compared]
    colours = ["#c05621" if row.kind == "attention" else "#2b6cb0" for row in found.compared]
    side = 3.2 + 0.34 * len(names)
    grid = sns.clustermap(
        np.nan_to_num(values, nan=0.0), row_linkage=joined, col_linkage=joined, cmap="vlag", vmin=-1, vmax=1,
        xticklabels=names, yticklabels=names, figsize=(side, side), row_colors=colours, annot=len(names) <= 14,
        fmt=".2f",
        annot_kws={"fontsize": 6}, dendrogram_ratio=0.14,
        mask=np.isnan(values), cbar_pos=(0.02, 0.86, 0.03, 0.1), linewidths=0.4,
    )  # fmt: skip
    grid.ax_heatmap.tick_params(length=0, labelsize=7)
    figure: Figure = grid.figure
    figure.set_dpi(160)
    plt.close(figure)
    return figure


def curves(found: Comparison) -> Figure:
    """Insertion on the left, deletion on the right; a row for each model."""
    import seaborn as sns
    from matplotlib.figure import Figure as Canvas

    models = list(dict.fromkeys(row.model for row in found.rows))
    figure = Canvas(figsize=(9, 3.6 * len(models)), dpi=160, layout="constrained")
    panels = figure.subplots(len(models), 2, sharey=True, squeeze=False)
    for model, axes in zip(models, panels, strict=True):
        rows = [row for row in found.rows if row.model == model]
        colours = iter(sns.color_palette("husl", sum(row.kind != "baseline" for row in rows)))
        blind = iter(("--", ":"))
        for row in rows:
            known = row.kind != "baseline"
            colour, line = (next(colours), "-") if known else ("0.5", next(blind))
            for axis, name in zip(axes, ("insertion", "deletion"), strict=True):
                shares = [100 * share for share in found.shares]
                axis.plot(shares, getattr(row, name), label=row.name, linewidth=1.2, color=colour, linestyle=line)
        for axis, title in zip(axes, ("Insertion", "Deletion"), strict=True):
            axis.set(title=title, xlabel="pixels changed, strongest first (%)", xlim=(0, 100))
            axis.grid(visible=True, linewidth=0.3, color="0.9")
        axes[0].set_ylabel("probability of the class")
        axes[1].legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    sns.despine(figure)
    return figure

"""The figures of a comparison: maps by metrics, agreement with its clusters, and curves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from attnviz.report.pages import Drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attnviz.comparison import Comparison


def draw(found: Comparison) -> Iterator[Drawn]:
    """Every figure that the comparison has something for."""
    if found.metrics:
        yield Drawn("matrix", "Maps by metrics", _READ_MATRIX, matrix(found))
    if len(found.compared) > 1:
        yield Drawn("agreement", "Which maps agree", _READ_AGREEMENT, clusters(found))
    yield Drawn("curves", "Insertion and deletion", _READ_CURVES, curves(found))


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
    "while they are removed (good maps fall early). Dashed lines are maps that know nothing."
)


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
    arrows = [f"{m.name.replace('_', ' ')} {'↑' if m.higher_is == 'better' else '↓'}" for m in found.metrics]
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
    """Insertion on the left, deletion on the right."""
    import seaborn as sns
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(9, 3.6), dpi=160, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    colours = sns.color_palette("husl", len(found.compared))
    for axis, name in zip(axes, ("insertion", "deletion"), strict=True):
        for number, row in enumerate(found.rows):
            known = row.kind != "baseline"
            axis.plot(
                [100 * share for share in found.shares], getattr(row, name), label=row.name, linewidth=1.2,
                color=colours[number] if known else "0.5", linestyle="-" if known else "--",
            )  # fmt: skip
        axis.set(title=name.capitalize(), xlabel="pixels changed, strongest first (%)", xlim=(0, 100))
        axis.grid(visible=True, linewidth=0.3, color="0.9")
    axes[0].set_ylabel("probability of the class")
    axes[1].legend(fontsize=6, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    sns.despine(figure)
    return figure

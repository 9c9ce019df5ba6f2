"""The charts of ``panel.png``: channel gates, and agreement of the maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnviz.core.glossary import title
from attnviz.report.core.document import Document, channel_gates
from attnviz.report.core.formatting import cut_start
from attnviz.report.explanation.figure_layout import MAX_ATTENTION_MAPS, bands_of, label, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def gate_chart(axis: Axes, document: Document) -> None:
    """Draw the sorted weights of each channel gate."""
    import seaborn as sns

    gates = channel_gates(document)
    names = short_names([site.name for site in document.sites])
    highest = 1.0
    for site, colour in zip(gates, sns.color_palette("viridis", len(gates) + 1), strict=False):
        if site.g is None:
            continue
        weights = np.sort(site.g)[::-1]
        highest = max(highest, float(weights[0]))
        percent = np.linspace(0, 100, len(weights))
        text = f"{cut_start(names[site.name])} ({len(weights)})"
        axis.plot(percent, weights, color=colour, linewidth=1.1, label=text)
    axis.set(xlabel="channels, most open first (%)", ylabel="g", xlim=(0, 100))
    axis.set_ylim(min(0.0, axis.get_ylim()[0]), 1.03 * highest)
    axis.set_title("Channel gates", loc="left")
    axis.grid(visible=True, linewidth=0.3, color="0.9")
    if len(gates) <= MAX_ATTENTION_MAPS:
        legend = {"frameon": False, "fontsize": 5.5, "title_fontsize": 5.5, "handlelength": 1.0, "borderaxespad": 0.0}
        axis.legend(title="site (channels)", loc="upper left", bbox_to_anchor=(1.02, 1), alignment="left", **legend)
    sns.despine(ax=axis)


def agreement_chart(axis: Axes, bar: Axes, document: Document) -> None:
    """Draw the first measure of agreement of all pairs of maps in the figure."""
    import seaborn as sns

    measure, scores = next(iter(document.measures_between_maps().items()))
    (_, attributions), *attention = bands_of(document)
    views = [view for band in (*(views for _, views in attention), attributions) for view in band if view is not None]
    names = [view.name for view in views]
    values = np.array([[scores[a, b].value if (a, b) in scores else np.nan for b in names] for a in names])
    upper = np.triu(np.ones_like(values, dtype=bool))
    signed = next(iter(scores.values())).low < 0
    labels = [label(view, document) for view in views]
    sns.heatmap(
        values[1:, :-1], mask=upper[1:, :-1], ax=axis, cbar_ax=bar, square=True, cmap="vlag" if signed else "viridis",
        vmin=-1 if signed else 0, vmax=1, annot=len(names) <= 14, fmt=".1f", annot_kws={"fontsize": 4.5},
        xticklabels=labels[:-1], yticklabels=labels[1:], linewidths=0.4,
    )  # fmt: skip
    axis.tick_params(length=0, labelsize=5.5, pad=1)
    axis.set_xticks(axis.get_xticks(), labels[:-1], rotation=40, ha="right", rotation_mode="anchor")
    bar.tick_params(length=1.5, width=0.4, labelsize=5.5)
    axis.set_title(f"Agreement: {title('measure', measure)}", loc="right")

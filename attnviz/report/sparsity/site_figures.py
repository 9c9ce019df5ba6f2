"""The figures of a sparsity study that describe the sites of one model."""

import numpy as np

from attnviz.core.sparsity_results import Matrix, ModelFinding
from attnviz.report.core.study_report import ReportFigure, cluster_map
from attnviz.report.sparsity.figure_helpers import MAX_LABELS, WIDTH, depth_colours, label_ticks, new_axes


def distributions(model: ModelFinding) -> ReportFigure | None:
    """Box plots of the entries of ``g``, over depth."""
    sites = [site for site in model.sites if site.quantiles]
    if not sites:
        return None
    figure, (axes,) = new_axes(width=max(WIDTH, 0.32 * len(sites) + 2))
    boxes = [
        {"med": q["0.5"], "q1": q["0.25"], "q3": q["0.75"], "whislo": q["0.05"], "whishi": q["0.95"], "label": s.name}
        for s in sites
        for q in [s.quantiles]
    ]
    artists = axes.bxp(boxes, showfliers=False, patch_artist=True, widths=0.6)
    for box, colour in zip(artists["boxes"], depth_colours(len(boxes)), strict=True):
        box.set(facecolor=colour, alpha=0.75, linewidth=0.6)
    for line in artists["medians"]:
        line.set(color="black", linewidth=1.2)
    label_ticks(axes.set_xticks, range(1, len(sites) + 1), [site.name for site in sites])
    axes.set(ylabel="entries of g", xlabel="site, in the order of the forward pass")
    caption = (
        "Boxes from the 25th to the 75th percentile with the median, whiskers from the 5th to the 95th, of all entries "
        "over all images. A box without height is a site that treats all entries alike."
    )
    return ReportFigure("distributions", "Distribution of g, over depth", caption, figure)


def lorenz(model: ModelFinding) -> ReportFigure | None:
    """Lorenz curves of ``g``."""
    sites = [site for site in model.sites if site.lorenz]
    if not sites:
        return None
    figure, (axes,) = new_axes(height=4.0, width=4.6)
    axes.plot([0, 1], [0, 1], color=".6", linewidth=0.8, linestyle="--")
    for site, colour in zip(sites, depth_colours(len(sites)), strict=True):
        axes.plot(np.linspace(0, 1, len(site.lorenz)), site.lorenz, color=colour, linewidth=1.2, label=site.name)
    axes.set(xlabel="share of entries, weakest first", ylabel="share of strength", xlim=(0, 1), ylim=(0, 1))
    if len(sites) <= 14:
        axes.legend(fontsize=6, frameon=False, loc="upper left")
    caption = (
        "The diagonal is a g with equal entries. The farther a curve is below it, the fewer entries hold the strength. "
        "Colours run from the first site (dark) to the last. The curves describe g, not which entries are needed."
    )
    return ReportFigure("lorenz", "Lorenz curves of g", caption, figure)


def sinks(model: ModelFinding) -> ReportFigure | None:
    """Site × key: the attention that each key receives, relative to a uniform share."""
    if not model.received:
        return None
    import seaborn as sns

    table = np.full((len(model.received), max(map(len, model.received.values()))), np.nan)
    for row, keys in zip(table, model.received.values(), strict=True):
        row[: len(keys)] = keys
    figure, (axes,) = new_axes(height=max(2.2, 0.22 * len(table) + 1.2), width=8)
    sns.heatmap(table, ax=axes, cmap="rocket", vmin=0, cbar_kws={"label": "× a uniform share"}, xticklabels=False)
    label_ticks(axes.set_yticks, np.arange(len(table)) + 0.5, list(model.received), rotation=0)
    axes.set(xlabel="key", ylabel="")
    caption = (
        "Attention that each key receives from the mean query, over all heads and images, relative to a uniform share. "
        "A bright column is a sink: a token to which nearly all queries attend, for any image."
    )
    return ReportFigure("sinks", "Attention sinks", caption, figure)


def agreement(model: ModelFinding) -> ReportFigure | None:
    """Rank correlation of the maps of every two sites."""
    if model.agreement is None or len(model.agreement.names) < 2:
        return None
    import seaborn as sns

    names = model.agreement.names
    side = max(3.4, 0.26 * len(names) + 1.6)
    figure, (axes,) = new_axes(height=side, width=side + 0.8)
    sns.heatmap(
        np.array(model.agreement.values), ax=axes, cmap="vlag", vmin=-1, vmax=1, square=True, xticklabels=False,
        cbar_kws={"label": "rank correlation", "shrink": 0.7},
    )  # fmt: skip
    label_ticks(axes.set_yticks, np.arange(len(names)) + 0.5, names, rotation=0)
    caption = (
        "Whether two sites attend to the same positions: the rank correlation of their maps, averaged over images. "
        "Sites without positions, such as channel gates, are left out."
    )
    return ReportFigure("agreement", "Agreement of sites across depth", caption, figure)


def head_clusters(heads: Matrix) -> ReportFigure:
    """Similarity of the attention maps of all heads, clustered."""
    import matplotlib as mpl

    labelled = len(heads.names) <= MAX_LABELS
    side = 6.4 if labelled else 7.5
    with mpl.rc_context({"figure.dpi": 110}):
        grid = cluster_map(
            np.array(heads.values), cmap="mako", vmin=0, vmax=1, figsize=(side, side), xticklabels=False,
            yticklabels=list(heads.names) if labelled else False, cbar_kws={"label": "cosine"},
        )  # fmt: skip
        if labelled:
            grid.ax_heatmap.tick_params(labelsize=5)
    caption = (
        "Cosine similarity of the attention maps of every two heads, averaged over images. Similar heads are adjacent; "
        "a bright block is a group of redundant heads."
    )
    return ReportFigure("heads", "Redundant heads", caption, grid.figure)

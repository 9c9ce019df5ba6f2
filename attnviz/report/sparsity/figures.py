"""The figures of a study of sparsity, by seaborn: each is drawn where a study has what it shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from attnviz.core.sparsity_results import CausalFinding, Matrix, ModelFinding, SparsityStudy
from attnviz.report.core.templating import Drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALL = "all sites"
_HEIGHT, _WIDTH = 3.2, 5.2
_MOST_NAMES = 48
_ORDERS = {"strongest": "#1f7a78", "random": "#8a8a86", "weakest": "#b24c3c"}


def draw(study: SparsityStudy) -> Iterator[Drawn]:
    """All figures that the study has something for, one at a time; close each when it is written."""
    import seaborn as sns

    with sns.axes_style("whitegrid", {"axes.edgecolor": ".8", "grid.color": ".92"}), sns.plotting_context("paper"):
        for model in study.models:
            tag = f"-{_slug(model.model)}" if len(study.models) > 1 else ""
            named = f" · {model.model}" if len(study.models) > 1 else ""
            for make in (_distributions, _lorenz, _pruning, _answers, _sinks, _agreement):
                drawn = make(model)
                if drawn is not None:
                    yield drawn._replace(name=drawn.name + tag, title=drawn.title + named)
            for number, heads in enumerate(model.heads):
                if len(heads.names) > 2:
                    more = f"-{number + 1}" if number else ""
                    drawn = _head_clusters(heads)
                    yield drawn._replace(name=drawn.name + more + tag, title=drawn.title + named)
        compared = _compared(study)
        if compared is not None:
            yield compared


def _axes(
    count: int = 1, height: float = _HEIGHT, width: float = _WIDTH, columns: int = 2
) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=110)
    grid = figure.subplots(rows, columns, squeeze=False)
    axes: list[Axes] = list(grid.flat)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def _distributions(model: ModelFinding) -> Drawn | None:
    """Boxes of the entries of ``g``, site by site, over depth."""
    sites = [site for site in model.sites if site.quantiles]
    if not sites:
        return None
    figure, (axes,) = _axes(width=max(_WIDTH, 0.32 * len(sites) + 2))
    boxes = [
        {"med": q["0.5"], "q1": q["0.25"], "q3": q["0.75"], "whislo": q["0.05"], "whishi": q["0.95"], "label": s.name}
        for s in sites
        for q in [s.quantiles]
    ]
    drawn = axes.bxp(boxes, showfliers=False, patch_artist=True, widths=0.6)
    for box, colour in zip(drawn["boxes"], _colours(len(boxes)), strict=True):
        box.set(facecolor=colour, alpha=0.75, linewidth=0.6)
    for line in drawn["medians"]:
        line.set(color="black", linewidth=1.2)
    _name_ticks(axes.set_xticks, range(1, len(sites) + 1), [site.name for site in sites])
    axes.set(ylabel="entries of g", xlabel="site, in the order of the forward pass")
    reading = (
        "Boxes from the 25th to the 75th percentile with the median, whiskers from the 5th to the 95th, of all entries "
        "over all images. Flat boxes at one value mean that a site treats everything alike."
    )
    return Drawn("distributions", "What g is, over depth", reading, figure)


def _lorenz(model: ModelFinding) -> Drawn | None:
    sites = [site for site in model.sites if site.lorenz]
    if not sites:
        return None
    figure, (axes,) = _axes(height=4.0, width=4.6)
    axes.plot([0, 1], [0, 1], color=".6", linewidth=0.8, linestyle="--")
    for site, colour in zip(sites, _colours(len(sites)), strict=True):
        axes.plot(np.linspace(0, 1, len(site.lorenz)), site.lorenz, color=colour, linewidth=1.2, label=site.name)
    axes.set(xlabel="share of entries, weakest first", ylabel="share of strength", xlim=(0, 1), ylim=(0, 1))
    if len(sites) <= 14:
        axes.legend(fontsize=6, frameon=False, loc="upper left")
    reading = (
        "The diagonal is a g that treats all alike; the further a curve hangs below it, the fewer entries hold the "
        "strength. Colours run from the first site (dark) to the last. It shows what g looks like, not what is needed."
    )
    return Drawn("lorenz", "Lorenz curves of g", reading, figure)


def _pruning(model: ModelFinding) -> Drawn | None:
    scopes = [one for one in model.causal if one.curves]
    if not scopes:
        return None
    scopes = sorted(scopes, key=lambda one: one.scope != ALL)[:12]
    figure, axes = _axes(len(scopes), height=2.3, width=3.2, columns=4)
    for plot, one in zip(axes, scopes, strict=True):
        _curves(plot, one)
        plot.set_title(one.scope, fontsize=8)
    axes[0].legend(fontsize=7, frameon=False)
    reading = (
        "Probability of the model's answer, relative to the plain model, while a share of g is kept and the rest is 0; "
        "bands are 95 % intervals. Where 'strongest' rises early and far above 'random', the order of g matters. A low "
        "curve may also be surprise: what follows was never trained with entries missing."
    )
    return Drawn("pruning", "What is needed: pruning curves", reading, figure)


def _answers(model: ModelFinding) -> Drawn | None:
    """All sites together: what the pruning does to the answers, beside their probability."""
    together = [one for one in model.causal if one.curves and (one.scope == ALL or len(model.causal) == 1)]
    if not together:
        return None
    figure, axes = _axes(len(_KEPT), height=2.6, width=3.4, columns=3)
    for plot, what in zip(axes, _KEPT, strict=True):
        _curves(plot, together[0], what)
    axes[0].legend(fontsize=7, frameon=False)
    reading = (
        "The same pruning seen in three ways: the probability of the answer, whether it stays the first, and the "
        "divergence of all classes from the plain model's. A model may give its answer a higher probability without "
        "attention, and for that it is no less needed: then the other two tell more."
    )
    return Drawn("answers", f"What is needed: {together[0].scope}", reading, figure)


_KEPT = {"probability": "probability kept", "top1": "first answers kept", "kl": "KL, nats"}


def _curves(axes: Axes, one: CausalFinding, what: str = "probability") -> None:
    for order, colour in _ORDERS.items():
        curve = one.curves.get(f"{order}.{what}")
        if curve is not None:
            axes.plot(one.shares, curve.mean, color=colour, linewidth=1.4, marker="o", markersize=2.5, label=order)
            axes.fill_between(one.shares, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="share of g kept", ylabel=_KEPT[what], xlim=(0, 1))
    if what == "kl":
        axes.set_ylim(bottom=0)
    else:
        axes.axhline(0.95, color=".6", linewidth=0.7, linestyle=":")
        axes.set_ylim(0, 1.25 if what == "probability" else 1.05)


def _sinks(model: ModelFinding) -> Drawn | None:
    """Site × key, what each key takes relative to an even share."""
    lengths = [len(keys) for keys in model.received.values()]
    if not lengths:
        return None
    import seaborn as sns

    widest = max(lengths)
    table = np.full((len(lengths), widest), np.nan)
    for row, keys in zip(table, model.received.values(), strict=True):
        row[: len(keys)] = keys
    figure, (axes,) = _axes(height=max(2.2, 0.22 * len(lengths) + 1.2), width=8)
    sns.heatmap(table, ax=axes, cmap="rocket", vmin=0, cbar_kws={"label": "× an even share"}, xticklabels=False)
    _name_ticks(axes.set_yticks, np.arange(len(lengths)) + 0.5, list(model.received), rotation=0)
    axes.set(xlabel="key", ylabel="")
    reading = (
        "What each key takes of the mean query's attention, over all heads and images, relative to an even share. A "
        "bright column is a sink: a token that nearly all queries attend to, whatever the image."
    )
    return Drawn("sinks", "Attention sinks", reading, figure)


def _agreement(model: ModelFinding) -> Drawn | None:
    if model.agreement is None or len(model.agreement.names) < 2:
        return None
    import seaborn as sns

    names = model.agreement.names
    side = max(3.4, 0.26 * len(names) + 1.6)
    figure, (axes,) = _axes(height=side, width=side + 0.8)
    sns.heatmap(
        np.array(model.agreement.values), ax=axes, cmap="vlag", vmin=-1, vmax=1, square=True, xticklabels=False,
        cbar_kws={"label": "rank correlation", "shrink": 0.7},
    )  # fmt: skip
    _name_ticks(axes.set_yticks, np.arange(len(names)) + 0.5, list(names), rotation=0)
    reading = (
        "Whether two sites attend to the same places, by the rank correlation of their maps, averaged over images. "
        "Sites without places, such as channel gates, are not in it."
    )
    return Drawn("agreement", "Agreement of sites across depth", reading, figure)


def _head_clusters(heads: Matrix) -> Drawn:
    import matplotlib as mpl
    import seaborn as sns
    from matplotlib import pyplot as plt
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    values = np.nan_to_num(np.array(heads.values))
    distance = np.clip(1 - (values + values.T) / 2, 0, None)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    few = len(heads.names) <= _MOST_NAMES
    side = 6.4 if few else 7.5
    with mpl.rc_context({"figure.dpi": 110}):
        grid = sns.clustermap(
            values, row_linkage=tree, col_linkage=tree, cmap="mako", vmin=0, vmax=1, figsize=(side, side),
            xticklabels=False, yticklabels=list(heads.names) if few else False, cbar_kws={"label": "cosine"},
        )  # fmt: skip
        if few:
            grid.ax_heatmap.tick_params(labelsize=5)
    plt.close(grid.figure)
    reading = (
        "Cosine of the attention maps of every two heads, averaged over images; those that attend alike stand "
        "together. A bright block is one map, computed several times."
    )
    return Drawn("heads", "Heads that repeat each other", reading, grid.figure)


def _compared(study: SparsityStudy) -> Drawn | None:
    """Several models side by side: how sparse they look, and what of it they need."""
    if len(study.models) < 2:
        return None
    import seaborn as sns

    causal = [one for model in study.models for one in model.causal if one.scope == ALL or len(model.causal) == 1]
    figure, axes = _axes(3 if causal else 1, columns=3)
    names = [m.model for m in study.models for s in m.sites if "g.gini" in s.measures]
    ginis = [s.measures["g.gini"].value for m in study.models for s in m.sites if "g.gini" in s.measures]
    if not names:
        return None
    sns.stripplot(x=ginis, y=names, hue=names, ax=axes[0], legend=False, size=4, jitter=0.2, palette="deep")
    axes[0].set(xlabel="Gini index of g, one dot per site", ylabel="", xlim=(0, 1))
    for plot, what in zip(axes[1:], ("probability", "top1"), strict=False):
        for model, colour in zip(study.models, sns.color_palette("deep", len(study.models)), strict=True):
            for one in model.causal:
                curve = one.curves.get(f"strongest.{what}")
                if curve is not None and (one.scope == ALL or len(model.causal) == 1):
                    plot.plot(one.shares, curve.mean, color=colour, label=model.model, marker="o", markersize=2.5)
                    plot.fill_between(one.shares, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        plot.set(xlabel="share of g kept at all sites, strongest first", ylabel=_KEPT[what], xlim=(0, 1))
        plot.set_ylim(bottom=0)
        plot.legend(fontsize=7, frameon=False)
    reading = "Left how sparse g looks, right of it how little of it the answer needs. They need not agree."
    return Drawn("models", "Models side by side", reading, figure)


def _colours(count: int) -> list[Any]:
    import seaborn as sns

    return list(sns.color_palette("viridis", count))


def _name_ticks(set_ticks: Callable[..., object], at: Any, names: list[str], rotation: float = 60) -> None:
    """Name every tick, or as many as there is room for."""
    step = max(1, math.ceil(len(names) / _MOST_NAMES))
    align = {"ha": "right"} if rotation else {}
    set_ticks(list(at)[::step], names[::step], rotation=rotation, fontsize=6, **align)


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name).strip("-").lower()

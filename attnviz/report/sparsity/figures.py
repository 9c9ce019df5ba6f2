"""The figures of a sparsity study of one or several models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from attnviz.core.sparsity_results import CausalFinding, ModelFinding, SparsityStudy
from attnviz.report.core.study_report import ReportFigure
from attnviz.report.sparsity.figure_helpers import ALL, KEPT, effects_of, new_axes, plot_curve, plot_orders
from attnviz.report.sparsity.site_figures import agreement, distributions, head_clusters, lorenz, sinks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(study: SparsityStudy) -> Iterator[ReportFigure]:
    """Yield the figures for which the study has data, one at a time."""
    import seaborn as sns

    with sns.axes_style("whitegrid", {"axes.edgecolor": ".8", "grid.color": ".92"}), sns.plotting_context("paper"):
        for model in study.models:
            suffix = title = ""
            if len(study.models) > 1:
                slug = "".join(letter if letter.isalnum() else "-" for letter in model.model)
                suffix, title = f"-{slug.strip('-').lower()}", f" · {model.model}"
            for one in _model_figures(model):
                yield one._replace(name=one.name + suffix, title=one.title + title)
        compared = _compared(study)
        if compared is not None:
            yield compared


def _model_figures(model: ModelFinding) -> Iterator[ReportFigure]:
    for make in (distributions, lorenz, _pruning, _predictions, sinks, agreement):
        figure = make(model)
        if figure is not None:
            yield figure
    for number, heads in enumerate(model.heads):
        if len(heads.names) > 2:
            figure = head_clusters(heads)
            yield figure._replace(name=f"{figure.name}-{number + 1}") if number else figure


def _pruning(model: ModelFinding) -> ReportFigure | None:
    """Pruning curves of all sites together and of single sites."""
    scopes = sorted((one for one in model.causal if one.curves), key=lambda one: one.scope != ALL)[:12]
    if not scopes:
        return None
    figure, axes = new_axes(len(scopes), height=2.3, width=3.2, columns=4)
    for axis, one in zip(axes, scopes, strict=True):
        plot_orders(axis, one)
        axis.set_title(one.scope, fontsize=8)
    axes[0].legend(fontsize=7, frameon=False)
    caption = (
        "Probability of the predicted class, or the score of another target, relative to the unmodified model, while a "
        "share of g is kept and the rest is set to 0; bands are 95 % intervals. Where 'strongest' rises early and far "
        "above 'random', the order of g matters. A low curve can also be an artefact: the model was never trained with "
        "missing entries."
    )
    return ReportFigure("pruning", "Pruning curves", caption, figure)


def _predictions(model: ModelFinding) -> ReportFigure | None:
    """Effect of pruning all sites together on the predictions."""
    together = [one for one in model.causal if one.curves and _is_joint(one, model)]
    if not together:
        return None
    effects = effects_of(together[0])
    if len(effects) < 2:
        return None
    figure, axes = new_axes(len(effects), height=2.6, width=3.4, columns=3)
    for axis, what in zip(axes, effects, strict=True):
        plot_orders(axis, together[0], what)
    axes[0].legend(fontsize=7, frameon=False)
    caption = (
        "Three measures of the same pruning: the probability of the predicted class, how often it remains the most "
        "probable, and the KL divergence of all classes from the unmodified model. Pruning can also increase the "
        "probability of the predicted class; the other two measures show whether attention is needed then."
    )
    return ReportFigure("answers", f"Effect of pruning: {together[0].scope}", caption, figure)


def _compared(study: SparsityStudy) -> ReportFigure | None:
    """Several models: sparsity of g, and the effect of pruning."""
    ginis = [(m.model, s.measures["g.gini"].value) for m in study.models for s in m.sites if "g.gini" in s.measures]
    if len(study.models) < 2 or not ginis:
        return None
    import seaborn as sns

    causal = any(_is_joint(one, model) for model in study.models for one in model.causal)
    figure, axes = new_axes(3 if causal else 1, columns=3)
    names, values = zip(*ginis, strict=True)
    sns.stripplot(
        x=list(values), y=list(names), hue=list(names), ax=axes[0], legend=False, size=4, jitter=0.2, palette="deep"
    )
    axes[0].set(xlabel="Gini index of g, one dot per site", ylabel="", xlim=(0, 1))
    for axis, what in zip(axes[1:], ("probability", "top1"), strict=False):
        _plot_models(axis, study, what)
    caption = "Left: sparsity of g. Right: share of g that the predictions need. The two need not agree."
    return ReportFigure("models", "Comparison of models", caption, figure)


def _plot_models(axis: Axes, study: SparsityStudy, what: str) -> None:
    import seaborn as sns

    for model, colour in zip(study.models, sns.color_palette("deep", len(study.models)), strict=True):
        for one in model.causal:
            curve = one.curves.get(f"strongest.{what}")
            if curve is not None and _is_joint(one, model):
                plot_curve(axis, one.shares, curve, colour, model.model)
    axis.set(xlabel="share of g kept at all sites, strongest first", ylabel=KEPT[what], xlim=(0, 1))
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=7, frameon=False)


def _is_joint(one: CausalFinding, model: ModelFinding) -> bool:
    return one.scope == ALL or len(model.causal) == 1

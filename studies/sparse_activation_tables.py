"""Tables and the joint figure of ``sparse_activation.py``, from its results."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnviz.core.intervals import Interval
from attnviz.core.sparsity_results import CausalFinding, ModelFinding, SiteFinding

COLUMNS = (
    "site kind gini input_share dead saturated never_used needed needed_low needed_high looks gap gap_low gap_high "
    "area_strongest area_random area_weakest kl_uniform kl_mean kl_other top1_mean"
).split()

MODEL_COLUMNS = (
    "model", "Gini of `g`, range over sites", "looks", "needed", "top-1 kept, all pruned", "strongest 2 %",
    "strongest 10 %", "strongest 50 %", "random 10 %", "random 50 %", "KL, uniform", "KL, mean", "KL, other image",
    "top-1 kept, mean",
)  # fmt: skip
SITE_COLUMNS = (
    "site", "kind", "Gini of `g`", "input share", "looks", "needed", "top-1 kept, all pruned", "strongest 2 %",
    "strongest 10 %", "random 10 %", "KL, uniform", "KL, mean", "KL, other image", "heads, distinct",
)  # fmt: skip
_MODEL_SHARES = (
    ("strongest", 0.0), ("strongest", 0.02), ("strongest", 0.1), ("strongest", 0.5), ("random", 0.1), ("random", 0.5)
)  # fmt: skip
_SITE_SHARES = (("strongest", 0.0), ("strongest", 0.02), ("strongest", 0.1), ("random", 0.1))


def write_rows(path: Path, finding: ModelFinding) -> None:
    """Write one CSV row per scope: each site, and all sites together."""
    sites = {site.name: site for site in finding.sites}
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for one in finding.causal:
            rows.writerow([one.scope, *_sparsity_cells(sites.get(one.scope)), *_causal_cells(one)])


def _sparsity_cells(site: SiteFinding | None) -> list[object]:
    """The measures of a site; empty for all sites together."""
    if site is None:
        return [""] * 6
    gini, share = _mean(site.measures.get("g.gini")), _number(site.input_share)
    return [site.kind, gini, share, site.dead, site.saturated, site.never_used]


def _causal_cells(one: CausalFinding) -> list[str]:
    """The results of the interventions on one scope."""
    intervals = ((one.needed, "value low high"), (one.looks, "value"), (one.gap, "value low high"))
    return [
        *(_number(getattr(interval, end)) if interval else "" for interval, ends in intervals for end in ends.split()),
        *(_mean(one.areas.get(order)) for order in ("strongest", "random", "weakest")),
        *(_mean(one.replaced.get(key)) for key in ("uniform.kl", "mean.kl", "other.kl", "mean.top1")),
    ]


def _mean(one: Interval | None) -> str:
    return _number(one.value) if one else ""


def _number(value: float) -> str:
    """Four significant digits; empty for NaN."""
    return "" if math.isnan(value) else f"{value:.4g}"


def write_tables(folder: Path) -> None:
    """Write ``tables.md`` from the JSON files: one table of all models, and one table of sites per model."""
    lines = [
        "# Sparse activation: all tables",
        "",
        "Written by `studies/sparse_activation.py`. The columns are defined in",
        "[the study](../sparse-activation.md) and in [measures](../../reference/measures.md).",
        "",
    ]
    for subject in ("scenes", "photographs"):
        rows = [_model_row(model) for model in _models(folder, subject)]
        lines += [f"## All sites together, {subject}", "", *_table(MODEL_COLUMNS, rows), ""]
    for model in _models(folder, "scenes"):
        sites = {site["name"]: site for site in model["sites"]}
        rows = [_site_row(one, sites.get(one["scope"])) for one in model["causal"]]
        lines += [f"## `{model['model']}`, site by site, {model['images']} scenes", "", *_table(SITE_COLUMNS, rows), ""]
    (folder / "tables.md").write_text("\n".join(lines), encoding="utf-8")


def _models(folder: Path, subject: str) -> list[dict[str, Any]]:
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"*.{subject}.json"))]
    return [model for result in results for model in result["models"]]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]


def _model_row(model: dict[str, Any]) -> list[str]:
    """A model with all its sites pruned or replaced together."""
    one = model["causal"][-1]
    gini = [site["measures"]["g.gini"]["value"] for site in model["sites"]]
    return [
        f"`{model['model']}`", f"{min(gini):.2f}–{max(gini):.2f}", _interval(one["looks"]), _interval(one["needed"]),
        *(_kept(one, order, share) for order, share in _MODEL_SHARES),
        *(_interval(one["replaced"][f"{by}.kl"]) for by in ("uniform", "mean", "other")),
        _interval(one["replaced"]["mean.top1"]),
    ]  # fmt: skip


def _site_row(one: dict[str, Any], site: dict[str, Any] | None) -> list[str]:
    """One scope of interventions; without measures for all sites together."""
    measures, heads = [""] * 3, ""
    if site is not None:
        measures = [site["kind"], _interval(site["measures"].get("g.gini")), _digits(site["input_share"])]
        heads = f"{site['heads']['count']}, {site['heads']['distinct']}" if site["heads"] else ""
    return [
        f"`{one['scope']}`", *measures, _interval(one["looks"]), _interval(one["needed"]),
        *(_kept(one, order, share) for order, share in _SITE_SHARES),
        *(_interval(one["replaced"].get(f"{by}.kl")) for by in ("uniform", "mean", "other")), heads,
    ]  # fmt: skip


def _kept(one: dict[str, Any], order: str, share: float) -> str:
    """The share of images whose best class is kept, with its interval."""
    curve, index = one["curves"].get(f"{order}.top1"), one["shares"].index(share)
    return "" if curve is None else _between(curve["mean"][index], curve["low"][index], curve["high"][index])


def _interval(one: dict[str, Any] | None) -> str:
    return "" if one is None or one["value"] is None else _between(one["value"], one["low"], one["high"])


def _between(value: float, low: float | None, high: float | None) -> str:
    return _digits(value) if low is None or high is None else f"{_digits(value)} [{low:.2f}, {high:.2f}]"


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if abs(value) >= 0.01 or value == 0 else f"{value:.3f}"


def draw_all_models(folder: Path) -> None:
    """Draw ``mechanisms.png``: the share of best classes kept while all sites are pruned, one panel per model."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    models = _models(folder, "scenes")
    sns.set_theme(style="whitegrid", context="notebook")
    columns = min(4, len(models))
    rows = -(-len(models) // columns)
    shape = {"figsize": (3.4 * columns, 3.1 * rows), "sharex": True, "sharey": True, "layout": "constrained"}
    figure, axes = plt.subplots(rows, columns, squeeze=False, **shape)
    for panel, model in zip(axes.flat, models, strict=False):
        _draw_model(panel, model)
    for panel in axes.flat[len(models) :]:
        panel.set_axis_off()
    axes[0][0].legend(title="kept")
    figure.supxlabel("share of g that is kept, %")
    figure.supylabel("best classes kept, all sites pruned")
    figure.savefig(folder / "mechanisms.png", dpi=80)


def _draw_model(panel: Any, model: dict[str, Any]) -> None:
    one = model["causal"][-1]
    ticks = range(len(one["shares"]))
    for order, colour in zip(("strongest", "random", "weakest"), ("C0", "C7", "C3"), strict=True):
        curve = one["curves"][f"{order}.top1"]
        low, high = ([min(1.0, max(0.0, v)) for v in curve[end]] for end in ("low", "high"))
        panel.fill_between(ticks, low, high, color=colour, alpha=0.15, lw=0)
        panel.plot(ticks, curve["mean"], color=colour, marker="o", ms=3, label=order)
    panel.set_title(model["model"])
    panel.set_xticks(list(ticks)[::2], [f"{100 * share:g}" for share in one["shares"]][::2])

"""Convert a tally to results: means with intervals, counts and matrices."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attnviz.analyses.accumulators import Between, Tally
from attnviz.analyses.pruning import ORDERS
from attnviz.core.intervals import Interval
from attnviz.core.records import Site
from attnviz.core.sparsity_results import CausalFinding, CurveInterval, Heads, Matrix, ModelFinding, SiteFinding
from attnviz.edits import EDITS
from attnviz.metrics.attention_sinks import sinks
from attnviz.metrics.gate_diagnostics import dead, input_share, never_used, saturated
from attnviz.metrics.head_similarity import cka, clusters
from attnviz.metrics.streaming import Extremes, Histogram, Moments, Quantiles

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
BOUNDED = frozenset({"sigmoid", "hardsigmoid"})


def mean_with_interval(moments: Moments) -> Interval:
    """Return the mean over images with its interval; NaN without values."""
    low, high = moments.interval()
    n = int(moments.count)
    return Interval(float(moments.mean) if n else math.nan, float(low), float(high), n)


def found(
    model: str,
    images: int,
    names: Sequence[tuple[str, Site]],
    tally: Tally,
    shares: Sequence[float],
    notes: Iterable[str],
) -> ModelFinding:
    """Return the results of a model.

    Args:
        model: Name of the model.
        images: Number of images.
        names: Names of the records with their sites.
        tally: Tally of all images.
        shares: Shares of ``g`` that were kept.
        notes: Notes for the reader.
    """
    between = {what: v for (_, what), v in tally.items() if isinstance(what, Between) and isinstance(v, Moments)}
    known = {name for name, _ in names}
    outliers = {name: value for (name, what), value in tally.items() if what == "outliers"}
    keys = [(name, what) for name, what in tally if isinstance(what, str)]
    extra = dict.fromkeys(name for name, what in keys if name not in known and what.startswith(("before.", "after.")))
    received = {name: v.mean for name, _ in names if isinstance(v := tally.get((name, "received")), Moments)}
    scopes = dict.fromkeys(name for name, what in keys if what.endswith((".kl", ".score")))
    return ModelFinding(
        model,
        images,
        tuple(site_finding(name, site, tally) for name, site in names),
        {name: _measures(name, tally) for name in extra},
        tuple(_causal(scope, tally, shares) for scope in scopes),
        tuple(_matrix(what, value.mean) for what, value in between.items() if what.measure == "cosine"),
        next((_matrix(what, value.mean) for what, value in between.items() if what.measure == "agreement"), None),
        {name: tuple((keys.mean(0) * keys.shape[1]).tolist()) for name, keys in received.items()},
        {name: mean_with_interval(value) for name, value in outliers.items() if isinstance(value, Moments)},
        tuple(notes),
    )  # fmt: skip


def site_finding(name: str, site: Site, tally: Tally) -> SiteFinding:
    """Return the results of one site."""
    values, strengths, curve = (tally.get((name, what)) for what in ("values", "strengths", "lorenz"))
    at = values.at(torch.tensor(QUANTILES, dtype=torch.float64)).tolist() if isinstance(values, Quantiles) else []
    facts: dict[str, Any] = {}
    units, extremes, carried = (tally.get((name, what)) for what in ("units", "range", "carried"))
    if isinstance(units, Moments):
        facts.update(input_share=input_share(units), entries=units.mean.numel(), lifetime=_lifetime(units, extremes))
    if isinstance(extremes, Extremes):
        facts["dead"] = int(dead(extremes).sum())
        if site.squash in BOUNDED and float(extremes.high.max()) <= 1:
            facts["saturated"] = int(saturated(extremes).sum())
    if isinstance(carried, Extremes):
        facts.update(channels=carried.low.numel(), never_used=int(never_used(carried).sum()))
    return SiteFinding(
        name,
        site.kind.value,
        _measures(name, tally),
        {f"{q:g}": value for q, value in zip(QUANTILES, at, strict=False)},
        tuple(strengths.counts.tolist()) if isinstance(strengths, Histogram) else (),
        tuple(curve.mean.tolist()) if isinstance(curve, Moments) else (),
        heads=_heads(name, tally),
        **facts,
    )


def _measures(name: str, tally: Tally) -> dict[str, Interval]:
    parts = ("g.", "before.", "after.")
    return {
        what: mean_with_interval(value)
        for (site, what), value in tally.items()
        if site == name and isinstance(what, str) and what.startswith(parts) and isinstance(value, Moments)
    }


def _lifetime(units: Moments, extremes: object) -> float:
    """Return the mean lifetime sparsity from mean and variance; NaN for a signed gate."""
    if isinstance(extremes, Extremes) and float(extremes.low.min()) < 0:
        return math.nan
    n = units.count
    square = units.squares / n.clamp_min(1) + units.mean.square()
    sparsity = (1 - units.mean.square() / square) / (1 - 1 / n)
    return float(sparsity.clamp(0, 1)[(n > 1) & (square > 0)].mean())


def _heads(name: str, tally: Tally) -> Heads | None:
    received = tally.get((name, "received"))
    if not isinstance(received, Moments):
        return None
    keys = received.mean
    count = keys.shape[0]
    js, h = tally.get((name, "jensen_shannon")), tally.get((name, "hsic"))
    cosine = _own_cosine(name, tally)
    return Heads(
        count=count,
        distinct=len(set(clusters(cosine))),
        cosine=_between(cosine),
        jensen_shannon=_between(js.mean) if isinstance(js, Moments) else math.nan,
        cka=_between(cka(h.mean)) if isinstance(h, Moments) and bool((h.count > 0).all()) else math.nan,
        sinks=int(sinks(keys).any(1).sum()),
        strongest_key=float(keys.amax(1).mean()),
    )


def _own_cosine(name: str, tally: Tally) -> Tensor:
    """Return the block of one site in the matrix of all heads."""
    for (_, what), value in tally.items():
        if isinstance(what, Between) and what.measure == "cosine" and isinstance(value, Moments):
            start = 0
            for other, count in what.members:
                end = start + count
                if other == name:
                    return value.mean[start:end, start:end]
                start = end
    return torch.ones(1, 1)


def _between(similarity: Tensor) -> float:
    """Return the mean over pairs of different heads."""
    n = len(similarity)
    pairs = similarity[~torch.eye(n, dtype=torch.bool)]
    return float(pairs.nanmean()) if n > 1 else math.nan


def _matrix(between: Between, values: Tensor) -> Matrix:
    names: list[str] = []
    for name, count in between.members:
        names += [f"{name}·{head}" for head in range(count)] if between.measure == "cosine" else [name]
    return Matrix(tuple(names), tuple(map(tuple, values.tolist())))


def _causal(scope: str, tally: Tally, shares: Sequence[float]) -> CausalFinding:
    own: Mapping[str, Moments] = {
        what: value
        for (site, what), value in tally.items()
        if site == scope and isinstance(what, str) and isinstance(value, Moments)
    }
    curves = {what.removeprefix("pruned."): _curve(v) for what, v in own.items() if what.startswith("pruned.")}
    one = {what: mean_with_interval(own[what]) for what in ("needed", "looks", "gap") if what in own}
    names = (*(name for name in EDITS if EDITS[name].in_studies), "mean", "other")
    replaced = tuple(f"{name}." for name in names)
    return CausalFinding(
        scope,
        tuple(shares),
        curves,
        {order: mean_with_interval(own[f"area.{order}"]) for order in ORDERS if f"area.{order}" in own},
        one.get("needed"),
        one.get("looks"),
        one.get("gap"),
        {what: mean_with_interval(value) for what, value in own.items() if what.startswith(replaced)},
    )


def _curve(moments: Moments) -> CurveInterval:
    low, high = moments.interval()
    return CurveInterval(tuple(moments.mean.tolist()), tuple(low.tolist()), tuple(high.tolist()))

"""Images of a run with unusual results: confident errors, disagreeing maps, and unfaithful attributions."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.glossary import title as title_of_name
from attnviz.core.outliers import AGREEMENT, Outlier, strongest
from attnviz.report.core.formatting import number, visible
from attnviz.report.dataset.columns import Columns
from attnviz.report.dataset.overview import mean_column
from attnviz.report.dataset.predictions import WRONG, Predictions
from attnviz.report.dataset.run_folder import Run
from attnviz.report.dataset.shard_data import thumbnail

MAX_OUTLIERS = 8
FAITHFULNESS = {
    "insertion": 1, "road": 1, "comprehensiveness": 1, "deletion": -1, "average_drop": -1, "sufficiency": -1,
    "infidelity": -1,
}  # fmt: skip
"""Faithfulness metrics in order of preference: 1 if higher is better."""

MIN_PROBABILITY = 0.5
"""Smallest probability at which faithfulness is compared: a low probability has little to lose."""


class OutlierList(NamedTuple):
    """Outliers by one criterion, the most unusual first."""

    title: str
    text: str
    members: Sequence[Outlier]


def outlier_lists(run: Run, columns: Columns, predictions: Predictions) -> list[OutlierList]:
    """Return the lists of outliers; empty lists are left out."""
    wrong = np.where(predictions.states == WRONG, predictions.probability, np.nan)
    errors = _strongest(run, wrong, lambda p: f"p = {p:.2f}, and wrong")
    disagreeing = _strongest(run, -_means(run, columns, "pair", AGREEMENT), lambda s: f"agreement {-s:.2f}")
    text = "Images whose maps agree least, by the mean Spearman correlation of all pairs."
    lists = [
        OutlierList("Confident errors", "Wrong predictions with the highest probability.", errors),
        OutlierList("Disagreeing maps", text, disagreeing),
        _unfaithful(run, columns, predictions),
    ]
    return [one for one in lists if one is not None and one.members]


def _unfaithful(run: Run, columns: Columns, predictions: Predictions) -> OutlierList | None:
    measured = ((name, -sign * _means(run, columns, "attribution", name)) for name, sign in FAITHFULNESS.items())
    name, scores = next((one for one in measured if np.isfinite(one[1]).any()), ("", np.zeros(0)))
    if not name:
        return None
    sure = np.where(predictions.probability >= MIN_PROBABILITY, scores, np.nan)
    title, sign = title_of_name("measure", name), FAITHFULNESS[name]
    strengths = sure if np.isfinite(sure).any() else scores
    members = _strongest(run, strengths, lambda strength: f"{title} {number(-sign * strength)}")
    end = "Lowest" if sign > 0 else "Highest"
    text = f"{end} {title}, mean of all attributions, where p is {MIN_PROBABILITY} or more."
    return OutlierList("Unfaithful attributions", text, members)


def _means(run: Run, columns: Columns, kind: str, measure: str) -> Array:
    """Return the mean over all subjects of a kind, ``(models, images)``; NaN if there is none."""
    means = np.full((len(run.models), columns.values.shape[1]), np.nan, np.float32)
    for row, model in zip(means, run.models, strict=True):
        at = mean_column(columns, model, kind, measure)
        if at is not None:
            row[:] = columns.values[at]
    return means


def _strongest(run: Run, strengths: Array, describe: Callable[[float], str]) -> list[Outlier]:
    """Return the outliers of strengths ``(models, images)``; NaN for a result that is not one."""
    found = (
        Outlier(strength, item, "", model)
        for item, of_models in enumerate(strengths.T.tolist())
        for model, strength in zip(run.models, of_models, strict=True)
        if math.isfinite(strength)
    )
    return [replace(one, what=describe(one.strength)) for one in strongest(found, MAX_OUTLIERS)]


def cards(run: Run, outliers: Sequence[Outlier]) -> Iterator[dict[str, Any]]:
    """Yield name, prediction and thumbnail of each outlier."""
    for one in outliers:
        shard, model = one.item // run.shard_size, one.model
        rows = run.rows("answers", shard, ["item", "image", "model", "target_label", "label"])
        row = next(row for row in rows if row["item"] == one.item and row["model"] == model)
        jpegs = {row["model"] or "": row["jpeg"] for row in run.rows("thumbnails", shard) if row["item"] == one.item}
        jpeg = jpegs.get(model) or jpegs.get("")
        yield {
            "item": one.item,
            "text": one.what,
            "model": model if len(run.models) > 1 else "",
            "name": visible(row["image"]),
            "target": row["target_label"],
            "label": visible(row["label"] or ""),
            "uri": thumbnail(jpeg) if jpeg else "",
        }

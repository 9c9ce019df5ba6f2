"""Images of a run with unusual results: confident errors, disagreeing maps, and unfaithful attributions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.glossary import title as title_of_name
from attnviz.report.core.formatting import number, visible
from attnviz.report.dataset.columns import Columns
from attnviz.report.dataset.overview import AGREEMENT, mean_column
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


class Outlier(NamedTuple):
    """An image with an unusual result.

    Attributes:
        item: Number of the image.
        model: Index of the model.
        text: The unusual value.
    """

    item: int
    model: int
    text: str


class OutlierList(NamedTuple):
    """Outliers by one criterion, the most unusual first."""

    title: str
    text: str
    members: Sequence[Outlier]


def outlier_lists(run: Run, columns: Columns, predictions: Predictions) -> list[OutlierList]:
    """Return the lists of outliers; empty lists are left out."""
    lists = [_confident_errors(predictions), _disagreements(run, columns), _unfaithful(run, columns, predictions)]
    return [one for one in lists if one is not None and one.members]


def _confident_errors(predictions: Predictions) -> OutlierList:
    probability = predictions.probability
    members = [
        Outlier(item, model, f"p = {probability[model, item]:.2f}, and wrong")
        for item, model in _largest(np.where(predictions.states == WRONG, probability, -np.inf))
    ]
    return OutlierList("Confident errors", "Wrong predictions with the highest probability.", members)


def _disagreements(run: Run, columns: Columns) -> OutlierList:
    agreement = _means(run, columns, "pair", AGREEMENT)
    members = [Outlier(item, model, f"agreement {agreement[model, item]:.2f}") for item, model in _largest(-agreement)]
    text = "Images whose maps agree least, by the mean Spearman correlation of all pairs."
    return OutlierList("Disagreeing maps", text, members)


def _unfaithful(run: Run, columns: Columns, predictions: Predictions) -> OutlierList | None:
    for name, sign in FAITHFULNESS.items():
        scores = _means(run, columns, "attribution", name)
        if np.isfinite(scores).any():
            quality = np.where(predictions.probability >= MIN_PROBABILITY, sign * scores, np.nan)
            quality = quality if np.isfinite(quality).any() else sign * scores
            title = title_of_name("measure", name)
            members = [
                Outlier(item, model, f"{title} {number(float(scores[model, item]))}")
                for item, model in _largest(-quality)
            ]
            end = "Lowest" if sign > 0 else "Highest"
            text = f"{end} {title}, mean of all attributions, where p is {MIN_PROBABILITY} or more."
            return OutlierList("Unfaithful attributions", text, members)
    return None


def _means(run: Run, columns: Columns, kind: str, measure: str) -> Array:
    """Return the mean over all subjects of a kind, ``(models, images)``; NaN if there is none."""
    means = np.full((len(run.models), columns.values.shape[1]), np.nan, np.float32)
    for row, model in zip(means, run.models, strict=True):
        at = mean_column(columns, model, kind, measure)
        if at is not None:
            row[:] = columns.values[at]
    return means


def _largest(scores: Array) -> list[tuple[int, int]]:
    """Return item and model of the largest scores ``(models, images)``, at most one model per image."""
    known = np.where(np.isfinite(scores), scores, -np.inf)
    best, model = known.max(0), known.argmax(0)
    order = np.argsort(-best, kind="stable")[:MAX_OUTLIERS]
    return [(int(item), int(model[item])) for item in order if np.isfinite(best[item])]


def cards(run: Run, outliers: Sequence[Outlier]) -> Iterator[dict[str, Any]]:
    """Yield name, prediction and thumbnail of each outlier."""
    for one in outliers:
        shard, model = one.item // run.shard_size, run.models[one.model]
        rows = run.rows("answers", shard, ["item", "image", "model", "target_label", "label"])
        row = next(row for row in rows if row["item"] == one.item and row["model"] == model)
        jpegs = {row["model"] or "": row["jpeg"] for row in run.rows("thumbnails", shard) if row["item"] == one.item}
        jpeg = jpegs.get(model) or jpegs.get("")
        yield {
            "item": one.item,
            "text": one.text,
            "model": model if len(run.models) > 1 else "",
            "name": visible(row["image"]),
            "target": row["target_label"],
            "label": visible(row["label"] or ""),
            "uri": thumbnail(jpeg) if jpeg else "",
        }

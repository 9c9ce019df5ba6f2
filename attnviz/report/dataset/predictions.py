"""The predictions of a run, in a few bytes per image. Names and labels are written to the page shard by shard."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.core.formatting import visible
from attnviz.report.core.packing import packed
from attnviz.report.dataset.js_data import write_call
from attnviz.report.dataset.run_folder import Run

CHUNK = 2048
"""Smallest number of images of one script of the index, except the last."""

MISSING, FAILED, UNKNOWN, WRONG, CORRECT = range(5)
"""State of an image: not processed, failed, predicted without a known label, predicted wrongly, predicted correctly."""

MAX_FAILURES = 50
MAX_REASONS, OTHER = 500, "other reasons"
_FIELDS = ["item", "image", "label", "model", "status", "reason", "target_label", "probability", "correct"]


@dataclass(slots=True, eq=False)
class Predictions:
    """The predictions of a run.

    Attributes:
        states: ``(models, images)`` uint8, see :data:`MISSING` and the others.
        probability: ``(models, images)`` float32, of the most probable class; NaN if there is none.
        label: ``(images,)`` int32 index into ``labels``, -1 without a label.
        labels: The labels that occur.
        failures: The first failures: item, image, reason and models.
        reasons: Reason of a failure -> number of images.
    """

    states: Array
    probability: Array
    label: Array
    labels: list[str] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    _last: dict[str, Any] = field(default_factory=dict)

    def add_failure(self, item: int, image: str, model: str, reason: str) -> None:
        """Add a failure. Consecutive failures of an image for the same reason, with several models, count once."""
        if (self._last.get("item"), self._last.get("reason")) == (item, reason):
            self._last["models"].append(model)
            return
        self._last = {"item": item, "image": image, "reason": reason, "models": [model]}
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(self._last)
        key = reason if reason in self.reasons or len(self.reasons) < MAX_REASONS else OTHER
        self.reasons[key] = self.reasons.get(key, 0) + 1

    @property
    def processed(self) -> int:
        """Number of images with a prediction or a failure."""
        return int((self.states > MISSING).any(0).sum())

    @property
    def failed(self) -> int:
        """Number of images that failed with at least one model."""
        return int((self.states == FAILED).any(0).sum())


def read_predictions(run: Run, page: Path) -> tuple[Predictions, list[str]]:
    """Read all predictions, write the scripts of the index to ``page``, and return their names without ending."""
    size = (len(run.models), max(1, run.total))
    predictions = Predictions(
        np.zeros(size, np.uint8), np.full(size, np.nan, np.float32), np.full(size[1], -1, np.int32)
    )
    codes: dict[str, int] = {}
    scripts: list[str] = []
    pending: dict[int, dict[str, Any]] = {}
    for shard in run.shards:
        for row in run.rows("answers", shard, _FIELDS):
            _add(predictions, run, row, codes, pending)
        if len(pending) >= CHUNK or shard == run.shards[-1]:
            scripts.append(f"index/part-{len(scripts):06d}")
            write_call(page / f"{scripts[-1]}.js", "index", _index(predictions, pending, len(run.models)))
            pending.clear()
    predictions.labels = list(codes)
    return predictions, scripts


def _add(
    predictions: Predictions, run: Run, row: dict[str, Any], codes: dict[str, int], pending: dict[int, dict[str, Any]]
) -> None:
    item, model = row["item"], run.models.index(row["model"])
    row = row | {key: row[key] and visible(row[key]) for key in ("image", "label", "reason")}
    image = pending.setdefault(item, {"image": row["image"], "label": row["label"], "targets": {}})
    image["targets"][model] = row["target_label"] or ""
    if row["label"] is not None:
        predictions.label[item] = codes.setdefault(row["label"], len(codes))
    if row["status"] != "ok":
        predictions.states[model, item] = FAILED
        predictions.add_failure(item, row["image"], row["model"], row["reason"])
        return
    predictions.probability[model, item] = row["probability"]
    correct = row["correct"]
    predictions.states[model, item] = UNKNOWN if correct is None else CORRECT if correct else WRONG


def _index(predictions: Predictions, pending: dict[int, dict[str, Any]], models: int) -> dict[str, Any]:
    """Return the data of one script of the index."""
    items = sorted(pending)
    images = [pending[item] for item in items]
    return {
        "items": items,
        "names": [image["image"] for image in images],
        "labels": [image["label"] for image in images],
        "models": [
            {
                "targets": [image["targets"].get(model, "") for image in images],
                "states": packed(predictions.states[model, items]),
                "probability": packed(predictions.probability[model, items]),
            }
            for model in range(models)
        ],
    }

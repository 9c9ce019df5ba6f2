"""What the models answered, in a few bytes for each image; names and words go to the page shard by shard."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.core.formatting import visible
from attnviz.report.dataset.js_data import floats, write_call
from attnviz.report.dataset.run_folder import Run

CHUNK = 2048
"""Images of one script of the index, at least."""

ABSENT, FAILED, UNKNOWN, WRONG, CORRECT = range(5)
"""What became of an image: not there yet, failed, answered without a label to compare with, wrongly, correctly."""

MOST_FAILURES = 50
MOST_REASONS, OTHER = 500, "other reasons"
_FIELDS = ["item", "image", "label", "model", "status", "reason", "target_label", "probability", "correct"]


@dataclass(slots=True, eq=False)
class Answers:
    """What the models answered.

    Attributes:
        states: ``(models, images)`` uint8, see :data:`ABSENT` and the others.
        probability: ``(models, images)`` float32, of the first answer; NaN where there is none.
        label: ``(images,)`` int32 into ``labels``, -1 without one.
        labels: The labels that there are.
        failures: The first of them: item, image, reason, and the models that it is about.
        reasons: Reason -> how many images.
    """

    states: Array
    probability: Array
    label: Array
    labels: list[str] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    _last: dict[str, Any] = field(default_factory=dict)

    def failed(self, item: int, image: str, model: str, reason: str) -> None:
        """Note a failure; that of further models for the same reason, which follow each other, is the same one."""
        if (self._last.get("item"), self._last.get("reason")) == (item, reason):
            self._last["models"].append(model)
            return
        self._last = {"item": item, "image": image, "reason": reason, "models": [model]}
        if len(self.failures) < MOST_FAILURES:
            self.failures.append(self._last)
        counted = reason if reason in self.reasons or len(self.reasons) < MOST_REASONS else OTHER
        self.reasons[counted] = self.reasons.get(counted, 0) + 1


def read_answers(run: Run, page: Path) -> tuple[Answers, list[str]]:
    """Read all answers, and write the scripts of the index.

    Args:
        run: The run.
        page: The folder of the page.

    Returns:
        The answers, and the names of the scripts.
    """
    size = (len(run.models), max(1, run.total))
    found = Answers(
        np.zeros(size, np.uint8), np.full(size, np.nan, np.float32), np.full(size[1], -1, np.int32)
    )  # fmt: skip
    codes: dict[str, int] = {}
    scripts: list[str] = []
    waiting: dict[int, dict[str, Any]] = {}
    for shard in run.shards:
        for row in run.rows("answers", shard, _FIELDS):
            _take(found, run, row, codes, waiting)
        if len(waiting) >= CHUNK or shard == run.shards[-1]:
            name = f"index/part-{len(scripts):06d}.js"
            items = sorted(waiting)
            models = [_model(found, [waiting[item] for item in items], items, at) for at in range(len(run.models))]
            names = [waiting[item]["image"] for item in items]
            labels = [waiting[item]["label"] for item in items]
            write_call(page / name, "index", {"items": items, "names": names, "labels": labels, "models": models})
            scripts.append(name)
            waiting.clear()
    found.labels = list(codes)
    return found, scripts


def _take(
    found: Answers, run: Run, row: dict[str, Any], codes: dict[str, int], waiting: dict[int, dict[str, Any]]
) -> None:
    item, model = row["item"], run.models.index(row["model"])
    row = row | {key: row[key] and visible(row[key]) for key in ("image", "label", "reason")}
    known = waiting.setdefault(item, {"image": row["image"], "label": row["label"], "targets": {}})
    known["targets"][model] = row["target_label"] or ""
    if row["label"] is not None:
        found.label[item] = codes.setdefault(row["label"], len(codes))
    if row["status"] != "ok":
        found.states[model, item] = FAILED
        found.failed(item, row["image"], row["model"], row["reason"])
        return
    found.probability[model, item] = row["probability"]
    correct = row["correct"]
    found.states[model, item] = UNKNOWN if correct is None else CORRECT if correct else WRONG


def _model(found: Answers, known: list[dict[str, Any]], items: list[int], model: int) -> dict[str, Any]:
    return {
        "targets": [one["targets"].get(model, "") for one in known],
        "states": base64.b64encode(found.states[model, items].tobytes()).decode("ascii"),
        "probability": floats(found.probability[model, items]),
    }

"""Summary of a run: counts, means and outliers, computed shard by shard in constant memory."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from attnviz.batch.store import Store
from attnviz.core.json_encoding import to_plain
from attnviz.core.outliers import AGREEMENT, Outlier, strongest

Key: TypeAlias = tuple[str, ...]
"""Kind, subject, other and name of a measure."""

MOST = 10
_KEY = ("kind", "subject", "other", "measure")
_ANSWERS = ["item", "image", "label", "model", "status", "reason", "target_label", "probability", "correct", "sha256"]


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be processed."""

    item: int
    image: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """The results of one model.

    Attributes:
        model: Name of the model.
        ok: Number of processed images.
        failed: Number of images that could not be processed.
        labelled: Number of images whose label is a class of the model.
        correct: Number of these that are predicted correctly.
        probability: Mean probability of the predicted class.
        means: ``(kind, subject, other, measure)`` -> mean and count of the images that have a value.
    """

    model: str
    ok: int
    failed: int
    labelled: int
    correct: int
    probability: float
    means: dict[Key, tuple[float, int]]


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of a run.

    Attributes:
        images: Number of images.
        models: Summaries of the models, in order.
        failures: The first failures.
        reasons: Reason -> number of images.
        duplicates: Paths of the first groups of identical files.
        copies: Number of files that are identical to an earlier one.
        disagreements: Images whose maps agree least.
        wrong: Wrong predictions with the highest probabilities.
    """

    images: int
    models: tuple[ModelSummary, ...]
    failures: tuple[Failure, ...]
    reasons: dict[str, int]
    duplicates: tuple[tuple[str, ...], ...]
    copies: int
    disagreements: tuple[Outlier, ...]
    wrong: tuple[Outlier, ...]

    @property
    def surprises(self) -> list[Outlier]:
        """Wrong predictions and disagreements in turn, the most unusual first, each image once."""
        found: dict[tuple[int, str], Outlier] = {}
        for number in range(max(len(self.wrong), len(self.disagreements))):
            for one in (*self.wrong[number : number + 1], *self.disagreements[number : number + 1]):
                found.setdefault((one.item, one.model), one)
        return list(found.values())

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for ``json``; NaN becomes ``None``."""
        plain = asdict(self)
        for model, one in zip(plain["models"], self.models, strict=True):
            model["probability"] = to_plain(one.probability)
            model["means"] = [
                dict(zip(_KEY, key, strict=True)) | {"mean": to_plain(mean), "images": n}
                for key, (mean, n) in one.means.items()
            ]
        return plain


def summarise(store: Store, models: Sequence[str], most: int = MOST) -> Summary:
    """Summarise the finished shards, with at most ``most`` failures, duplicates and outliers of each kind."""
    counts: dict[str, Counter[str]] = {model: Counter() for model in models}
    sums: dict[str, float] = defaultdict(float)
    failures: list[Failure] = []
    reasons: Counter[str] = Counter()
    last_item: dict[str, int] = {}
    same: dict[str, list[str]] = {}
    wrong: list[Outlier] = []
    images = copies = 0
    for table in store.all("answers", _ANSWERS):
        for row in table.to_pylist():
            model, count = row["model"], counts[row["model"]]
            count[row["status"]] += 1
            first = model == models[0]
            images += first
            if first and row["sha256"]:
                copies += row["sha256"] in same
                same.setdefault(row["sha256"], []).append(row["image"])
            if row["status"] != "ok":
                reasons[row["reason"]] += last_item.get(row["reason"]) != row["item"]
                last_item[row["reason"]] = row["item"]
                if len(failures) < most:
                    failures.append(Failure(row["item"], row["image"], model, row["reason"]))
                continue
            sums[model] += row["probability"]
            if row["correct"] is not None:
                count["labelled"] += 1
                count["correct"] += row["correct"]
                if not row["correct"]:
                    what = f"{row['label']} is taken for {row['target_label']} with {row['probability']:.0%}"
                    wrong.append(Outlier(row["probability"], row["item"], row["image"], model, what))
        wrong = strongest(wrong, most)
    means, disagreements = _measured(store, most)
    return Summary(
        images=images,
        models=tuple(
            ModelSummary(
                model=name,
                **{key: counts[name][key] for key in ("ok", "failed", "labelled", "correct")},
                probability=sums[name] / counts[name]["ok"] if counts[name]["ok"] else math.nan,
                means=means.get(name, {}),
            )
            for name in models
        ),
        failures=tuple(failures),
        reasons=dict(reasons.most_common(most)),
        duplicates=tuple(tuple(paths) for paths in same.values() if len(paths) > 1)[:most],
        copies=copies,
        disagreements=tuple(disagreements),
        wrong=tuple(wrong),
    )


def _measured(store: Store, most: int) -> tuple[dict[str, dict[Key, tuple[float, int]]], list[Outlier]]:
    """Return the means of all measures, and the images whose maps agree least on average over pairs."""
    import pyarrow.compute as pc

    totals: dict[str, dict[Key, list[float]]] = defaultdict(dict)
    found: list[Outlier] = []
    for table in store.all("measures", ["item", "image", "model", *_KEY, "value"]):
        real = table.filter(pc.invert(pc.is_nan(table["value"])))
        sums = real.group_by(["model", *_KEY], use_threads=False).aggregate([("value", "sum"), ("value", "count")])
        for row in sums.to_pylist():
            total = totals[row["model"]].setdefault(tuple(row[key] for key in _KEY), [0.0, 0])
            total[0] += row["value_sum"]
            total[1] += row["value_count"]
        pairs = real.filter(pc.and_(pc.equal(real["kind"], "pair"), pc.equal(real["measure"], AGREEMENT)))
        by_image = pairs.group_by(["item", "image", "model"], use_threads=False).aggregate([("value", "mean")])
        for row in by_image.to_pylist():
            what = f"its maps agree with {row['value_mean']:.2f} on average (Spearman)"
            found.append(Outlier(-row["value_mean"], row["item"], row["image"], row["model"], what))
        found = strongest(found, most)
    return {model: {key: (total / n, int(n)) for key, (total, n) in of.items()} for model, of in totals.items()}, found

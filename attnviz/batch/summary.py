"""What a run found, in a few numbers and lists: read shard by shard, so that memory does not grow with the images."""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from attnviz.batch.store import Store
from attnviz.core.json_encoding import to_plain

AGREEMENT = "spearman"
MOST = 10


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be looked at: as many images as there are may share a reason, and some are named."""

    item: int
    image: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True, order=True)
class Outlier:
    """An image that stands out.

    Attributes:
        strength: How much; larger is stranger.
        item: Its number.
        image: Its path.
        model: Whose answer or maps it is about.
        what: What is strange, in words.
    """

    strength: float
    item: int
    image: str = field(compare=False)
    model: str = field(compare=False)
    what: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """What a model made of the images.

    Attributes:
        model: Its name.
        ok: Images that it looked at.
        failed: Images that it could not look at.
        labelled: Images with a label that it knows as a class.
        correct: How many of those it answers rightly.
        probability: Mean probability of its first answer.
        means: ``(kind, subject, other, measure)`` -> mean and count, of images that have a number.
    """

    model: str
    ok: int
    failed: int
    labelled: int
    correct: int
    probability: float
    means: dict[tuple[str, str, str, str], tuple[float, int]]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run found.

    Attributes:
        images: How many there are.
        models: In their order.
        failures: The first of them.
        reasons: Reason -> how many images.
        duplicates: Groups of images with the same bytes: their paths, the first groups.
        copies: How many images have the same bytes as an earlier one.
        disagreements: Images whose maps agree least.
        wrong: Images that are answered wrongly with the most probability.
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
        """The strangest first: in turn an image that is answered wrongly and one whose maps disagree, each once."""
        found: dict[tuple[int, str], Outlier] = {}
        for number in range(max(len(self.wrong), len(self.disagreements))):
            for one in (*self.wrong[number : number + 1], *self.disagreements[number : number + 1]):
                found.setdefault((one.item, one.model), one)
        return list(found.values())

    def as_dict(self) -> dict[str, Any]:
        """What ``json`` can write; a mean of nothing is ``None``."""
        plain = asdict(self)
        for model, one in zip(plain["models"], self.models, strict=True):
            model["probability"] = to_plain(one.probability)
            model["means"] = [
                {
                    "kind": kind,
                    "subject": subject,
                    "other": other,
                    "measure": measure,
                    "mean": to_plain(mean),
                    "images": n,
                }
                for (kind, subject, other, measure), (mean, n) in one.means.items()
            ]
        return plain


def summarise(store: Store, models: list[str], most: int = MOST) -> Summary:
    """The summary of the shards that are done.

    Args:
        store: The run.
        models: Their names, in their order.
        most: How many failures, duplicates and surprises of each kind are named.
    """
    counts: dict[str, Counter[str]] = {model: Counter() for model in models}
    sums: dict[str, float] = defaultdict(float)
    failures: list[Failure] = []
    reasons: Counter[str] = Counter()
    progress: dict[str, int] = {}
    same: dict[str, list[str]] = {}
    wrong: list[Outlier] = []
    images = copies = 0
    for rows in _answers(store):
        for row in rows:
            model, count = row["model"], counts[row["model"]]
            count[row["status"]] += 1
            first = model == models[0]
            images += first
            if first and row["sha256"]:
                copies += row["sha256"] in same
                same.setdefault(row["sha256"], []).append(row["image"])
            if row["status"] != "ok":
                reasons[row["reason"]] += progress.get(row["reason"]) != row["item"]
                progress[row["reason"]] = row["item"]
                if len(failures) < most:
                    failures.append(Failure(row["item"], row["image"], model, row["reason"]))
                continue
            sums[model] += row["probability"]
            if row["correct"] is not None:
                count["labelled"] += 1
                count["correct"] += row["correct"]
                if not row["correct"]:
                    what = f"{row['label']} is taken for {row['target_label']} with {row['probability']:.0%}"
                    _keep(wrong, Outlier(row["probability"], row["item"], row["image"], model, what), most)
    means, disagreements = _measured(store, most)
    return Summary(
        images=images,
        models=tuple(
            ModelSummary(
                model=name,
                ok=counts[name]["ok"],
                failed=counts[name]["failed"],
                labelled=counts[name]["labelled"],
                correct=counts[name]["correct"],
                probability=sums[name] / counts[name]["ok"] if counts[name]["ok"] else math.nan,
                means=means.get(name, {}),
            )
            for name in models
        ),
        failures=tuple(failures),
        reasons=dict(reasons.most_common(most)),
        duplicates=tuple(tuple(paths) for paths in same.values() if len(paths) > 1)[:most],
        copies=copies,
        disagreements=tuple(sorted(disagreements, key=_strangest)),
        wrong=tuple(sorted(wrong, key=_strangest)),
    )


def _strangest(one: Outlier) -> tuple[float, int]:
    return -one.strength, one.item


def _keep(heap: list[Outlier], one: Outlier, most: int) -> None:
    """Put one among the strongest; the weakest leaves."""
    heapq.heappush(heap, one)
    if len(heap) > most:
        heapq.heappop(heap)


def _answers(store: Store) -> Iterator[list[dict[str, Any]]]:
    names = ["item", "image", "label", "model", "status", "reason", "target_label", "probability", "correct", "sha256"]
    for table in store.all("answers", names):
        yield table.to_pylist()


def _measured(
    store: Store, most: int
) -> tuple[dict[str, dict[tuple[str, str, str, str], tuple[float, int]]], list[Outlier]]:
    """Means of every measure, and the images whose maps agree least, on average over their pairs."""
    import pyarrow.compute as pc

    keys = ["model", "kind", "subject", "other", "measure"]
    totals: dict[str, dict[tuple[str, str, str, str], list[float]]] = defaultdict(dict)
    heap: list[Outlier] = []
    for table in store.all("measures", ["item", "image", *keys, "value"]):
        real = table.filter(pc.invert(pc.is_nan(table["value"])))
        for row in real.group_by(keys, use_threads=False).aggregate([("value", "sum"), ("value", "count")]).to_pylist():
            total = totals[row["model"]].setdefault(tuple(row[key] for key in keys[1:]), [0.0, 0])
            total[0] += row["value_sum"]
            total[1] += row["value_count"]
        pairs = real.filter(pc.and_(pc.equal(real["kind"], "pair"), pc.equal(real["measure"], AGREEMENT)))
        by_image = pairs.group_by(["item", "image", "model"], use_threads=False).aggregate([("value", "mean")])
        for row in by_image.to_pylist():
            what = f"its maps agree with {row['value_mean']:.2f} on average (Spearman)"
            _keep(heap, Outlier(-row["value_mean"], row["item"], row["image"], row["model"], what), most)
    return {model: {key: (total / n, int(n)) for key, (total, n) in of.items()} for model, of in totals.items()}, heap

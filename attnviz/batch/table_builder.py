"""Build the tables of a shard from the results of the models."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from attnviz.batch.evaluate_batch import BatchResult, Map, MeasureColumn
from attnviz.batch.image_reader import LoadedImage, LoadFailure
from attnviz.batch.schemas import schemas
from attnviz.core.explanation_results import Prediction
from attnviz.errors import AttnvizError
from attnviz.media.image_item import Item, printable
from attnviz.models import VisionModel
from attnviz.targets.labels import class_index


class Builder:
    """Collects the rows of one shard, for models by name, in order."""

    def __init__(self, visions: Mapping[str, VisionModel]) -> None:
        self._visions, self._names = tuple(visions.values()), tuple(visions)
        self._parts: dict[str, list[pa.Table]] = {"measures": [], "maps": []}
        self._rows: dict[str, list[dict[str, Any]]] = {"thumbnails": [], "answers": []}

    def failed(self, one: LoadFailure, model: int | None = None) -> None:
        """Add an image that could not be read, or that a model could not process."""
        for name in self._names if model is None else [self._names[model]]:
            self._rows["answers"].append({
                **_of_item(one.item), "model": name, "status": "failed", "reason": printable(one.reason), "target": -1,
                "target_label": "", "probability": math.nan, "score": math.nan, "unit": "", "top": [], "correct": None,
                "width": one.width, "height": one.height, "sha256": one.sha256,
            })  # fmt: skip

    def pictured(self, one: LoadedImage, of: Sequence[int]) -> None:
        """Add the thumbnails of an image, given each model's crop: the first model's, and other crops than that."""
        others = ((name, crop) for name, crop in zip(self._names, of, strict=True) if crop != of[0])
        for model, crop in (("", of[0]), *others):
            jpeg, width, height = one.thumbnails[crop]
            row = {"item": one.item.number, "model": model, "width": width, "height": height, "jpeg": jpeg}
            self._rows["thumbnails"].append(row)

    def evaluated(self, model: int, images: Sequence[LoadedImage], found: BatchResult) -> None:
        """Add the results of a model for a batch."""
        name, vision = self._names[model], self._visions[model]
        self._parts["measures"].append(_measures(name, [one.item for one in images], found.numbers))
        self._parts["maps"].append(_maps(name, [one.item for one in images], found.maps))
        for n, one in enumerate(images):
            explained = found.explained[n]
            self._rows["answers"].append({
                **_of_item(one.item), "model": name, "status": "ok", "reason": "",
                "target": -1 if explained.index is None else explained.index, "target_label": explained.label,
                **_number(explained), "top": [_top(prediction) for prediction in found.predictions[n]],
                "correct": _correct(one.item.label, found.predictions[n], vision), "width": one.width,
                "height": one.height, "sha256": one.sha256,
            })  # fmt: skip

    def tables(self) -> dict[str, pa.Table]:
        """Return all tables, with rows in the order of items, models and measures."""
        order = {name: number for number, name in enumerate(self._names)}
        found = {}
        for name, schema in schemas().items():
            if name == "items":
                continue
            if name in self._parts:
                whole = pa.concat_tables([schema.empty_table(), *self._parts[name]])
                # Batches of the models alternate: sort the rows by image and model.
                key = whole["item"].to_numpy() * len(order) + _numbers(whole["model"], order)
                found[name] = whole.take(pa.array(np.argsort(key, kind="stable"))).combine_chunks()
            else:
                rows = sorted(self._rows[name], key=lambda row: (row["item"], order.get(row["model"], -1)))
                found[name] = pa.Table.from_pylist(rows, schema=schema)
        return found


def _numbers(column: pa.ChunkedArray, order: Mapping[str, int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    coded = column.combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    of = np.array([order[name] for name in coded.dictionary.to_pylist()] or [0], np.int64)
    numbers: np.ndarray[Any, np.dtype[np.int64]] = of[coded.indices.to_numpy(zero_copy_only=False)]
    return numbers


def _of_item(item: Item) -> dict[str, Any]:
    return {"item": item.number, "image": printable(item.path), "label": item.label and printable(item.label)}


def _number(one: Prediction) -> dict[str, Any]:
    """The number of a prediction, and its probability: NaN if it has none."""
    probability = math.nan if one.probability is None else one.probability
    return {"probability": probability, "score": one.score, "unit": one.unit}


def _top(one: Prediction) -> dict[str, Any]:
    return {"index": one.index, "label": one.label, **_number(one), "box": one.box and list(one.box)}


def _correct(label: str | None, predicted: Sequence[Prediction], vision: VisionModel) -> bool | None:
    """Whether the first prediction is the label; ``None`` without a label, or if the model has no such class."""
    if label is None or not predicted or predicted[0].index is None:
        return None
    try:
        return class_index(vision.labels, label) == predicted[0].index
    except AttnvizError:
        return None


def _repeated(texts: Sequence[str | None], indices: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array(texts, pa.string()).take(pa.array(indices))


def _measures(model: str, items: Sequence[Item], numbers: Sequence[MeasureColumn]) -> pa.Table:
    """Return one row for each image and measure."""
    images, count = len(items), len(numbers)
    if not count:
        return schemas()["measures"].empty_table()
    values = torch.stack([one.values for one in numbers], dim=1).numpy().ravel()  # (N, R), image by image
    there = np.ones((images, count), np.bool_)
    why = [["" for _ in numbers] for _ in items]
    undefined = np.isnan(values).reshape(images, count)
    for column, one in enumerate(numbers):
        if one.there is not None:
            there[:, column] = one.there.numpy()
        for n in np.flatnonzero(undefined[:, column]).tolist():
            why[n][column] = one.whys.get(n, one.why)

    image, number = np.repeat(np.arange(images), count), np.tile(np.arange(count), images)
    columns = {
        "item": pa.array(np.repeat([item.number for item in items], count), pa.int64()),
        "image": _repeated([printable(item.path) for item in items], image),
        "label": _repeated([item.label and printable(item.label) for item in items], image),
        "model": _repeated([model], np.zeros(images * count, np.int64)),
        **{
            key: _repeated([getattr(one, key) for one in numbers], number)
            for key in ("kind", "subject", "other", "measure")
        },
        "value": pa.array(values, pa.float64(), from_pandas=False),
        "why": pa.array([text for row in why for text in row], pa.string()),
    }
    table = pa.table(columns, schema=schemas()["measures"])
    return table if bool(there.all()) else table.filter(pa.array(there.ravel()))


def _maps(model: str, items: Sequence[Item], maps: Sequence[Map]) -> pa.Table:
    """Return one row for each image and map, with float16 values relative to the largest absolute value."""
    rows = []
    values = [one.values.float().numpy() for one in maps]
    lows, highs = ([getattr(v, end)((1, 2)) for v in values] for end in ("min", "max"))
    for n, item in enumerate(items):
        for one, v, low, high in zip(maps, values, lows, highs, strict=True):
            if n in one.missing:
                continue
            size = max(abs(float(low[n])), abs(float(high[n]))) or 1.0
            rows.append({
                "item": item.number, "model": model, "name": one.name, "kind": one.kind, "method": one.method,
                "source": one.source, "height": v.shape[1], "width": v.shape[2], "low": float(low[n]),
                "high": float(high[n]), "signed": bool(low[n] < 0), "values": (v[n] / size).astype("<f2").tobytes(),
            })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schemas()["maps"])

"""Build the tables of a shard from the results of the models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from attnviz.batch.evaluate_batch import BatchResult, Map, MeasureColumn
from attnviz.batch.image_reader import LoadedImage, LoadFailure
from attnviz.batch.schemas import schemas
from attnviz.errors import AttnvizError
from attnviz.media.image_item import Item, printable
from attnviz.models.class_names import class_index

if TYPE_CHECKING:
    from attnviz.models import VisionModel

TOP = 5


class Builder:
    """Collects the rows of one shard.

    Args:
        visions: The models, in order.
        names: Their names.
    """

    def __init__(self, visions: Sequence[VisionModel], names: Sequence[str]) -> None:
        self._visions, self._names = visions, names
        self._parts: dict[str, list[pa.Table]] = {"measures": [], "maps": []}
        self._rows: dict[str, list[dict[str, Any]]] = {"thumbnails": [], "answers": []}

    def failed(self, one: LoadFailure, model: int | None = None) -> None:
        """Add an image that could not be read, or that a model could not process."""
        for name in self._names if model is None else [self._names[model]]:
            self._rows["answers"].append({
                **_of_item(one.item), "model": name, "status": "failed", "reason": printable(one.reason), "target": -1,
                "target_label": "", "probability": float("nan"), "top": [], "correct": None, "width": one.width,
                "height": one.height, "sha256": one.sha256,
            })  # fmt: skip

    def pictured(self, one: LoadedImage, of: Sequence[int]) -> None:
        """Add the thumbnails of an image: that of the first model, and those of models with another crop.

        Args:
            one: The image.
            of: Index of the crop of each model.
        """
        own = [
            ("", of[0]),
            *((name, preprocess) for name, preprocess in zip(self._names, of, strict=True) if preprocess != of[0]),
        ]
        for model, preprocess in own:
            jpeg, width, height = one.thumbnails[preprocess]
            row = {"item": one.item.number, "model": model, "width": width, "height": height, "jpeg": jpeg}
            self._rows["thumbnails"].append(row)

    def evaluated(self, model: int, images: Sequence[LoadedImage], found: BatchResult) -> None:
        """Add the results of a model for a batch."""
        name, vision = self._names[model], self._visions[model]
        self._parts["measures"].append(_measures(name, [one.item for one in images], found.numbers))
        self._parts["maps"].append(_maps(name, [one.item for one in images], found.maps))
        best = found.probabilities.topk(min(TOP, found.probabilities.shape[1]), dim=1)
        for n, one in enumerate(images):
            top = [
                {"index": index, "label": _label(index, vision.labels), "probability": share}
                for share, index in zip(best.values[n].tolist(), best.indices[n].tolist(), strict=True)
            ]
            target = int(found.targets[n])
            self._rows["answers"].append({
                **_of_item(one.item), "model": name, "status": "ok", "reason": "", "target": target,
                "target_label": _label(target, vision.labels), "probability": float(found.probabilities[n, target]),
                "top": top, "correct": _correct(one.item.label, target, vision), "width": one.width,
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


def _label(index: int, labels: Sequence[str]) -> str:
    return labels[index] if index < len(labels) else f"class {index}"


def _correct(label: str | None, target: int, vision: VisionModel) -> bool | None:
    """Whether the prediction is the label; ``None`` without a label, or if the model has no such class."""
    if label is None:
        return None
    try:
        return class_index(vision.labels, label) == target
    except AttnvizError:
        return None


def _repeated(texts: Sequence[str | None], by: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> pa.Array:
    """Return a column of repeated texts: ``by`` maps the indices of the texts to the rows."""
    return pa.array(texts, pa.string()).take(pa.array(by(np.arange(len(texts)))))


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

    def per_image(indices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.repeat(indices, count)

    def per_number(indices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.tile(indices, images)

    columns = {
        "item": pa.array(np.repeat([item.number for item in items], count), pa.int64()),
        "image": _repeated([printable(item.path) for item in items], per_image),
        "label": _repeated([item.label and printable(item.label) for item in items], per_image),
        "model": pa.array([model], pa.string()).take(pa.array(np.zeros(images * count, np.int64))),
        "kind": _repeated([one.kind for one in numbers], per_number),
        "subject": _repeated([one.subject for one in numbers], per_number),
        "other": _repeated([one.other for one in numbers], per_number),
        "measure": _repeated([one.measure for one in numbers], per_number),
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

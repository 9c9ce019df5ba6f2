"""The scripts of each shard: thumbnails for the gallery; maps, numbers and predictions for the view of an image."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.glossary import meaning_of_map
from attnviz.report.core.colours import data_uri, jpeg_uri, levels
from attnviz.report.core.formatting import visible
from attnviz.report.core.map_view import MapView, colour_range
from attnviz.report.core.packing import packed
from attnviz.report.core.viewer_data import scale_of, title_of
from attnviz.report.dataset.columns import Column
from attnviz.report.dataset.js_data import rounded, write_call
from attnviz.report.dataset.run_folder import Run

THUMB_PX = 128
_PREDICTION = ["item", "model", "status", "reason", "target", "target_label", "probability", "top", "width", "height"]


def write_parts(run: Run, shard: int, page: Path, index: Mapping[Column, int], texts: dict[str, Any]) -> None:
    """Write the two scripts of a shard; ``index`` has the column of each key.

    The title and the meaning of each map are added to ``texts`` under ``kind/name``.
    """
    thumbnails: dict[int, str] = {}
    pictures: dict[int, dict[str, str]] = defaultdict(dict)
    for row in run.rows("thumbnails", shard):
        pictures[row["item"]][row["model"] or ""] = data_uri(row["jpeg"], "image/jpeg")
        if row["item"] not in thumbnails:
            thumbnails[row["item"]] = thumbnail(row["jpeg"])
    write_call(page / f"thumbs/part-{shard:06d}.js", "thumbs", shard, thumbnails)
    models: dict[int, dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    for row in run.rows("answers", shard, _PREDICTION):
        models[row["item"]][row["model"]] = _prediction(row) | {"maps": [], "values": []}
    for row in run.rows("maps", shard):
        models[row["item"]][row["model"]]["maps"].append(_map(row, texts))
    for row in run.rows("measures", shard, ["item", *Column._fields, "value", "why"]):
        models[row["item"]][row["model"]]["values"].append(_value(row, index))
    items = {item: {"pictures": pictures.get(item, {}), "models": of} for item, of in models.items()}
    write_call(page / f"data/part-{shard:06d}.js", "data", shard, items)


def _value(row: Mapping[str, Any], index: Mapping[Column, int]) -> list[Any]:
    """Return column and number of a measure, or column, ``None`` and the reason why there is no number."""
    at = index[Column(*(row[key] or "" for key in Column._fields))]
    value = rounded(row["value"])
    return [at, value] if value is not None else [at, None, row["why"] or ""]


def thumbnail(jpeg: bytes) -> str:
    """Return a picture of at most :data:`THUMB_PX` a side as a ``data:`` URI; empty if it cannot be decoded."""
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        return ""
    scale = THUMB_PX / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return jpeg_uri(np.asarray(picture)[..., ::-1], 78)


def _prediction(row: Mapping[str, Any]) -> dict[str, Any]:
    if row["status"] != "ok":
        return {"reason": visible(row["reason"] or "unknown reason")}
    top = [[one["label"], rounded(one["probability"])] for one in row["top"] or []]
    return {"target": row["target_label"], "top": top, "size": [row["width"], row["height"]]}


def _map(row: Mapping[str, Any], texts: dict[str, Any]) -> dict[str, Any]:
    values = map_values(row)
    scale = colour_range(values, kind=row["kind"])
    view = MapView(row["name"], row["kind"], row["method"], row["source"], values, *scale)
    key = f"{view.kind}/{view.name}"
    if key not in texts:
        about = meaning_of_map(view.name, view.kind)
        texts[key] = {
            "title": title_of(view),
            "means": about.means,
            "not_means": about.not_means,
            "subtitle": view.method if view.kind == "attention" else "",
        }
    steps = {"width": row["width"], "height": row["height"], "data": packed(levels(view))}
    return {"key": key, "name": view.name, "kind": view.kind, "steps": steps, **scale_of(view)}


def map_values(row: Mapping[str, Any]) -> Array:
    """Return the values of a stored map, which are half-precision fractions of its largest absolute value.

    >>> half = np.array([0.5, 1.0], np.float16).tobytes()
    >>> map_values({"values": half, "height": 1, "width": 2, "low": 2.0, "high": 4.0}).tolist()
    [[2.0, 4.0]]
    """
    fractions = np.frombuffer(row["values"], "<f2").astype(np.float32).reshape(row["height"], row["width"])
    values: Array = fractions * np.float32(max(abs(row["low"]), abs(row["high"])) or 1.0)
    return values

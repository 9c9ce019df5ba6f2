"""The scripts of each shard: small pictures for the gallery; maps, numbers and answers for the page of an image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.core import glossary
from attnviz.report.core.colours import data_uri, jpeg_uri, levels
from attnviz.report.core.formatting import visible
from attnviz.report.core.map_view import MapView, colour_range
from attnviz.report.core.packing import packed
from attnviz.report.core.viewer_data import scale_of, title_of
from attnviz.report.dataset.columns import Column
from attnviz.report.dataset.js_data import plain, write_call
from attnviz.report.dataset.run_folder import Run

THUMB_PX = 128
_ANSWER = ["item", "model", "status", "reason", "target", "target_label", "probability", "top", "width", "height"]


def write_parts(run: Run, shard: int, page: Path, places: Mapping[Column, int], words: dict[str, Any]) -> None:
    """Write the two scripts of a shard.

    Args:
        run: The run.
        shard: Which.
        page: The folder of the page.
        places: What a number is about -> place of its column.
        words: Filled with what is said of each map: ``kind/name`` -> title, meaning.
    """
    small: dict[int, str] = {}
    large: dict[int, dict[str, str]] = defaultdict(dict)
    for row in run.rows("thumbnails", shard):
        large[row["item"]][row["model"] or ""] = data_uri(row["jpeg"], "image/jpeg")
        if row["item"] not in small:
            small[row["item"]] = thumbnail(row["jpeg"])
    write_call(page / f"thumbs/part-{shard:06d}.js", "thumbs", shard, small)
    models: dict[int, dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    for row in run.rows("answers", shard, _ANSWER):
        models[row["item"]][row["model"]] = _answer(row) | {"maps": [], "values": []}
    for row in run.rows("maps", shard):
        models[row["item"]][row["model"]]["maps"].append(_map(row, words))
    for row in run.rows("measures", shard, ["item", *Column._fields, "value", "why"]):
        place = places[Column(*(row[key] or "" for key in Column._fields))]
        value = plain(row["value"])
        number = [place, value] if value is not None else [place, None, row["why"] or ""]
        models[row["item"]][row["model"]]["values"].append(number)
    items = {item: {"photos": large.get(item, {}), "models": of} for item, of in models.items()}
    write_call(page / f"data/part-{shard:06d}.js", "data", shard, items)


def thumbnail(jpeg: bytes) -> str:
    """A picture of at most :data:`THUMB_PX` a side as an address; empty where it cannot be decoded."""
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        return ""
    shrink = THUMB_PX / max(picture.shape[:2])
    if shrink < 1:
        picture = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return jpeg_uri(np.asarray(picture)[..., ::-1], 78)


def _answer(row: Mapping[str, Any]) -> dict[str, Any]:
    if row["status"] != "ok":
        return {"reason": visible(row["reason"] or "no reason was told")}
    top = [[one["label"], plain(one["probability"])] for one in row["top"] or []]
    return {"target": row["target_label"], "top": top, "size": [row["width"], row["height"]]}


def _map(row: Mapping[str, Any], words: dict[str, Any]) -> dict[str, Any]:
    values = map_values(row)
    scale = colour_range(values, kind=row["kind"])
    view = MapView(row["name"], row["kind"], row["method"], row["source"], values, *scale)
    key = f"{view.kind}/{view.name}"
    if key not in words:
        about = glossary.method(view.name)
        words[key] = {"title": title_of(view), "means": about.means, "not_means": about.not_means}
        words[key]["subtitle"] = view.method if view.kind == "attention" else ""
    size = {"width": row["width"], "height": row["height"], "data": packed(levels(view))}
    return {"key": key, "name": view.name, "kind": view.kind, "steps": size, **scale_of(view)}


def map_values(row: Mapping[str, Any]) -> Array:
    """A stored map as it was measured: half-precision shares of the larger of its two ends.

    >>> half = np.array([0.5, 1.0], np.float16).tobytes()
    >>> map_values({"values": half, "height": 1, "width": 2, "low": 2.0, "high": 4.0}).tolist()
    [[2.0, 4.0]]
    """
    shares = np.frombuffer(row["values"], "<f2").astype(np.float32).reshape(row["height"], row["width"])
    values: Array = shares * np.float32(max(abs(row["low"]), abs(row["high"])) or 1.0)
    return values

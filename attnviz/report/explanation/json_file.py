"""``explanation.json``: conversion of a document to JSON and back.

The file is ``{"schema": "attnviz.explanation", "version": 1, ...}`` with the fields of
:class:`~attnviz.report.core.document.Document`. An array is ``{"shape", "dtype", "order": "C", "base64"}`` with exact,
little-endian bytes; a NaN is ``null``. In Python: ``np.frombuffer(base64.b64decode(a["base64"]),
a["dtype"]).reshape(a["shape"])``.
"""

import base64
import json
import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attnviz.core import glossary
from attnviz.core.arrays import Array
from attnviz.core.explanation_results import Prediction
from attnviz.core.json_encoding import to_plain
from attnviz.core.records import Score
from attnviz.errors import DataError
from attnviz.report.core.component import COMPONENTS, Component, name_of
from attnviz.report.core.document import SCHEMA, VERSION, ClipView, Document, FrameMaps, SiteView
from attnviz.report.core.map_view import MapView
from attnviz.report.core.renderers import renderer

_NAME = "exhibit"
_KEYS = {"components": "exhibits"}
"""Field -> its key in version 1 of the file, if they differ."""


def dump(document: Document, *, arrays: bool = True) -> dict[str, Any]:
    """Convert a document to plain data for JSON; without ``arrays`` (pictures, maps and ``g``) to a summary."""
    plain: dict[str, Any] = _plain(document)
    for one, view in (
        (document.target, plain["target"]),
        *zip(document.predictions, plain["predictions"], strict=True),
    ):
        view["probability"] = one.probability
    if not arrays:
        plain = {key: value for key, value in plain.items() if key not in {"pixels", "photo", "answer"}}
        plain["maps"] = [{k: v for k, v in view.items() if k != "values"} for view in plain["maps"]]
        if document.clip is not None:
            clip = {key: value for key, value in plain["clip"].items() if key not in {"frames", "maps"}}
            plain["clip"] = {**clip, "weights": document.clip.weights.tolist()}
        plain["sites"] = [
            {k: v for k, v in site.items() if k not in {"g", _KEYS["components"]}} for site in plain["sites"]
        ]
    return {"schema": SCHEMA, "version": VERSION, **plain}


@renderer("json")
def write(document: Document, path: Path) -> None:
    """Write ``explanation.json``."""
    content = {**dump(document), "glossary": glossary.entries(names_in(document))}
    path.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def names_in(document: Document) -> Iterator[tuple[glossary.Category, str]]:
    """Yield what the document shows, so that a page can be made from the file where a measure is not installed."""
    for view in document.maps:
        if view.kind == "attribution":
            yield "method", view.name
        else:
            yield from (("map", view.name), ("map", view.method))
    yield from (("kind", site.kind) for site in document.sites)
    yield from (("measure", score.measure) for score in document.scores)


def load(path: str | Path) -> Document:
    """Read a file written by :func:`write`.

    Raises:
        DataError: the file is not an explanation, is damaged, or has another version.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as an explanation: {error}") from error
    found = (data.get("schema"), data.get("version")) if isinstance(data, dict) else (None, None)
    if found != (SCHEMA, VERSION):
        raise DataError(f"{path}: wanted schema {SCHEMA} version {VERSION}, got {found[0]} version {found[1]}")
    try:
        glossary.restore(data.get("glossary", {}))
        return _document(data)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: a damaged explanation: {type(error).__name__}: {error}") from error


def _prediction(data: dict[str, Any]) -> Prediction:
    """A prediction; earlier files have probabilities only."""
    found = {"score": data.get("probability"), **{key: value for key, value in data.items() if key != "probability"}}
    box = found.get("box")
    return Prediction(**{**found, "box": None if box is None else tuple(box)})


def _document(data: dict[str, Any]) -> Document:
    return Document(
        image=data["image"],
        model=data["model"],
        target=_prediction(data["target"]),
        predictions=tuple(_prediction(one) for one in data["predictions"]),
        pixels=_array(data["pixels"]),
        photo=None if data["photo"] is None else _array(data["photo"]),
        maps=tuple(MapView(**{**one, "values": _array(one["values"])}) for one in data["maps"]),
        sites=tuple(_site(one) for one in data["sites"]),
        scores=tuple(_score(one) for one in data["scores"]),
        notes=tuple(data["notes"]),
        settings=data["settings"],
        clip=None if data.get("clip") is None else _clip(data["clip"]),
        answer=tuple(_component(component) for component in data.get("answer", [])),
    )


def _clip(one: dict[str, Any]) -> ClipView:
    maps = tuple(FrameMaps(**{**each, "values": _array(each["values"])}) for each in one["maps"])
    arrays = {name: _array(one[name]) for name in ("frames", "weights")}
    return ClipView(**{**one, **arrays, "seconds": tuple(one["seconds"]), "maps": maps})


def _site(one: dict[str, Any]) -> SiteView:
    g = None if one["g"] is None else _array(one["g"])
    components = tuple(_component(component) for component in one.get(_KEYS["components"], []))
    one = {key: value for key, value in one.items() if key != _KEYS["components"]}
    return SiteView(**{**one, "shape": tuple(one["shape"]), "g": g, "components": components})


def _component(one: dict[str, Any]) -> Component:
    """Build a component from its fields. A class with nested dataclasses has a constructor ``restored``."""
    kind = COMPONENTS[one[_NAME]]
    values = {key: _restored(value) for key, value in one.items() if key != _NAME}
    component: Component = getattr(kind, "restored", kind)(**values)
    return component


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        return _array(value) if "base64" in value else {key: _restored(one) for key, one in value.items()}
    return tuple(_restored(one) for one in value) if isinstance(value, list) else value


def _score(one: dict[str, Any]) -> Score:
    value = math.nan if one["value"] is None else one["value"]
    low, high = (-math.inf if one["low"] is None else one["low"], math.inf if one["high"] is None else one["high"])
    return Score(**{**one, "subject": tuple(one["subject"]), "value": value, "low": low, "high": high})


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        named = {_NAME: name_of(value)} if type(value) in COMPONENTS.entries().values() else {}  # type: ignore[arg-type]
        return named | {_KEYS.get(item.name, item.name): _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, np.ndarray):
        little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
        text = base64.b64encode(little.tobytes()).decode("ascii")
        return {"shape": list(value.shape), "dtype": little.dtype.str, "order": "C", "base64": text}
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return to_plain(value)


def _array(one: dict[str, Any]) -> Array:
    return np.frombuffer(base64.b64decode(one["base64"], validate=True), np.dtype(one["dtype"])).reshape(one["shape"])

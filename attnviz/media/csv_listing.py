"""Tables of images with labels, boxes and masks; an error names the line."""

import csv
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from attnviz.errors import DataError
from attnviz.media.image_item import Asked, Box, Item
from attnviz.media.remote_files import is_url

CORNERS = ("x0", "y0", "x1", "y1")
COLUMNS = ("path", "label", *CORNERS, "boxes", "mask", "target", "not", "query", "region")


def read_csv(path: Path) -> tuple[list[Item], list[str]]:
    """The images of a table, in the order of their first lines, and notes about unused columns.

    The file is UTF-8, with a header: ``path`` and any of ``label``, ``x0,y0,x1,y1``, ``boxes``
    (``"x0 y0 x1 y1; x0 y0 x1 y1"``), ``mask``; and of what is explained: ``target``, ``not``, ``query``, ``region``
    (``"x0 y0 x1 y1"``). Empty cells are ignored; lines of the same path are merged.

    Raises:
        DataError: a missing column, a line that cannot be parsed, or two that contradict each other.
    """
    items: dict[str, Item] = {}
    lines: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            names = _header(path, reader.fieldnames)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                item = _item(where, path, row)
                first = items.get(item.path)
                items[item.path] = item if first is None else _joined(where, lines[item.path], first, item)
                lines.setdefault(item.path, reader.line_num)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.reader.line_num}: {error}") from error
    if not items:
        raise DataError(f"{path}: names no image, only a header")
    unused = [name for name in names if name not in COLUMNS]
    return list(items.values()), [f"Columns of {path} that are not used: {', '.join(unused)}."] if unused else []


def _header(path: Path, names: object) -> list[str]:
    found = [str(name).strip() for name in names] if isinstance(names, list) else []
    if "path" not in found:
        raise DataError(f"{path}, line 1: wanted a column named path, got {', '.join(found) or 'nothing'}")
    some = [name for name in CORNERS if name in found]
    if some and len(some) < len(CORNERS):
        raise DataError(f"{path}, line 1: a box has the columns {', '.join(CORNERS)}, got only {', '.join(some)}")
    double = next((name for name in COLUMNS if found.count(name) > 1), None)
    if double:
        raise DataError(f"{path}, line 1: the column {double} appears twice")
    return found


def _item(where: str, path: Path, row: Mapping[str | None, object]) -> Item:
    if None in row:
        raise DataError(f"{where}: has more cells than the header has columns")
    cells = {str(name).strip(): value if isinstance(value, str) else None for name, value in row.items()}
    missing = [name for name, value in cells.items() if value is None]
    if missing:
        raise DataError(f"{where}: has no cell for {', '.join(missing)}")
    name = cells["path"]
    if not name or not name.strip():
        raise DataError(f"{where}: the path is empty")
    mask = (cells.get("mask") or "").strip() or None
    return Item(
        number=0,
        path=resolve_path(path, name),  # a file name can begin or end with a blank
        label=(cells.get("label") or "").strip() or None,
        boxes=tuple(_boxes(where, cells)),
        mask=None if mask is None else resolve_path(path, mask),
        asked=_asked(where, cells),
    )


def _asked(where: str, cells: Mapping[str, str | None]) -> Asked:
    """What a line asks to be explained."""
    target, contrast, query, region = ((cells.get(name) or "").strip() for name in ("target", "not", "query", "region"))
    if query and not query.isdecimal():
        raise DataError(f"{where}: a query is a number from 0, got {query!r}")
    box = _box(where, region.replace(",", " ").split()) if region else None
    return Asked(target or None, contrast or None, int(query) if query else None, box)


def resolve_path(path: Path, name: str) -> str:
    """A path in a list, relative to the folder of the list; URLs and absolute paths are unchanged."""
    return name if is_url(name) or Path(name).is_absolute() else str(path.parent / name)


def _boxes(where: str, cells: Mapping[str, str | None]) -> list[Box]:
    texts = [part for part in (cells.get("boxes") or "").split(";") if part.strip()]
    boxes = [_box(where, part.replace(",", " ").split()) for part in texts]
    corners = [(cells.get(name) or "").strip() for name in CORNERS]
    if any(corners):
        boxes.append(_box(where, corners))
    return list(dict.fromkeys(boxes))


def _box(where: str, texts: list[str]) -> Box:
    try:
        values = [float(text) for text in texts]
    except ValueError:
        values = []
    if len(values) != 4 or not all(math.isfinite(value) and abs(value) < 2**31 for value in values):
        raise DataError(f"{where}: a box is four numbers, got {' '.join(text or '(empty)' for text in texts)}")
    x0, y0, x1, y1 = (round(value) for value in values)
    if x1 <= x0 or y1 <= y0:
        raise DataError(f"{where}: a box is left, top, right, bottom; {x0} {y0} {x1} {y1} is empty")
    return x0, y0, x1, y1


def _joined(where: str, line: int, first: Item, item: Item) -> Item:
    """Two lines of the same image as one item."""
    facts = (("label", first.label, item.label), ("mask", first.mask, item.mask), *_pairs(first.asked, item.asked))
    for what, one, other in facts:
        if None not in {one, other} and one != other:
            raise DataError(f"{where}: the {what} of {item.path} is {other!r} here and {one!r} in line {line}")
    label, mask = first.label or item.label, first.mask or item.mask
    given = {what: one if one is not None else other for what, one, other in _pairs(first.asked, item.asked)}
    return Item(0, item.path, label, tuple(dict.fromkeys((*first.boxes, *item.boxes))), mask, Asked(**given))


def _pairs(one: Asked, other: Asked) -> list[tuple[str, Any, Any]]:
    """The fields of two lines side by side."""
    return [(field.name, getattr(one, field.name), getattr(other, field.name)) for field in fields(Asked)]

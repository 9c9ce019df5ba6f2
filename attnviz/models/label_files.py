"""Class names from files, folders and checkpoints."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from attnviz.errors import WeightsError

_KEYS = (
    "classes",
    "class_names",
    "labels",
    "label_names",
    "class_to_idx",
    "idx_to_class",
    "names",
    "id2label",
    "categories",
)
_NESTED = ("hyper_parameters", "hparams", "config", "args", "meta", "metadata", "cfg", "dataset_meta")
_HEADS = frozenset("index id idx label name class class_name class_id category number".split())


def read_label_file(path: str | Path) -> tuple[str, ...]:
    """Read class names, in the order of the classes.

    Args:
        path: A text file with a name on each line; a JSON list, or an object from numbers to names or from names to
            numbers, also under a key such as ``classes``; a CSV table with a column of names and possibly one of
            numbers; or a folder with a subfolder for each class, in the order of torchvision's ``ImageFolder``.

    Raises:
        WeightsError: the file is missing, cannot be read, or holds no class names.
    """
    path = Path(path)
    try:
        if path.is_dir():
            names: Sequence[str] | None = sorted(one.name for one in path.iterdir() if one.is_dir())
        elif path.suffix.lower() == ".json":
            content = json.loads(path.read_text(encoding="utf-8-sig"))
            names = labels_in(content) or _labels_of(content)
        elif path.suffix.lower() in {".csv", ".tsv"}:
            names = _of_table(path)
        else:
            names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file of class names") from None
    except (OSError, ValueError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path}: cannot be read as class names: {reason[:160]}") from error
    if not names:
        raise WeightsError(
            f"{path}: holds no class names (wanted a name on each line, a JSON list or object, a CSV table, or a "
            "folder with a subfolder for each class)"
        )
    return tuple(names)


def _of_table(path: Path) -> Sequence[str] | None:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",") if row]
    if rows and any(cell.strip().lower() in _HEADS for cell in rows[0]):
        rows = rows[1:]
    if not rows or min(map(len, rows)) < 1:
        return None
    columns = list(zip(*rows, strict=False))
    numbers = next((column for column in columns if all(cell.strip().isdecimal() for cell in column)), None)
    names = [column for column in columns if column is not numbers]
    if not names:
        return None
    pairs = [(int(number), name.strip()) for number, name in zip(numbers or range(len(rows)), names[-1], strict=True)]
    return _in_order(dict(pairs)) if numbers else [name for _, name in pairs]


def labels_in(content: Any) -> tuple[str, ...] | None:
    """Return the class names in a checkpoint or configuration, which have a usual key; ``None`` if there are none.

    >>> labels_in({"epoch": 3, "class_to_idx": {"dog": 1, "cat": 0}})
    ('cat', 'dog')
    """
    fields = content if isinstance(content, Mapping) else getattr(content, "__dict__", None)
    if not isinstance(fields, Mapping):
        return None
    found = (_labels_of(fields[key]) for key in _KEYS if key in fields)
    nested = (labels_in(fields[key]) for key in _NESTED if key in fields)
    return next((names for names in chain(found, nested) if names), None)


def _labels_of(value: Any) -> tuple[str, ...] | None:
    """Class names from a list, from numbers to names or from names to numbers."""
    if isinstance(value, list | tuple):
        return tuple(value) if value and all(isinstance(one, str) for one in value) else None
    return _of_mapping(value) if isinstance(value, Mapping) else None


def _of_mapping(content: Mapping[Any, Any]) -> tuple[str, ...] | None:
    """Names from ``{0: "cat"}``, ``{"0": ["n02123045", "cat"]}`` or ``{"cat": 0}``; all numbers from 0 or 1."""
    if content and all(isinstance(value, int) and not isinstance(value, bool) for value in content.values()):
        return _in_order({value: str(key) for key, value in content.items()})
    if not content or not all(str(key).isdecimal() for key in content):
        return None
    names = {
        int(key): value[-1] if isinstance(value, list | tuple) and value else value for key, value in content.items()
    }
    return _in_order(names) if all(isinstance(one, str) for one in names.values()) else None


def _in_order(names: Mapping[int, str]) -> tuple[str, ...] | None:
    """The names of 0, 1, …; ``None`` if a number is missing. Numbers from 1 are accepted too."""
    first = min(names)
    if first not in {0, 1} or set(names) != set(range(first, first + len(names))):
        return None
    return tuple(names[number] for number in sorted(names))

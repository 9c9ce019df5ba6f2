"""Names of classes, and classes by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

from attnviz.errors import TargetError, UnknownNameError


@cache
def imagenet_labels() -> tuple[str, ...]:
    """A short English name for each of ImageNet-1k's 1000 classes, all different.

    >>> imagenet_labels()[281], imagenet_labels()[967]
    ('tabby cat', 'espresso')
    """
    text = resources.files("attnviz.models").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def numbered_labels(count: int) -> tuple[str, ...]:
    """``class 0``, ``class 1``, …: for a model whose classes have no known names."""
    return tuple(f"class {index}" for index in range(count))


def class_index(labels: Sequence[str], target: int | str) -> int:
    """The index of a class that is given by index or by name.

    Args:
        labels: Name of each class, in the model's order.
        target: An index, also as text (``"281"``), or a name; case, hyphens and underscores do not matter.

    Raises:
        TargetError: no class has that index.
        UnknownNameError: no class has that name; suggests the nearest.

    >>> class_index(("tench", "tabby cat"), "Tabby_cat")
    1
    """
    if isinstance(target, bool) or not isinstance(target, int | str):
        raise TargetError(f"class {target!r}: wanted an index or a name, got a {type(target).__name__}")
    if isinstance(target, str) and not re.fullmatch(r"\s*-?\d+\s*", target):
        names = {_fold(label): index for index, label in reversed(list(enumerate(labels)))}
        if _fold(target) not in names:
            raise UnknownNameError("class", target, _likely(_fold(target), labels))
        return names[_fold(target)]
    index = int(target)
    if not 0 <= index < len(labels):
        raise TargetError(f"class {index}: the model has {len(labels)} classes, 0 to {len(labels) - 1}")
    return index


def _likely(name: str, labels: Sequence[str]) -> Sequence[str]:
    """The names that hold ``name`` as a word, so that ``cat`` leads to the cats; all names where none does."""
    return [label for label in labels if name in _fold(label).split()] or labels


def _fold(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())

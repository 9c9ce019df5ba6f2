"""Names of classes, and classes by name."""

import re
from collections.abc import Sequence

from attnviz.errors import TargetError, UnknownNameError


def label_of(index: int, labels: Sequence[str]) -> str:
    """Return the name of a class, or its number if it has no name."""
    return labels[index] if 0 <= index < len(labels) else f"class {index}"


def numbered_labels(count: int) -> tuple[str, ...]:
    """Return ``class 0``, ``class 1``, …, for a model without class names."""
    return tuple(f"class {index}" for index in range(count))


def class_index(labels: Sequence[str], target: int | str) -> int:
    """Return the index of a class that is given by index or by name.

    Args:
        labels: Class names, in the order of the logits.
        target: Index, also as text (``"281"``), or name, regardless of case, hyphens and underscores.

    Raises:
        TargetError: no class has that index.
        UnknownNameError: no class has that name; the message suggests the nearest.

    >>> class_index(("tench", "tabby cat"), "Tabby_cat")
    1
    """
    if isinstance(target, bool) or not isinstance(target, int | str):
        raise TargetError(f"class {target!r}: wanted an index or a name, got a {type(target).__name__}")
    if isinstance(target, str) and not re.fullmatch(r"\s*-?\d+\s*", target):
        names = {_fold(label): index for index, label in reversed(list(enumerate(labels)))}
        if _fold(target) not in names:
            similar = [label for label in labels if _fold(target) in _fold(label).split()]  # all cats for "cat"
            raise UnknownNameError("class", target, similar or labels)
        return names[_fold(target)]
    index = int(target)
    if not 0 <= index < len(labels):
        raise TargetError(f"class {index}: the model has {len(labels)} classes, 0 to {len(labels) - 1}")
    return index


def _fold(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())

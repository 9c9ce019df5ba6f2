"""One image of a run, before it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels of the upright picture; right and bottom lie outside."""


@dataclass(frozen=True, slots=True)
class Item:
    """An image that is to be looked at.

    Attributes:
        number: Its place in the listing, from 0.
        path: Local path or URL.
        label: What it is said to show; ``None`` where nothing is said.
        boxes: Where the object is.
        mask: A picture of the object, white; path or URL.
    """

    number: int
    path: str
    label: str | None = None
    boxes: tuple[Box, ...] = ()
    mask: str | None = None


def shown(text: str) -> str:
    r"""A path as it can be written: bytes that are no UTF-8 become U+FFFD.

    >>> shown("caf\udce9.jpg")
    'caf�.jpg'
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

"""One image of a list, before it is read."""

from dataclasses import dataclass
from typing import TypeAlias

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the upright image; right and bottom are exclusive."""


@dataclass(frozen=True, slots=True)
class Item:
    """An image of a list.

    Attributes:
        number: Index in the list, from 0.
        path: Local path or URL.
        label: Class label; ``None`` if unknown.
        boxes: Bounding boxes of the object.
        mask: Path or URL of an image that is white on the object.
    """

    number: int
    path: str
    label: str | None = None
    boxes: tuple[Box, ...] = ()
    mask: str | None = None


def printable(text: str) -> str:
    r"""A path as valid Unicode: bytes that are not UTF-8 become U+FFFD.

    >>> printable("caf\udce9.jpg")
    'caf�.jpg'
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

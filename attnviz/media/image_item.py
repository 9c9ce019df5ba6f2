"""One image of a list, before it is read."""

from dataclasses import dataclass
from typing import TypeAlias

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the upright image; right and bottom are exclusive."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is explained of an image, where it differs from the other images of a list.

    Attributes:
        target: Class by index or name.
        contrast: The class that is not meant.
        query: Query of a detector, or position in a sequence.
        region: Region of a segmentation, or place of an object.
    """

    target: str | None = None
    contrast: str | None = None
    query: int | None = None
    region: Box | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """An image of a list.

    Attributes:
        number: Index in the list, from 0.
        path: Local path or URL.
        label: Class label; ``None`` if unknown.
        boxes: Bounding boxes of the object.
        mask: Path or URL of an image that is white on the object.
        asked: What is explained, where the list says so.
    """

    number: int
    path: str
    label: str | None = None
    boxes: tuple[Box, ...] = ()
    mask: str | None = None
    asked: Asked = Asked()


def printable(text: str) -> str:
    r"""A path as valid Unicode: bytes that are not UTF-8 become U+FFFD.

    >>> printable("caf\udce9.jpg")
    'caf�.jpg'
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

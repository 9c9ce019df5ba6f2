"""What all exhibits share: the registry, the stage on which they are shown, and packed numbers for the page."""

from __future__ import annotations

import base64
from typing import Any, NamedTuple, Protocol

import numpy as np

from attnviz.registry import Registry
from attnviz.report.document import Array, Document


class Stage(NamedTuple):
    """What an exhibit may be laid over.

    Attributes:
        picture: The photograph, ``(S, S, 3)`` uint8.
        frames: The frames of a clip, ``(T, S, S, 3)`` uint8; ``None`` for a still photograph.
        seconds: When each frame is seen; empty for a still photograph.
    """

    picture: Array
    frames: Array | None = None
    seconds: tuple[float, ...] = ()


def stage_of(document: Document) -> Stage:
    """What a document's exhibits may be laid over."""
    clip = document.clip
    return Stage(document.picture) if clip is None else Stage(document.picture, clip.frames, clip.seconds)


class Still(NamedTuple):
    """A picture of an exhibit, for a printed figure.

    Attributes:
        title: A few words over it.
        pixels: ``(S, S, 3)`` uint8 RGB.
        note: A few words under it.
    """

    title: str
    pixels: Array
    note: str = ""


class Exhibit(Protocol):
    """Something on display."""

    @property
    def title(self) -> str:
        """A few words."""
        ...

    @property
    def caption(self) -> str:
        """What is seen, and what was left out to keep the page small."""
        ...

    def view(self, stage: Stage) -> dict[str, Any]:
        """What the exhibit's template needs, beside title and caption."""
        ...

    def stills(self, stage: Stage) -> list[Still]:
        """Pictures for a printed figure, the most telling first; none where a figure gains nothing."""
        ...


EXHIBITS: Registry[type[Any]] = Registry("exhibit", home="attnviz.report.exhibits")


def name_of(exhibit: Exhibit) -> str:
    """The name that an exhibit's class is registered under."""
    return next(name for name, one in EXHIBITS.entries().items() if one is type(exhibit))


def packed(values: Array) -> str:
    """Numbers as text for a script to unpack: little-endian bytes in base64."""
    return base64.b64encode(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()).decode("ascii")


def steps(values: Array, low: Array | float, high: Array | float) -> Array:
    """Values as 8-bit steps from ``low`` to ``high``; NaN is the low end.

    >>> steps(np.array([0.0, 0.5, 1.0, 9.0]), 0.0, 1.0).tolist()
    [0, 128, 255, 255]
    """
    span = np.maximum(np.asarray(high, np.float32) - low, 1e-30)
    scaled = (values.astype(np.float32) - low) / span
    rounded: Array = np.rint(np.clip(np.nan_to_num(scaled), 0, 1) * 255).astype(np.uint8)
    return rounded

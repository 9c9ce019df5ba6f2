"""The interface of a report component."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from attnviz.core.arrays import Array


class Backdrop(NamedTuple):
    """The image that a component is drawn over.

    Attributes:
        picture: RGB image, ``(S, S, 3)`` uint8.
        frames: Frames of a clip, ``(T, S, S, 3)`` uint8; ``None`` for a still image.
        seconds: Time of each frame; empty for a still image.
    """

    picture: Array
    frames: Array | None = None
    seconds: tuple[float, ...] = ()


class StaticImage(NamedTuple):
    """A picture of a component for a printed figure.

    Attributes:
        title: Text above the picture.
        pixels: ``(S, S, 3)`` uint8 RGB.
        note: Text below the picture.
    """

    title: str
    pixels: Array
    note: str = ""


class Component(Protocol):
    """A part of a report with a title, a caption and data to display."""

    @property
    def title(self) -> str:
        """Title."""
        ...

    @property
    def caption(self) -> str:
        """Caption: what is displayed, and what was left out to keep the page small."""
        ...

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """Return the variables of the component's template, except title and caption."""
        ...

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """Return pictures for a printed figure, the most important first; empty if a figure gains nothing."""
        ...

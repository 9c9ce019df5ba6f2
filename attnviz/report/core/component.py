"""What all components of a report share."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from attnviz.core.arrays import Array


class Backdrop(NamedTuple):
    """What a component may be laid over.

    Attributes:
        picture: The photograph, ``(S, S, 3)`` uint8.
        frames: The frames of a clip, ``(T, S, S, 3)`` uint8; ``None`` for a still photograph.
        seconds: When each frame is seen; empty for a still photograph.
    """

    picture: Array
    frames: Array | None = None
    seconds: tuple[float, ...] = ()


class StaticImage(NamedTuple):
    """A picture of a component, for a printed figure.

    Attributes:
        title: A few words over it.
        pixels: ``(S, S, 3)`` uint8 RGB.
        note: A few words under it.
    """

    title: str
    pixels: Array
    note: str = ""


class Component(Protocol):
    """Something on display."""

    @property
    def title(self) -> str:
        """A few words."""
        ...

    @property
    def caption(self) -> str:
        """What is seen, and what was left out to keep the page small."""
        ...

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """What the component's template needs, beside title and caption."""
        ...

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """Pictures for a printed figure, the most telling first; none where a figure gains nothing."""
        ...

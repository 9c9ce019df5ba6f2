"""The base class of report components, and their registry."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from attnviz.core.arrays import Array
from attnviz.core.registry import Registry


class Backdrop(NamedTuple):
    """The image that a component is drawn over.

    Attributes:
        picture: RGB image, ``(H, W, 3)`` uint8.
        frames: Frames of a clip, ``(T, H, W, 3)`` uint8; ``None`` for a still image.
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


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """A part of a report with a title, a caption and data to display.

    Attributes:
        title: Title.
        caption: What is displayed, and what was left out to keep the page small.
    """

    title: str
    caption: str

    def view(self, backdrop: Backdrop) -> dict[str, Any]:
        """Return the variables of the component's template, except title and caption."""
        raise NotImplementedError

    def static_images(self, backdrop: Backdrop) -> list[StaticImage]:
        """Return pictures for a printed figure, the most important first; empty if a figure gains nothing."""
        return []


COMPONENTS: Registry[type[Any]] = Registry("component", home="attnviz.report.components")


def name_of(component: Component) -> str:
    """Return the name under which a component's class is registered."""
    return next(name for name, one in COMPONENTS.entries().items() if one is type(component))

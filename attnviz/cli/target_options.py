"""Options that say what is explained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from attnviz.cli.options import apply_options

_Box = tuple[float, float, float, float]

if TYPE_CHECKING:
    _ParamType = click.ParamType[_Box]
else:
    _ParamType = click.ParamType  # not generic before Click 8.2


class BoxType(_ParamType):
    """A box as ``x0,y0,x1,y1``."""

    name = "x0,y0,x1,y1"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> _Box:
        """Four numbers."""
        if isinstance(value, tuple):
            return value
        try:
            x0, y0, x1, y1 = (float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"wanted left,top,right,bottom in pixels of the image, got {value!r}", param, ctx)
        return x0, y0, x1, y1


@dataclass(frozen=True, slots=True)
class Asked:
    """What is explained, as given on the command line; the fields are arguments of :func:`attnviz.explain`."""

    target: str | None = None
    contrast: str | None = None
    mask: str | None = None
    box: _Box | None = None
    query: int | None = None
    like: str | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The fields by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


target_option = click.option(
    "--target", "-t", help="What to explain: a class by index or name.  [default: what the model predicts]"
)
not_option = click.option("--not", "contrast", help="Class that is not meant: why the target and not this one.")


def asking(decorated: Callable[..., None]) -> Callable[..., None]:
    """Options ``--target``, ``--not``, ``--mask``, ``--box``, ``--query`` and ``--like``; given as ``asked``."""

    @wraps(decorated)
    def command(*, target: Any, contrast: Any, mask: Any, box: Any, query: Any, like: Any, **others: Any) -> None:
        decorated(asked=Asked(target, contrast, mask, box, query, like), **others)

    return apply_options(
        command,
        target_option,
        not_option,
        click.option("--mask", help="Region of a segmentation: an image that is white on it."),
        click.option("--box", type=BoxType(), help="Region, or place of an object, in pixels of the image."),
        click.option("--query", type=click.IntRange(min=0), help="Query of a detector, or position in a sequence."),
        click.option("--like", help="Image that the embedding of the image is compared with."),
    )

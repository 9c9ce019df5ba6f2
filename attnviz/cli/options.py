"""Options and parameter types that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from attnviz.media.image_listing import Listing
    from attnviz.models import VisionModel

    _NamesType = click.ParamType["tuple[str, ...]"]
else:
    _NamesType = click.ParamType  # not generic before Click 8.2

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

option = partial(click.option, show_default=True)
"""An option whose help shows its default."""

_SEED = click.IntRange(0, 2**63 - 1)
MODEL_HELP = "A name that `attnviz models` lists, or timm:NAME, torchvision:NAME, hf:NAME, package.module:function."


@dataclass(frozen=True, slots=True)
class Loading:
    """The values of ``--weights``, ``--device`` and ``--seed``."""

    weights: str
    device: str
    seed: int

    def __post_init__(self) -> None:
        if not self.weights:
            raise click.BadParameter("wanted default, none or a file", param_hint="'--weights'")

    def load(self, model: str) -> VisionModel:
        """Return the model on its device; the device is checked first, since that is quick.

        Raises:
            DeviceError: the device is not there.
            UnknownNameError: no such model.
            WeightsError: the weights are missing or damaged.
        """
        from attnviz.models import load_model
        from attnviz.models.devices import choose_device

        at = choose_device(self.device)
        vision = load_model(model, weights=self.weights, seed=self.seed)
        vision.module.to(at)
        return vision


def apply_options(decorated: Decorated, *options: Callable[[Decorated], Decorated]) -> Decorated:
    """Add options to a command, which are listed in this order."""
    for one in reversed(options):
        decorated = one(decorated)
    return decorated


def running(decorated: Callable[..., None]) -> Callable[..., None]:
    """Options ``--weights``, ``--device`` and ``--seed``; the command gets them as ``loading``."""

    @wraps(decorated)
    def command(*, weights: str, device: str, seed: int, **others: Any) -> None:
        decorated(loading=Loading(weights, device, seed), **others)

    return apply_options(
        command,
        option("--weights", default="default", help="default, none (random) or a file."),
        option("--device", default="auto", help="auto, cpu, cuda or mps."),
        option("--seed", type=_SEED, default=0, help="Random seed."),
    )


several_models = option(
    "--model", "-m", "models", multiple=True, default=("cbam",), help=f"{MODEL_HELP} Can be repeated."
)


def output(what: str, folder: str, formats: Sequence[str]) -> Callable[[Decorated], Decorated]:
    """Options ``--out`` and ``--format``, all by default, of a command that writes a folder, and :func:`printing`."""
    path, names = click.Path(path_type=Path), CommaList(formats)
    return lambda decorated: apply_options(
        printing(what)(decorated),
        option("--out", "-o", type=path, default=Path(folder), help="Output folder."),
        option("--format", "formats", type=names, default=",".join(formats), help="Files to write, comma-separated."),
    )


def printing(what: str) -> Callable[[Decorated], Decorated]:
    """Options ``--overwrite``, ``--json`` and ``--quiet``."""
    return lambda decorated: apply_options(
        decorated,
        click.option("--overwrite", is_flag=True, help=f"Replace an existing {what}."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON to standard output."),
        click.option("--quiet", "-q", is_flag=True, help="Suppress all output except errors."),
    )


class CommaList(_NamesType):
    """Comma-separated names, all of them in ``choices`` if given; ``none`` means no name if it ``may_be_empty``."""

    name = "names"

    def __init__(self, choices: Sequence[str] | None = None, *, may_be_empty: bool = False) -> None:
        self._choices = choices
        self._may_be_empty = may_be_empty

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The names, each once; a usage error for no name or an unknown one."""
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))
        if self._may_be_empty and names in {(), ("none",)}:
            return ()
        if not names:
            self.fail("wanted at least one name", param, ctx)
        for name in names:
            if self._choices and name not in self._choices:
                self.fail(f"{name!r} is not one of {', '.join(self._choices)}", param, ctx)
        return names


def list_given(images: Sequence[str], *, quiet: bool) -> Listing:
    """Return the local images in the arguments of a command, and print notes about the list to standard error.

    Raises:
        UsageError: an image is a URL.
        ImageError: a path does not exist, or a folder contains no image.
        DataError: a list or table with a mistake.
    """
    from attnviz.media.image_listing import list_images
    from attnviz.media.remote_files import is_url

    listing = list_images(images)
    remote = next((item.path for item in listing.items if is_url(item.path)), None)
    if remote is not None:
        raise click.UsageError(f"wanted local files, got {remote}; attnviz report also takes URLs")
    for note in () if quiet else listing.notes:
        click.secho(f"note: {note}", fg="yellow", err=True)
    return listing

"""Options and parameter types that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from attnviz.media.image_listing import Listing

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

if TYPE_CHECKING:
    _NamesType = click.ParamType["tuple[str, ...]"]
else:
    _NamesType = click.ParamType  # not generic before Click 8.2

_SEED = click.IntRange(0, 2**63 - 1)
MODEL_HELP = "A name that `attnviz models` lists, or timm:NAME, torchvision:NAME, hf:NAME, package.module:function."


def _apply(decorated: Decorated, *options: Callable[[Decorated], Decorated]) -> Decorated:
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def running(decorated: Decorated) -> Decorated:
    """Options ``--weights``, ``--device`` and ``--seed``."""
    return _apply(
        decorated,
        click.option("--weights", default="default", show_default=True, help="default, none (random) or a file."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps."),
        click.option("--seed", type=_SEED, default=0, show_default=True, help="Random seed."),
    )


def several_models(decorated: Decorated) -> Decorated:
    """Option ``--model``, which can be repeated."""
    return click.option(
        "--model", "-m", "models", multiple=True, default=("cbam",), show_default=True,
        help=f"{MODEL_HELP} Can be repeated.",
    )(decorated)  # fmt: skip


def output(what: str, folder: str, formats: Sequence[str]) -> Callable[[Decorated], Decorated]:
    """Options ``--out`` and ``--format`` of a command that writes a folder, and those of :func:`printing`.

    Args:
        what: What is written, for the help: ``"comparison"``.
        folder: Default folder.
        formats: Formats, all written by default.
    """

    def decorate(decorated: Decorated) -> Decorated:
        return _apply(
            printing(what)(decorated),
            click.option(
                "--out", "-o", type=click.Path(path_type=Path), default=Path(folder), show_default=True,
                help="Output folder.",
            ),
            click.option(
                "--format", "formats", type=CommaList(formats), default=",".join(formats), show_default=True,
                help="Files to write, comma-separated.",
            ),
        )  # fmt: skip

    return decorate


def printing(what: str) -> Callable[[Decorated], Decorated]:
    """Options ``--overwrite``, ``--json`` and ``--quiet``."""

    def decorate(decorated: Decorated) -> Decorated:
        return _apply(
            decorated,
            click.option("--overwrite", is_flag=True, help=f"Replace an existing {what}."),
            click.option("--json", "as_json", is_flag=True, help="Print JSON to standard output."),
            click.option("--quiet", "-q", is_flag=True, help="Suppress all output except errors."),
        )

    return decorate


class CommaList(_NamesType):
    """Comma-separated names.

    Args:
        choices: Allowed names; all by default.
        may_be_empty: Whether ``none`` means no name.
    """

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

"""What ``train`` and ``evaluate`` share: where pictures come from, progress, and the table of figures."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    pass

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


def folders_of_pictures(decorated: Decorated) -> Decorated:
    """Options ``--objects`` and ``--backgrounds``."""
    decorated = click.option("--backgrounds", type=_FOLDER, help="Folder of photographs, in place of the packages'.")(
        decorated
    )
    return click.option(
        "--objects", type=_FOLDER, help="Folder of cut-outs with transparency, in place of Tux Paint's."
    )(decorated)


def cache_folder(decorated: Decorated) -> Decorated:
    """Option ``--cache``."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return click.option(
        "--cache",
        type=click.Path(path_type=Path, file_okay=False),
        default=home / "attnviz",
        show_default="~/.cache/attnviz",
        help="Folder for features and checkpoints.",
    )(decorated)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each part of a run, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:>11}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def on_progress(part: str, done: int, total: int) -> None:
            if part not in tasks:
                tasks[part] = bars.add_task(part, total=total)
            bars.update(tasks[part], completed=done, total=total)

        yield on_progress

"""What ``train`` and ``evaluate`` share: where pictures come from, progress, and the table of figures."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from attnviz.training.evaluation import Evaluation, Figure

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

        def told(part: str, done: int, total: int) -> None:
            if part not in tasks:
                tasks[part] = bars.add_task(part, total=total)
            bars.update(tasks[part], completed=done, total=total)

        yield told


def shown_table(results: Sequence[Evaluation]) -> str:
    """The figures as a table for the terminal, each with its 95 % interval."""
    from rich.console import Console
    from rich.table import Table

    first = results[0]
    table = Table(
        title="Held-out scenes and photographs",
        caption=(
            f"{first.kl.n} scenes, the teacher sure in {first.top1.n}; {first.plain.n} photographs in which the trunk "
            f"sees something. Below each figure its 95 % interval. Pointing by chance: {first.chance.value:.2f}."
        ),
        caption_justify="left",
    )
    gains = [result.gain for result in results if result.gain is not None]
    above = ("above none",) if gains else ()
    for column in ("model", "parameters", "KL", "top-1", "top-5", "pointing", *above, "plain top-1", "map of"):
        table.add_column(column, justify="left" if column in {"model", "map of"} else "right")
    for result in results:
        gain = ("–" if result.gain is None else _cell(result.gain),) if gains else ()
        cells = (*map(_cell, (result.kl, result.top1, result.top5, result.pointing)), *gain, _cell(result.plain))
        table.add_row(result.model, f"{result.parameters:,}", *cells, result.map_of, end_section=True)
    width = None if os.environ.get("COLUMNS") else 120
    console = Console(width=width)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def _cell(figure: Figure) -> str:
    return f"{figure.value:.2f}\n[dim]{figure.low:.2f}–{figure.high:.2f}[/dim]"

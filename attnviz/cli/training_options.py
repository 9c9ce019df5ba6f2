"""Options and progress display that ``train`` and ``evaluate`` share with the scripts of ``builtin_training/``."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from attnviz.cli.errors import error_lines

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_OUTPUT_FOLDER = click.Path(path_type=Path, file_okay=False)
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnviz"

_TRAINING = (
    click.argument("model"),
    click.option(
        "--out",
        type=_OUTPUT_FOLDER,
        default=Path("attnviz-models"),
        show_default=True,
        help="Output folder of weights/ and cards/.",
    ),
    click.option(
        "--views", type=click.IntRange(min=2), default=16000, show_default=True, help="Number of training views."
    ),
    click.option("--epochs", type=click.IntRange(min=1), default=1, show_default=True, help="Number of epochs."),
    click.option("--batch", type=click.IntRange(min=2), default=32, show_default=True, help="Batch size."),
    click.option("--optimizer", default="adamw", show_default=True, help="adamw, sgd or sam."),
    click.option("--weight-decay", type=click.FloatRange(min=0), default=0.05, show_default=True, help="Weight decay."),
    click.option(
        "--learning-rate",
        type=click.FloatRange(min=0, min_open=True),
        default=2e-3,
        show_default=True,
        help="Learning rate.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Random seed."),
    click.option("--overwrite", is_flag=True, help="Overwrite existing weights and cards in --out."),
    click.option(
        "--cache",
        type=_OUTPUT_FOLDER,
        default=_CACHE,
        show_default="~/.cache/attnviz",
        help="Folder of cached features and checkpoints.",
    ),
)


def training_options(decorated: Decorated) -> Decorated:
    """Add the argument ``MODEL`` and the options of every training run."""
    for option in reversed(_TRAINING):
        decorated = option(decorated)
    return decorated


_EVALUATION = (
    click.argument("models", nargs=-1),
    click.option("--weights", type=click.Path(path_type=Path), help="File of the attention's weights, for one model."),
    click.option(
        "--views",
        type=click.IntRange(min=2),
        default=1600,
        show_default=True,
        help="Number of views; half of them are plain photographs.",
    ),
    click.option(
        "--seed", type=int, help="Seed of the held-out split.  [default: the seed that the models were trained with]"
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table."),
)


def evaluation_options(decorated: Decorated) -> Decorated:
    """Add the arguments ``MODELS`` and the options of every evaluation."""
    for option in reversed(_EVALUATION):
        decorated = option(decorated)
    return decorated


class Script(click.Command):
    """A command that is a program of its own, with the error messages and exit codes of ``attnviz``."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        with error_lines():
            return super().invoke(ctx)


def repeatable(program: str, arguments: Mapping[str, object]) -> str:
    """Return the command line with every option that affects the result, including defaults.

    >>> repeatable("attnviz train", {"model": "cbam", "batch": 32, "learning_rate": 0.01, "cache": "c"})
    'attnviz train cbam --batch 32 --learning-rate 0.01'
    """
    left_out = {"model", "out", "cache", "overwrite"}
    options = [
        f"--{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name, value in arguments.items()
        if name not in left_out and value is not None
    ]
    return " ".join([program, str(arguments["model"]), *options])


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show one progress bar per step on standard error; yields the progress callback."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:>11}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def on_progress(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield on_progress

"""Options that ``train`` and ``evaluate`` share with the scripts of ``builtin_training/``."""

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from attnviz.cli.errors import error_lines
from attnviz.cli.options import Decorated, apply_options, option

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_OUTPUT_FOLDER = click.Path(path_type=Path, file_okay=False)
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnviz"
_RATE = click.FloatRange(min=0, min_open=True)
_DEFAULT_OUT, _OUT_HELP = Path("attnviz-models"), "Output folder of weights/ and cards/."


def training_options(decorated: Decorated) -> Decorated:
    """Add the argument ``MODEL`` and the options of every training run."""
    return apply_options(
        decorated,
        click.argument("model"),
        option("--out", type=_OUTPUT_FOLDER, default=_DEFAULT_OUT, help=_OUT_HELP),
        option("--views", type=click.IntRange(min=2), default=16000, help="Number of training views."),
        option("--epochs", type=click.IntRange(min=1), default=1, help="Number of epochs."),
        option("--batch", type=click.IntRange(min=2), default=32, help="Batch size."),
        option("--optimizer", default="adamw", help="adamw, sgd or sam."),
        option("--weight-decay", type=click.FloatRange(min=0), default=0.05, help="Weight decay."),
        option("--learning-rate", type=_RATE, default=2e-3, help="Learning rate."),
        option("--seed", type=int, default=0, help="Random seed."),
        click.option("--overwrite", is_flag=True, help="Overwrite existing weights and cards in --out."),
        click.option(
            "--cache", type=_OUTPUT_FOLDER, default=_CACHE, show_default="~/.cache/attnviz",
            help="Folder of cached features and checkpoints.",
        ),
    )  # fmt: skip


def evaluation_options(objects: str, backgrounds: str) -> Callable[[Decorated], Decorated]:
    """Add the arguments ``MODELS`` and the options of every evaluation; ``objects`` and ``backgrounds`` are help."""
    seed_help = "Seed of the held-out split.  [default: the seed that the models were trained with]"
    views_help = "Number of views; half of them are plain photographs."
    return lambda decorated: apply_options(
        decorated,
        click.argument("models", nargs=-1),
        option("--weights", type=click.Path(path_type=Path), help="File of the attention's weights, for one model."),
        option("--views", type=click.IntRange(min=2), default=1600, help=views_help),
        option("--seed", type=int, help=seed_help),
        click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table."),
        option("--objects", type=FOLDER, help=objects),
        option("--backgrounds", type=FOLDER, help=backgrounds),
    )


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

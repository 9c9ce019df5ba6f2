"""``attnviz train``: train the attention of a built-in model, evaluate it, and write its card."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from attnviz import __version__
from attnviz.cli.evaluation_tables import accuracy_table, shown_table
from attnviz.cli.training_options import cache_folder, folders_of_pictures, progress

if TYPE_CHECKING:
    from attnviz.training.run import TrainingPlan


@click.command()
@click.argument("model")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("attnviz-models"),
    show_default=True,
    help="Folder for weights/ and cards/.",
)
@click.option("--views", type=click.IntRange(min=2), default=16000, show_default=True, help="Views to train on.")
@click.option(
    "--plain-share",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of plain photographs among the views.",
)
@click.option(
    "--plain-weight",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="What a plain photograph counts, a scene counting 1.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--batch", type=click.IntRange(min=2), default=32, show_default=True)
@click.option("--optimizer", default="adamw", show_default=True, help="adamw, sgd or sam.")
@click.option("--weight-decay", type=click.FloatRange(min=0), default=0.05, show_default=True)
@click.option(
    "--patches",
    type=click.IntRange(min=0),
    default=6,
    show_default=True,
    help="At most how many parts of each photograph serve as objects too, in every other scene.",
)
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=2e-3, show_default=True)
@click.option(
    "--held-out-views", type=click.IntRange(min=2), default=1600, show_default=True, help="Views to evaluate on."
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the split, the views, the start and the order."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Train on labels: a folder of photographs with a subfolder for each class.",
)
@click.option("--overwrite", is_flag=True, help="Replace weights and card in --out.")
@folders_of_pictures
@cache_folder
def command(
    model: str,
    *,
    out: Path,
    views: int,
    plain_share: float,
    plain_weight: float,
    epochs: int,
    batch: int,
    optimizer: str,
    weight_decay: float,
    patches: int,
    learning_rate: float,
    held_out_views: int,
    seed: int,
    data: Path | None,
    overwrite: bool,
    objects: Path | None,
    backgrounds: Path | None,
    cache: Path,
) -> None:
    """Train the attention of MODEL; everything else in it stays as it is.

    The teacher is the bare network looking at an object alone; the student must give the same answer for the same
    object, small and off-centre in a photograph. Interrupt it when you like: the same command goes on where it stopped.

    Objects and photographs come from Debian packages unless you name folders of your own. With --data the labels of
    your photographs teach instead, the attention and a classifier for your classes.

    \b
    attnviz train cbam
    attnviz train cbam --data photos/ --views 4000
    """  # noqa: D301  # \b is the character that keeps Click from re-wrapping
    from attnviz.models import MODELS
    from attnviz.training.features import DataRecipe
    from attnviz.training.optimizers import OPTIMIZERS
    from attnviz.training.run import TrainingPlan, refuse_to_overwrite, train
    from attnviz.training.sources import find_sources
    from attnviz.training.trainer import TrainRecipe

    MODELS[model]
    OPTIMIZERS[optimizer]
    arguments = click.get_current_context().params
    plan = TrainingPlan(
        model,
        DataRecipe(views, plain_share, seed, frames=MODELS[model].frames, patches=patches),
        TrainRecipe(epochs, batch, learning_rate, plain_weight, seed, optimizer, weight_decay),
        held_out_views,
        out,
        cache,
        _command(arguments),
        __version__,
    )
    if not overwrite:
        refuse_to_overwrite(plan.outputs)
    if data is not None:
        if objects or backgrounds:
            raise click.UsageError(
                "--data teaches by labels; --objects and --backgrounds make scenes: take one of them"
            )
        _on_labels(plan, data)
        return
    with progress() as on_progress:
        on_progress("pictures", 0, 1)
        sources = find_sources(objects, backgrounds)
        on_progress("pictures", 1, 1)
        measured = train(plan, sources, on_progress)
    click.echo(shown_table([measured]), nl=False)
    click.echo("\n".join(f"wrote {path}" for path in plan.outputs if path.exists()))


def _on_labels(plan: TrainingPlan, folder: Path) -> None:
    from dataclasses import asdict

    from attnviz.training.labelled import find_labelled, train_labelled
    from attnviz.training.run import versions

    made = {
        "command": plan.command,
        "data": {"folder": str(folder), "views": plan.data.views},
        "training": asdict(plan.training),
        "versions": {"attnviz": plan.version, **versions()},
    }
    with progress() as on_progress:
        measured = train_labelled(
            plan.model, find_labelled(folder), plan.data.views, plan.training, plan.out, plan.cache, made, on_progress
        )
    click.echo(accuracy_table(measured), nl=False)
    click.echo("\n".join(f"wrote {path}" for path in plan.outputs[:2]))


def _command(arguments: dict[str, object]) -> str:
    """The command with every option that matters for the result, defaults included."""
    left_out = {"model", "out", "cache", "overwrite"}
    options = [
        f"--{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name, value in arguments.items()
        if name not in left_out and value is not None
    ]
    return " ".join(["attnviz train", str(arguments["model"]), *options])

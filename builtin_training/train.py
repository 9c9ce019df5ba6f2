"""Train a built-in model, evaluate it and write its weights and its card.

    python builtin_training/train.py NAME [options]

The objects and photographs come from Debian packages; a missing package is named in the error message.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

from attnviz.cli.evaluation_tables import evaluation_table
from attnviz.cli.options import option
from attnviz.cli.progress import progress_bar
from attnviz.cli.training_options import FOLDER, Script, repeatable, training_options
from attnviz.media.atomic_files import check_files
from attnviz.models import MODELS
from attnviz.training.features import DataRecipe
from attnviz.training.optimizers import OPTIMIZERS
from attnviz.training.trainer import TrainRecipe
from builtin_training.debian_sources import BACKGROUNDS_HELP, OBJECTS_HELP, find_sources
from builtin_training.run import TrainingPlan, train


@click.command(cls=Script)
@training_options
@option("--plain-share", type=click.FloatRange(0, 1), default=0.5, help="Share of plain photographs.")
@option(
    "--plain-weight", type=click.FloatRange(min=0), default=3.0,
    help="Loss weight of a plain photograph; a scene has weight 1.",
)  # fmt: skip
@option(
    "--patches", type=click.IntRange(min=0), default=6,
    help="Maximum number of parts of each photograph that are used as objects, in every other scene.",
)  # fmt: skip
@option("--held-out-views", type=click.IntRange(min=2), default=1600, help="Number of evaluation views.")
@option("--objects", type=FOLDER, help=OBJECTS_HELP)
@option("--backgrounds", type=FOLDER, help=BACKGROUNDS_HELP)
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
    overwrite: bool,
    objects: Path | None,
    backgrounds: Path | None,
    cache: Path,
) -> None:
    """Train the attention of MODEL; the trunk stays frozen.

    The target of a scene is the prediction of the bare trunk for the object on grey; the model is trained to make the
    same prediction for the same object, small and off-centre in a photograph. An interrupted training is resumed by
    the same command.
    """
    MODELS[model]
    OPTIMIZERS[optimizer]
    plan = TrainingPlan(
        model,
        DataRecipe(views, plain_share, seed, frames=MODELS[model].frames, patches=patches),
        TrainRecipe(epochs, batch, learning_rate, plain_weight, seed, optimizer, weight_decay),
        held_out_views,
        out,
        cache,
        repeatable("python builtin_training/train.py", click.get_current_context().params),
    )
    check_files(out, plan.outputs, "model", overwrite=overwrite)
    with progress_bar(shown=True) as on_progress:
        on_progress("images", 0, 1)
        sources = find_sources(objects, backgrounds)
        on_progress("images", 1, 1)
        result = train(plan, sources, on_progress)
    click.echo(evaluation_table([result]), nl=False)
    click.echo("\n".join(f"wrote {out / name}" for name in plan.outputs if (out / name).exists()))


if __name__ == "__main__":
    command()

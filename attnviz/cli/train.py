"""``attnviz train``: train the attention of a built-in model and a classifier on labelled images."""

from pathlib import Path

import click

from attnviz.cli.evaluation_tables import accuracy_table
from attnviz.cli.progress import progress_bar
from attnviz.cli.training_options import FOLDER, repeatable, training_options


@click.command()
@training_options
@click.option("--data", type=FOLDER, help="Folder of images with one subfolder per class; required.")
def command(
    model: str,
    *,
    out: Path,
    views: int,
    epochs: int,
    batch: int,
    optimizer: str,
    weight_decay: float,
    learning_rate: float,
    seed: int,
    overwrite: bool,
    cache: Path,
    data: Path | None,
) -> None:
    """Train the attention of MODEL and a classifier for the classes of --data; the trunk stays frozen.

    A control with only the classifier is trained too, and both are evaluated on a held-out fifth of the images.
    An interrupted training is resumed by the same command.

    \b
    attnviz train cbam --data photos/ --views 4000
    attnviz explain cat.jpg --model cbam --weights attnviz-models/weights/cbam.safetensors
    """  # noqa: D301  # \b is the character that keeps Click from re-wrapping
    if data is None:
        raise click.UsageError(
            "attnviz train needs --data FOLDER, a folder of images with one subfolder per class; the shipped weights "
            "are trained by builtin_training/train.py in the repository"
        )
    from dataclasses import asdict

    from attnviz.media.atomic_files import check_files
    from attnviz.models import MODELS
    from attnviz.training.labelled import train_labelled
    from attnviz.training.labelled_images import find_labelled
    from attnviz.training.optimizers import OPTIMIZERS
    from attnviz.training.trainer import TrainRecipe, versions

    MODELS[model]
    OPTIMIZERS[optimizer]
    outputs = (f"weights/{model}.safetensors", f"cards/{model}.json")
    check_files(out, outputs, "model", overwrite=overwrite)
    recipe = TrainRecipe(epochs, batch, learning_rate, seed=seed, optimizer=optimizer, weight_decay=weight_decay)
    made = {
        "command": repeatable("attnviz train", click.get_current_context().params),
        "data": {"folder": str(data), "views": views},
        "training": asdict(recipe),
        "versions": versions(),
    }
    with progress_bar(shown=True) as on_progress:
        accuracies = train_labelled(model, find_labelled(data), views, recipe, out, cache, made, on_progress)
    click.echo(accuracy_table(accuracies), nl=False)
    click.echo("\n".join(f"wrote {out / name}" for name in outputs))

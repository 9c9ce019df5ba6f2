"""``attnviz evaluate``: evaluate built-in models on held-out scenes and photographs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attnviz.cli.evaluation_tables import evaluation_table
from attnviz.cli.progress import progress_bar
from attnviz.cli.training_options import evaluation_options

if TYPE_CHECKING:
    from attnviz.training.sources import Sources


@click.command()
@evaluation_options(
    "Folder of cut-out objects with transparency; required.", "Folder of photographs; required."
)  # fmt: skip
def command(*, objects: Path | None, backgrounds: Path | None, **options: Any) -> None:
    """Evaluate MODELS, by default all that have weights, on scenes of objects in photographs.

    A fifth of the objects and photographs is used: the fifth that a training with the same seed leaves out.
    """
    if objects is None or backgrounds is None:
        raise click.UsageError(
            "attnviz evaluate needs --objects FOLDER and --backgrounds FOLDER; the published figures are made by "
            "builtin_training/evaluate.py in the repository"
        )
    from attnviz.training.sources import find_sources

    print_evaluation(lambda: find_sources(objects, backgrounds), **options)


def print_evaluation(
    load_sources: Callable[[], Sources],
    models: Sequence[str],
    weights: Path | None,
    views: int,
    seed: int | None,
    *,
    as_json: bool,
) -> None:
    """Evaluate models on held-out views, and print the figures as a table or as JSON.

    Without ``models``, all that have weights are evaluated; without ``weights``, a file for one model, the shipped
    ones; without a ``seed`` of the held-out split, that of the training.
    """
    from attnviz.models import MODELS
    from attnviz.models.builtin import is_shipped
    from attnviz.models.card import read_card
    from attnviz.training.evaluation import evaluate_models
    from attnviz.training.features import DataRecipe

    names = tuple(models) or tuple(name for name in MODELS if is_shipped(name))
    for name in names:
        MODELS[name]
    if weights is not None and len(names) != 1:
        raise click.UsageError("--weights is for one model: name it")
    cards = {name: read_card(name) for name in names}
    seeds = {name: int(card.made["data"]["seed"]) for name, card in cards.items() if card and weights is None}
    seed = _split_seed(seed, seeds)
    map_of = {name: card.figures["map_of"] for name, card in cards.items() if card}
    results = []
    with progress_bar(shown=True) as on_progress:
        sources = load_sources()
        for frames in dict.fromkeys(MODELS[name].frames for name in names):
            group = [name for name in names if MODELS[name].frames == frames or not MODELS[name].attends]
            held_out = DataRecipe(views, seed=seed, held_out=True, frames=frames)
            fitting = (name for name in group if name in map_of and (frames is None or MODELS[name].frames))
            chosen = {name: map_of[name] for name in fitting}
            results += evaluate_models(dict.fromkeys(group, weights), sources, held_out, on_progress, chosen)
    if as_json:
        click.echo(json.dumps([result.as_dict() for result in results], indent=1))
    else:
        click.echo(evaluation_table(results), nl=False)


def _split_seed(seed: int | None, seeds: Mapping[str, int]) -> int:
    """The seed, given or of the trainings, whose held-out images no model was trained on; a usage error if none."""
    distinct = set(seeds.values()) | ({seed} if seed is not None else set())
    if len(distinct) > 1:
        trained = ", ".join(f"{name} with seed {other}" for name, other in seeds.items())
        given = "" if seed is None else f"; got --seed {seed}"
        why = "images held out by one seed are training images of another"
        raise click.UsageError(f"{why}: trained were {trained}{given}")
    return distinct.pop() if distinct else 0

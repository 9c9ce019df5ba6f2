"""``attnviz evaluate``: built-in models on held-out scenes and photographs, in one table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import click

from attnviz.cli.evaluation_tables import shown_table
from attnviz.cli.training_options import folders_of_pictures, progress


@click.command()
@click.argument("models", nargs=-1)
@click.option("--weights", type=click.Path(path_type=Path), help="File of the attention's weights, for one model.")
@click.option(
    "--views",
    type=click.IntRange(min=2),
    default=1600,
    show_default=True,
    help="Views, half of them plain photographs.",
)
@click.option(
    "--seed", type=int, help="Decides what is held out.  [default: the one that the models were trained with]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")
@folders_of_pictures
def command(
    models: tuple[str, ...],
    *,
    weights: Path | None,
    views: int,
    seed: int | None,
    as_json: bool,
    objects: Path | None,
    backgrounds: Path | None,
) -> None:
    """Evaluate MODELS, by default all that come trained, on objects and photographs that no model was trained on."""
    from attnviz.models import MODELS
    from attnviz.models.builtin import is_shipped
    from attnviz.models.card import read_card
    from attnviz.training.features import DataRecipe
    from attnviz.training.run import measure
    from attnviz.training.sources import find_sources

    names = models or tuple(name for name in MODELS if is_shipped(name))
    for name in names:
        MODELS[name]
    if weights is not None and len(names) != 1:
        raise click.UsageError("--weights is for one model: name it")
    cards = {name: read_card(name) for name in names}
    trained_with = {name: int(card.made["data"]["seed"]) for name, card in cards.items() if card and weights is None}
    seed = _held_out_by(seed, trained_with)
    with progress() as on_progress:
        sources = find_sources(objects, backgrounds)
        map_of = {name: card.figures["map_of"] for name, card in cards.items() if card}
        results = []
        for frames in dict.fromkeys(MODELS[name].frames for name in names):
            group = [name for name in names if MODELS[name].frames == frames or not MODELS[name].attends]
            held_out = DataRecipe(views, seed=seed, held_out=True, frames=frames)
            chosen = map_of if frames is None else {name: map_of[name] for name in group if MODELS[name].frames}
            results += measure(dict.fromkeys(group, weights), sources, held_out, on_progress, chosen)
    if as_json:
        click.echo(json.dumps([result.as_dict() for result in results], indent=1))
    else:
        click.echo(shown_table(results), nl=False)


def _held_out_by(seed: int | None, trained_with: Mapping[str, int]) -> int:
    """The seed whose held-out objects and photographs no model was trained on.

    Raises:
        UsageError: there is none.
    """
    seeds = set(trained_with.values()) | ({seed} if seed is not None else set())
    if len(seeds) > 1:
        on_progress = ", ".join(f"{name} with {other}" for name, other in trained_with.items())
        asked = "" if seed is None else f"; --seed {seed} was asked for"
        raise click.UsageError(f"what one seed holds out, another trains on: trained were {on_progress}{asked}")
    return seeds.pop() if seeds else 0

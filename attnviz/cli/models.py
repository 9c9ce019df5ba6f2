"""``attnviz models``: what can be loaded, with the figures of the shipped model cards."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from attnviz.models.card import Card

_FIGURES = ("kl", "top1", "top5", "pointing", "plain")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def command(*, as_json: bool) -> None:
    """List the models, with their figures on held-out scenes and photographs."""
    from attnviz.models import LOADERS, MODELS
    from attnviz.models.card import read_card

    cards = {name: read_card(name) for name in MODELS}
    if as_json:
        rows = [
            {"model": name, "summary": one.summary, "source": one.source, "figures": card.figures if card else None}
            for (name, card), one in zip(cards.items(), map(MODELS.__getitem__, cards), strict=True)
        ]
        libraries = [f"{scheme}:" for scheme in LOADERS if scheme != "function"]
        click.echo(json.dumps({"models": rows, "libraries": libraries}, indent=1))
    else:
        _print_table(cards)


def _print_table(cards: Mapping[str, Card | None]) -> None:
    from rich.console import Console
    from rich.table import Table

    from attnviz.models import MODELS

    table = Table(
        caption="KL, top-1, top-5 and pointing on held-out scenes; plain: agreement with the bare network on held-out "
        "photographs, measured by builtin_training/evaluate.py in the repository.",
        caption_justify="left",
    )
    table.add_column("model", no_wrap=True)
    table.add_column("what it is", ratio=1)
    for heading in ("parameters", "KL", "top-1", "top-5", "pointing", "plain"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, card in cards.items():
        mechanism = MODELS[name]
        values = [card.value(key) for key in _FIGURES] if card else [math.nan] * len(_FIGURES)
        parameters = f"{card.value('parameters'):,.0f}" if card else "–"
        shown = ["–" if math.isnan(value) else f"{value:.2f}" for value in values]
        table.add_row(name, f"{mechanism.summary} ({mechanism.source})", parameters, *shown)
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=140)  # a pipe or a file has no width of its own
    console.print(table)
    console.print(
        "Also timm:NAME, torchvision:NAME, hf:REPOSITORY-OR-FOLDER and your own package.module:function.",
        highlight=False,
    )

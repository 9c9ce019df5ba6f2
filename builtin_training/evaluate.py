"""Evaluate built-in models on held-out objects and photographs of Debian packages: the published figures.

python builtin_training/evaluate.py [NAMES] [options]
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

from attnviz.cli.evaluate import print_evaluation
from attnviz.cli.training_options import FOLDER, Script, evaluation_options
from builtin_training.debian_sources import find_sources


@click.command(cls=Script)
@evaluation_options
@click.option("--objects", type=FOLDER, help="Folder of cut-outs with transparency, instead of Tux Paint's stamps.")
@click.option("--backgrounds", type=FOLDER, help="Folder of photographs, instead of those of the packages.")
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
    """Evaluate MODELS, by default all that have weights, on objects and photographs that no model was trained on."""
    print_evaluation(models, weights, views, seed, lambda: find_sources(objects, backgrounds), as_json=as_json)


if __name__ == "__main__":
    command()

"""Evaluate built-in models on held-out objects and photographs of Debian packages: the published figures.

python builtin_training/evaluate.py [NAMES] [options]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

from attnviz.cli.evaluate import print_evaluation
from attnviz.cli.training_options import Script, evaluation_options
from builtin_training.debian_sources import BACKGROUNDS_HELP, OBJECTS_HELP, find_sources


@click.command(cls=Script)
@evaluation_options(OBJECTS_HELP, BACKGROUNDS_HELP)
def command(*, objects: Path | None, backgrounds: Path | None, **options: Any) -> None:
    """Evaluate MODELS, by default all that have weights, on objects and photographs that no model was trained on."""
    print_evaluation(lambda: find_sources(objects, backgrounds), **options)


if __name__ == "__main__":
    command()

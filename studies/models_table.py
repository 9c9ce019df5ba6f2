"""The table of the built-in models in the README, from their cards: run it after a card has changed.

python studies/models_table.py [--check]
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnviz.models import MODELS
from attnviz.models.card import Card, read_card

README = Path(__file__).parents[1] / "README.md"
HEAD = (
    "| model | parameters | KL, nats | top-1 | top-5 | pointing | energy | Grad-CAM | plain | GFLOP | time "
    "| the map that points |"
)
FIGURES = ("kl", "top1", "top5", "pointing", "energy", "gradcam", "plain")


def main() -> None:
    """Put the table into the README, or say that another is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the table is not the cards'")
    options = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    wanted = with_table(text)
    if options.check and wanted != text:
        raise SystemExit(f"{README}: the table is not that of the cards; python studies/models_table.py writes it")
    README.write_text(wanted, encoding="utf-8")


def with_table(text: str) -> str:
    """The README with the table of the cards that are there."""
    names = sorted(MODELS, key=lambda name: (MODELS[name].attends, name))  # the control comes first
    cards = [card for card in map(read_card, names) if card is not None]
    rows = [HEAD, "|" + "---|" * HEAD.count(" | ") + "---|", *map(row, cards)]
    pattern = re.escape(HEAD) + r"\n(?:\|.*\n)+"
    return re.sub(pattern, lambda _: "\n".join(rows) + "\n", text, count=1)


def row(card: Card) -> str:
    """One model."""
    figures, cost = card.figures, card.figures["cost"]
    measured = [cell(figures[key]) for key in FIGURES]
    costs = [f"{cost['flops'] / 1e9:.2f}", f"{cost['time_ratio']:.2f}×"]
    cells = [f"`{card.model}`", f"{figures['parameters']:,}", *measured, *costs, figures["map_of"]]
    return f"| {' | '.join(cells)} |"


def cell(figure: Mapping[str, Any]) -> str:
    """A value with its interval; a dash where there is none."""
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]" if figure["n"] else "–"


if __name__ == "__main__":
    main()

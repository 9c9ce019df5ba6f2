"""Write the tables of the built-in models in the README, from their cards and gains.

python studies/models_table.py [--check]
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gains import interval_text

from attnviz.models import MODELS
from attnviz.models.card import Card, read_card
from attnviz.training.scenes import OBJECT_SHARE

README = Path(__file__).parents[1] / "README.md"
GAINS = README.parent / "docs" / "explanation" / "gains" / "gains.csv"
HEAD = (
    "| model | parameters | KL, nats | top-1 | top-5 | pointing | energy | Grad-CAM | plain | GFLOP | time "
    "| the map that points |"
)
GAINS_HEAD = "| model | KL, nats | top-1 | top-5 | pointing |"
FIGURES = ("kl", "top1", "top5", "pointing", "energy", "gradcam", "plain")


def main() -> None:
    """Write the tables into the README, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="Change nothing; fail if a table differs.")
    options = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    names = sorted(MODELS, key=lambda name: (MODELS[name].attends, name))  # the control comes first
    cards = [card for card in map(read_card, names) if card is not None]
    expected = with_table(text, HEAD, list(map(row, cards)))
    expected = with_table(expected, GAINS_HEAD, [gain for name in names for gain in gains_of(name)])
    if options.check and expected != text:
        raise SystemExit(f"{README}: tables differ from cards and gains; python studies/models_table.py writes them")
    README.write_text(expected, encoding="utf-8")


def with_table(text: str, head: str, rows: Sequence[str]) -> str:
    """Return the text with the rows below a table's head replaced."""
    lines = [head, "|" + "---|" * head.count(" | ") + "---|", *rows]
    return re.sub(re.escape(head) + r"\n(?:\|.*\n)+", lambda _: "\n".join(lines) + "\n", text, count=1)


def gains_of(name: str) -> Iterator[str]:
    """Yield the row of a model's figures minus the control's, on the views of the cards."""
    with GAINS.open(newline="", encoding="utf-8") as file:
        for one in csv.DictReader(file):
            if one["model"] == name and float(one["object_from"]) == OBJECT_SHARE[0] and one["kl_gain_value"]:
                keys = ("kl_gain", "top1_gain", "top5_gain", "pointing_gain")
                yield f"| `{name}` | {' | '.join(interval_text(one, key, '+') for key in keys)} |"


def row(card: Card) -> str:
    """Return the row of one model."""
    figures, cost = card.figures, card.figures["cost"]
    measured = [cell(figures[key]) for key in FIGURES]
    costs = [f"{cost['flops'] / 1e9:.2f}", f"{cost['time_ratio']:.2f}×"]
    cells = [f"`{card.model}`", f"{figures['parameters']:,}", *measured, *costs, figures["map_of"]]
    return f"| {' | '.join(cells)} |"


def cell(figure: Mapping[str, Any]) -> str:
    """Return a value with its interval as text; a dash if there is no value."""
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]" if figure["n"] else "–"


if __name__ == "__main__":
    main()

"""Agreement on scenes against agreement on plain photographs: the curve in docs/reference/models.md.

    python studies/balance.py [--models nonlocal …] [--weights 0 1 3] [--work build/balance]

Each mechanism is trained once for each loss weight of plain photographs, with all other options equal, by the command
that its card in ``--work`` records. Existing cards are reused and interrupted trainings resumed. A training takes about
4 minutes on 2 cores, and its evaluation 3.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

from attnviz.models.card import read_card

sys.path.insert(0, str(Path(__file__).parents[1]))

from builtin_training.train import command

ROOT = Path(__file__).parents[1]
FIGURES = ("top1", "top5", "pointing", "plain")
MARKERS = "osD^vP"


def main() -> None:
    """Train the missing models, then write the table and the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["nonlocal"])
    parser.add_argument("--weights", nargs="*", type=float, default=[0.0, 1.0, 3.0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "balance")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "explanation" / "balance")
    options = parser.parse_args()
    rows = []
    for name in options.models:
        for weight in sorted(options.weights):
            folder = options.work / f"{weight:g}"
            if not (folder / "cards" / f"{name}.json").is_file():
                train(name, weight, folder)
            rows.append(row(name, weight, folder))
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "balance.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    draw(rows, options.out / "balance.png")


def train(name: str, weight: float, folder: Path) -> None:
    """Train and evaluate one mechanism, with the learning rate of its shipped weights."""
    card = read_card(name)
    if card is None:
        raise SystemExit(f"{name} has no card, and so no learning rate")
    rate = card.made["training"]["learning_rate"]
    recipe = ["--seed", "1", "--learning-rate", str(rate), "--plain-weight", str(weight)]
    command.main([name, *recipe, "--out", str(folder)], standalone_mode=False)


def row(name: str, weight: float, folder: Path) -> dict[str, Any]:
    """Return the figures of one training from its card."""
    figures = json.loads((folder / "cards" / f"{name}.json").read_text(encoding="utf-8"))["figures"]
    cells: dict[str, Any] = {"model": name, "plain_weight": weight}
    for key in FIGURES:
        cells |= {f"{key}_{end}": round(figures[key][end], 4) for end in ("value", "low", "high")}
    return cells


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw one curve per mechanism with one point per weight."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    sns.set_theme(style="whitegrid", context="notebook")
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    names = list(dict.fromkeys(row["model"] for row in rows))
    for name, marker, colour in zip(names, MARKERS, sns.color_palette("colorblind", len(names)), strict=False):
        of_model = [row for row in rows if row["model"] == name]
        (x, x_errors), (y, y_errors) = (with_errors(of_model, key) for key in ("plain", "top1"))
        axes.errorbar(x, y, y_errors, x_errors, color=colour, marker=marker, label=name, lw=1.5, elinewidth=0.6)
        for row, u, v in zip(of_model, x, y, strict=True):
            weight = f"{row['plain_weight']:g}"
            axes.annotate(weight, (u, v), xytext=(5, 5), textcoords="offset points", color=colour)
    axes.set(
        xlabel="plain photographs: agreement with the bare network",
        ylabel="scenes: agreement with the teacher, top-1",
        title="Loss weight of plain photographs in training",
    )
    axes.legend(title="95 % intervals", loc="lower left")
    figure.savefig(path, dpi=110)


def with_errors(rows: list[dict[str, Any]], key: str) -> tuple[list[float], list[list[float]]]:
    """Return the values of a figure, and the lengths of the intervals below and above them."""
    values = [row[f"{key}_value"] for row in rows]
    return values, [[abs(row[f"{key}_{end}"] - row[f"{key}_value"]) for row in rows] for end in ("low", "high")]


if __name__ == "__main__":
    main()

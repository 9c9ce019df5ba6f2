"""What attention adds to the bare network, view by view, on objects of two sizes.

    python studies/gains.py [--models cbam …] [--views 1600] [--out docs/explanation/gains]

Every shipped model of single images is evaluated beside the control on the same held-out views: those of the model
cards, and the same with larger objects. An interval of a difference is much narrower than that of the two figures. It
writes one table for machines and one for people. It takes less than an hour on 2 cores; what is there already is not
measured again.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnviz.core.intervals import Figure
from attnviz.models.builtin import attend, is_shipped, read_shipped
from attnviz.models.card import read_card
from attnviz.models.mechanism import MODELS
from attnviz.models.trunk import pretrained_trunk
from attnviz.training.evaluation import Evaluation, evaluate
from attnviz.training.features import DataRecipe
from attnviz.training.scenes import OBJECT_SHARE, make_views
from attnviz.training.sources import Sources, find_sources, split

ROOT = Path(__file__).parents[1]
LARGER = (0.3, 0.7)  # longest side of the object, as a share of the scene's; a point chosen blindly is on it in .10
SEED = 1  # what it holds out, no model was trained on
FIGURES = ("kl", "top1", "top5", "pointing", "plain")
GAINS = ("kl", "top1", "top5", "pointing")


def main() -> None:
    """Measure what is missing, then write both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    images = [name for name in MODELS if MODELS[name].frames is None and MODELS[name].attends and is_shipped(name)]
    parser.add_argument("--models", nargs="*", default=images)
    parser.add_argument("--views", type=int, default=1600)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "explanation" / "gains")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = read(options.out / "gains.csv")
    sources = find_sources()
    for share in (OBJECT_SHARE, LARGER):
        there = {row["model"] for row in rows if float(row["object_from"]) == share[0]}
        missing = [name for name in options.models if name not in there]
        if missing:
            rows += measured(missing, sources, share, options.views, known="none" in there)
            write(options.out, rows)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of an earlier run."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measured(
    names: Sequence[str], sources: Sources, share: tuple[float, float], views: int, *, known: bool
) -> list[dict[str, str]]:
    """Models beside the control, on views whose objects have such a size."""
    recipe = DataRecipe(views, seed=SEED, held_out=True)
    held_out = replace(split(sources, SEED, held_out=True), patches=())
    models, maps = {}, {}
    for name in ("none", *names):
        models[name] = attend(name, pretrained_trunk())
        if models[name].attention:
            models[name].load(read_shipped(name), name)
        card = read_card(name)
        if card is None or card.made["data"]["seed"] != SEED:
            raise SystemExit(f"{name} was trained on other objects than those that seed {SEED} leaves")
        maps[name] = card.figures["map_of"]
    done = 0

    def advance(count: int) -> None:
        """Show how far it is."""
        nonlocal done
        done += count
        sys.stderr.write(f"\r{share[0]:g} to {share[1]:g}: {done}/{views} ")

    made = make_views(held_out, recipe.kinds(), 2 * SEED + 1, object_share=share)
    found = evaluate(models, pretrained_trunk(), made, advance, maps, fully=False)
    return [row(one, share) for one in found if one.model != "none" or not known]


def row(found: Evaluation, share: tuple[float, float]) -> dict[str, str]:
    """One model at one size."""
    cells: dict[str, Any] = {"object_from": share[0], "object_to": share[1], "model": found.model}
    cells |= spread("chance", found.chance)
    for key in FIGURES:
        cells |= spread(key, getattr(found, key))
    for key in GAINS:
        cells |= spread(f"{key}_gain", found.gains.get(key))
    return {name: str(value) for name, value in cells.items()}


def spread(name: str, figure: Figure | None) -> Mapping[str, Any]:
    """A value and its interval; nothing where there is none."""
    known = figure is not None and figure.n
    ends = ("value", "low", "high")
    return {f"{name}_{end}": round(getattr(figure, end), 4) if known else "" for end in ends}


def write(folder: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """``gains.csv`` and ``tables.md``."""
    ordered = sorted(rows, key=lambda one: (float(one["object_from"]), one["model"] != "none", one["model"]))
    with (folder / "gains.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(ordered[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(ordered)
    about = "what the figures are is told in [the reference](../../reference/models.md)"
    lines = ["# What attention adds, on objects of two sizes", "", f"Made by `python studies/gains.py`; {about}."]
    for start in sorted({one["object_from"] for one in ordered}):
        mine = [one for one in ordered if one["object_from"] == start]
        lines += ["", f"## Longest side {start} to {mine[0]['object_to']} of the scene's", "",
                  f"A point chosen blindly is on the object in {float(mine[0]['chance_value']):.3f}.", "",
                  f"| model | {' | '.join((*FIGURES, *(f'{key} less none' for key in GAINS)))} |",
                  "|" + "---|" * (1 + len(FIGURES) + len(GAINS))]  # fmt: skip
        for one in mine:
            cells = [told(one, key) for key in FIGURES] + [told(one, f"{key}_gain", "+") for key in GAINS]
            lines.append(f"| `{one['model']}` | {' | '.join(cells)} |")
    (folder / "tables.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def told(one: Mapping[str, str], key: str, sign: str = "") -> str:
    """A value with its interval; a dash where there is none."""
    if not one[f"{key}_value"]:
        return "–"
    value, low, high = (f"{float(one[f'{key}_{end}']):{sign}.2f}" for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    main()

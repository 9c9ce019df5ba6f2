"""Figures of every shipped model minus those of the bare network, paired view by view, on objects of two sizes.

    python studies/gains.py [--models cbam …] [--views 1600] [--out docs/explanation/gains]

Every shipped model of single images is evaluated together with the control on the same held-out views: those of the
model cards, and views with larger objects. The interval of a paired difference is much narrower than those of the two
figures. The study writes ``gains.csv`` and ``tables.md``. It takes less than an hour on 2 cores; existing rows are
kept.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnviz.core.intervals import Interval
from attnviz.models.builtin import attend, is_shipped, read_shipped
from attnviz.models.card import read_card
from attnviz.models.mechanism import MODELS
from attnviz.models.trunk import pretrained_trunk
from attnviz.training.evaluation import Evaluation, evaluate
from attnviz.training.features import DataRecipe
from attnviz.training.scenes import OBJECT_SHARE, make_views
from attnviz.training.sources import Sources, split

sys.path.insert(0, str(Path(__file__).parents[1]))

from builtin_training.debian_sources import find_sources

ROOT = Path(__file__).parents[1]
LARGER = (0.3, 0.7)  # longest side of the object, as a share of the scene's; a random point is on it in .10
SEED = 1  # its held-out images are training images of no model
FIGURES = ("kl", "top1", "top5", "pointing", "plain")
GAINS = ("kl", "top1", "top5", "pointing")


def main() -> None:
    """Evaluate the missing models, then write both tables."""
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
        existing = {row["model"] for row in rows if float(row["object_from"]) == share[0]}
        missing = [name for name in options.models if name not in existing]
        if missing:
            rows += measure(missing, sources, share, options.views, has_control="none" in existing)
            write(options.out, rows)


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of an earlier run."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measure(
    names: Sequence[str], sources: Sources, share: tuple[float, float], views: int, *, has_control: bool
) -> list[dict[str, str]]:
    """Evaluate models and the control on views with objects of one size; the control has a row unless it exists."""
    recipe = DataRecipe(views, seed=SEED, held_out=True)
    held_out = replace(split(sources, SEED, held_out=True), patches=())
    models, maps = {}, {}
    for name in ("none", *names):
        models[name] = attend(name, pretrained_trunk())
        if models[name].attention:
            models[name].load(read_shipped(name), name)
        card = read_card(name)
        if card is None or card.made["data"]["seed"] != SEED:
            raise SystemExit(f"{name} was trained on images that seed {SEED} holds out")
        maps[name] = card.figures["map_of"]
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        sys.stderr.write(f"\r{share[0]:g} to {share[1]:g}: {done}/{views} ")

    made = make_views(held_out, recipe.kinds(), 2 * SEED + 1, object_share=share)
    results = evaluate(models, pretrained_trunk(), made, advance, maps, full=False)
    return [row(one, share) for one in results if one.model != "none" or not has_control]


def row(result: Evaluation, share: tuple[float, float]) -> dict[str, str]:
    """Return the row of one model at one object size."""
    cells: dict[str, Any] = {"object_from": share[0], "object_to": share[1], "model": result.model}
    cells |= interval_cells("chance", result.chance)
    for key in FIGURES:
        cells |= interval_cells(key, getattr(result, key))
    for key in GAINS:
        cells |= interval_cells(f"{key}_gain", result.gains.get(key))
    return {name: str(value) for name, value in cells.items()}


def interval_cells(name: str, figure: Interval | None) -> Mapping[str, Any]:
    """Return the cells of a value and its interval; empty ones if there is no value."""
    known = figure is not None and figure.n
    ends = ("value", "low", "high")
    return {f"{name}_{end}": round(getattr(figure, end), 4) if known else "" for end in ends}


def write(folder: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write ``gains.csv`` and ``tables.md``."""
    ordered = sorted(rows, key=lambda one: (float(one["object_from"]), one["model"] != "none", one["model"]))
    with (folder / "gains.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(ordered[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(ordered)
    lines = [
        "# Figures minus those of the bare network, on objects of two sizes",
        "",
        "Written by `python studies/gains.py`. The figures are defined in [the reference](../../reference/models.md).",
    ]
    for start in sorted({one["object_from"] for one in ordered}):
        lines += section([one for one in ordered if one["object_from"] == start])
    (folder / "tables.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def section(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the Markdown lines of one object size."""
    columns = (*FIGURES, *(f"{key} minus none" for key in GAINS))
    lines = ["", f"## Longest side {rows[0]['object_from']} to {rows[0]['object_to']} of the scene's", "",
             f"A random point is on the object in {float(rows[0]['chance_value']):.3f}.", "",
             f"| model | {' | '.join(columns)} |", "|" + "---|" * (1 + len(columns))]  # fmt: skip
    for one in rows:
        cells = [interval_text(one, key) for key in FIGURES] + [interval_text(one, f"{key}_gain", "+") for key in GAINS]
        lines.append(f"| `{one['model']}` | {' | '.join(cells)} |")
    return lines


def interval_text(row: Mapping[str, str], key: str, sign: str = "") -> str:
    """Return a value with its interval as text; a dash if there is no value."""
    if not row[f"{key}_value"]:
        return "–"
    value, low, high = (f"{float(row[f'{key}_{end}']):{sign}.2f}" for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    main()

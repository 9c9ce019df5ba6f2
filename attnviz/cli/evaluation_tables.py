"""Tables of evaluation figures for the terminal."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from attnviz.core.intervals import Interval
    from attnviz.training.evaluation import Evaluation
    from attnviz.training.labelled import Accuracy


def accuracy_table(results: Sequence[Accuracy]) -> str:
    """Return the accuracies on held-out labelled images, each with its 95 % interval."""
    from rich.table import Table

    table = Table(
        title="Held-out images",
        caption=f"{results[0].top1.n} images; 95 % intervals below the figures. none trains only a classifier.",
        caption_justify="left",
    )
    for column in ("model", "parameters", "top-1", "top-5", "top-1 minus none's"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for one in results:
        gain = "–" if one.gain is None else _cell(one.gain)
        table.add_row(one.model, f"{one.parameters:,}", _cell(one.top1), _cell(one.top5), gain)
    return _as_text(table)


def evaluation_table(results: Sequence[Evaluation]) -> str:
    """Return the figures on held-out scenes and photographs, each with its 95 % interval."""
    from rich.table import Table

    table = Table(title="Held-out scenes and photographs", caption=_caption(results), caption_justify="left")
    for column in ("model", "parameters", "KL", "top-1", "top-5", "pointing", "energy", "Grad-CAM",
                   "plain top-1", "GFLOP", "time", "map of"):  # fmt: skip
        table.add_column(column, justify="left" if column in {"model", "map of"} else "right")
    for result in results:
        name = result.model if result.frames is None else f"{result.model} ({result.frames} frames)"
        compared = [_cell(getattr(result, key), result.gains.get(key)) for key in ("kl", "top1", "top5", "pointing")]
        cost = result.cost
        costs = ("–", "–") if cost is None else (f"{cost.flops / 1e9:.2f}\n[dim]{cost.flops_ratio:.2f}×[/dim]",
                                                 f"{cost.time_ratio:.2f}×")  # fmt: skip
        cells = (
            f"{result.parameters:,}",
            *compared,
            *map(_cell, (result.energy, result.gradcam, result.plain)),
            *costs,
        )
        table.add_row(name, *cells, result.map_of, end_section=True)
    return _as_text(table)


def _as_text(table: Table) -> str:
    from rich.console import Console

    console = Console(width=None if os.environ.get("COLUMNS") else 150)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def _caption(results: Sequence[Evaluation]) -> str:
    lines = []
    for frames in dict.fromkeys(result.frames for result in results):
        first = next(result for result in results if result.frames == frames)
        scenes, photographs = ("scenes", "photographs") if frames is None else ("clips", "plain clips")
        lines.append(
            f"{first.kl.n} {scenes}, {first.top1.n} of them with a certain teacher; {first.plain.n} {photographs} with "
            f"a certain trunk. Pointing score by chance: {first.chance.value:.2f}."
        )
    gains = ", and the difference to none, paired view by view" if any(result.gains for result in results) else ""
    return " ".join(
        [*lines, f"95 % intervals below the figures{gains}. GFLOP and time: of one view, and relative to none."]
    )


def _cell(figure: Interval, gain: Interval | None = None) -> str:
    if figure.n == 0:
        return "–"
    difference = "" if gain is None else f"\n{gain.value:+.2f}{_range(gain, '+')}"
    return f"{figure.value:.2f}{_range(figure)}{difference}"


def _range(figure: Interval, sign: str = "") -> str:
    return "" if math.isnan(figure.low) else f"\n[dim]{figure.low:{sign}.2f}–{figure.high:{sign}.2f}[/dim]"

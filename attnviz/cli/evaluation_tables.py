"""Tables of evaluation figures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from attnviz.core.intervals import Figure
    from attnviz.training.evaluation import Evaluation
    from attnviz.training.labelled import Accuracy


def accuracy_table(results: Sequence[Accuracy]) -> str:
    """How right each model is on photographs with labels, each with its 95 % interval."""
    from rich.table import Table

    table = Table(
        title="Held-out photographs",
        caption=f"{results[0].top1.n} photographs; below each figure its 95 % interval. none has a classifier alone.",
        caption_justify="left",
    )
    for column in ("model", "parameters", "top-1", "top-5", "top-1 less none's"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for one in results:
        gain = "–" if one.gain is None else _cell(one.gain)
        table.add_row(one.model, f"{one.parameters:,}", _cell(one.top1), _cell(one.top5), gain)
    return _in_text(table)


def shown_table(results: Sequence[Evaluation]) -> str:
    """The figures as a table for the terminal, each with its 95 % interval."""
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
    return _in_text(table)


def _in_text(table: Table) -> str:
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
            f"{first.kl.n} {scenes}, the teacher sure in {first.top1.n}; {first.plain.n} {photographs} in which the "
            f"trunk sees something. Pointing by chance: {first.chance.value:.2f}."
        )
    gains = any(result.gains for result in results)
    less = " and, view by view, the figure less that of none" if gains else ""
    return " ".join([*lines, f"Below each figure its 95 % interval{less}. GFLOP and time: one view, and beside none."])


def _cell(figure: Figure, gain: Figure | None = None) -> str:
    if figure.n == 0:
        return "–"
    above = "" if gain is None else f"\n{gain.value:+.2f}\n[dim]{gain.low:+.2f}–{gain.high:+.2f}[/dim]"
    return f"{figure.value:.2f}\n[dim]{figure.low:.2f}–{figure.high:.2f}[/dim]{above}"

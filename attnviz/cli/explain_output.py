"""Print an explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnviz.cli.terminal import console_of, print_end, table_of
from attnviz.core.explanation_results import bars_of
from attnviz.core.glossary import title
from attnviz.report.core.formatting import number
from attnviz.report.core.viewer_data import title_of

if TYPE_CHECKING:
    from attnviz.core.explanation_results import Prediction
    from attnviz.core.records import Score
    from attnviz.report import Document
    from attnviz.report.core.document import ClipView

_BAR = 20


def print_explanation(
    document: Document, files: Sequence[Path], seconds: Mapping[str, float], *, verbose: bool
) -> None:
    """Print predictions, sites, agreement of the maps and the paths of the files."""
    console, target = console_of(), document.target
    facts = f"  {document.model}  explains ", (target.label, "bold cyan"), f"  {target.number}"
    console.print(Text.assemble((document.file_name, "bold"), *facts))
    console.print(_predictions(document))
    if document.clip is not None and document.clip.weights.size:
        console.print(_frames(document.clip))
    if document.sites:
        console.print(_sites(document))
    _print_agreement(console, document, verbose=verbose)
    print_end(console, document.notes, ())
    if verbose:
        for key, value in document.settings.items():
            console.print(Text(f"{key}: {value}", style="dim"))
        console.print(Text("time: " + ", ".join(f"{step} {spent:.2f} s" for step, spent in seconds.items()), "dim"))
    print_end(console, (), files)


def _bar(share: float, *, highlighted: bool) -> Text:
    filled = round(_BAR * share)
    return Text("█" * filled + "·" * (_BAR - filled), "cyan" if highlighted else "dim")


def _predictions(document: Document) -> Table:
    table = table_of()
    table.show_header = False
    for one, share in zip(document.predictions, bars_of(document.predictions), strict=True):
        bar = _bar(share, highlighted=one.is_of(document.target))
        table.add_row(f"{one.score:.3f}", bar, Text(one.label), Text(str(one.index), "dim"), *_unit(one))
    return table


def _unit(one: Prediction) -> list[Text]:
    """Unit and box of a prediction that is no probability."""
    if one.unit == "probability":
        return []
    box = "" if one.box is None else "  " + ",".join(f"{value:.0f}" for value in one.box)
    return [Text(one.unit + box, "dim")]


def _frames(clip: ClipView) -> Table:
    """A bar for each frame."""
    table = table_of(title=f"Frames: {clip.weight_name}")
    table.show_header = False
    top = max(float(clip.weights.max()), 1e-30)
    for index, (second, weight) in enumerate(zip(clip.seconds, clip.weights, strict=True)):
        bar = _bar(float(weight) / top, highlighted=index == clip.shown)
        table.add_row(f"{second:.2f} s", bar, f"{float(weight):.3f}")
    return table


def _sites(document: Document) -> Table:
    table = table_of(title="Attention sites")
    measures = document.measures_of_sites()
    for header in ("site", "kind", "g", "range of g"):
        table.add_column(header)
    for name in measures:
        table.add_column(title("measure", name), justify="right")
    for site in document.sites:
        table.add_row(
            Text(site.name), site.kind, " × ".join(str(n) for n in site.shape[1:]),
            f"{number(site.low)} … {number(site.high)}",
            *(_value(scores.get((site.name, "g"))) for scores in measures.values()),
        )  # fmt: skip
    return table


def _print_agreement(console: Console, document: Document, *, verbose: bool) -> None:
    """Print the agreement of every map with the attributions; with ``verbose`` of every pair."""
    tables = document.measures_between_maps()
    attributions = document.of_kind("attribution")
    if not tables:
        return
    heading, heads = "Agreement of maps", [title("measure", name) for name in tables]
    rows = [
        (f"{title_of(a)} · {title_of(b)}", [scores.get((a.name, b.name)) for scores in tables.values()])
        for a, b in combinations(document.maps, 2)
    ]
    if not verbose:
        measure, scores = next(iter(tables.items()))
        heading, heads = f"{heading} ({title('measure', measure)})", [title_of(view) for view in attributions]
        rows = [(title_of(view), [scores.get((view.name, b.name)) for b in attributions]) for view in document.maps]
    table = table_of("", *heads, title=heading)
    table.columns[0].no_wrap = True
    for name, values in rows:
        table.add_row(Text(name), *map(_value, values))
    console.print(table)


def _value(score: Score | None) -> str:
    return "" if score is None else "–" if score.value != score.value else f"{score.value:.2f}".replace("-0.00", "0.00")

"""Print an explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnviz.core.glossary import title
from attnviz.report.core.formatting import number
from attnviz.report.core.viewer_data import title_of

if TYPE_CHECKING:
    from attnviz.core.records import Score
    from attnviz.report import Document
    from attnviz.report.core.document import ClipView

_BAR = 20
_PIPE_WIDTH = 140  # of a pipe or a file


def print_explanation(
    document: Document, files: Sequence[Path], seconds: Mapping[str, float], *, verbose: bool
) -> None:
    """Print predictions, sites, agreement of the maps and the paths of the files."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    target = document.target
    facts = f"  {document.model}  explains ", (target.label, "bold cyan"), f"  p = {target.probability:.3f}"
    console.print(Text.assemble((document.file_name, "bold"), *facts))
    console.print(_predictions(document))
    if document.clip is not None and document.clip.weights.size:
        console.print(_frames(document.clip))
    if document.sites:
        console.print(_sites(document))
    _print_agreement(console, document, verbose=verbose)
    for note in document.notes:
        console.print(Text(f"note: {note}", style="yellow"))
    if verbose:
        for key, value in document.settings.items():
            console.print(Text(f"{key}: {value}", style="dim"))
        console.print(Text("time: " + ", ".join(f"{step} {spent:.2f} s" for step, spent in seconds.items()), "dim"))
    for path in files:
        console.print(Text(str(path), style="green"), soft_wrap=True)


def _predictions(document: Document) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for one in document.predictions:
        filled = round(_BAR * one.probability)
        bar = Text("█" * filled + "·" * (_BAR - filled), "cyan" if one.index == document.target.index else "dim")
        table.add_row(f"{one.probability:.3f}", bar, Text(one.label), Text(str(one.index), "dim"))
    return table


def _frames(clip: ClipView) -> Table:
    """A bar for each frame."""
    table = Table(
        box=None, padding=(0, 2, 0, 0), show_header=False, title=f"Frames: {clip.weight_name}", title_justify="left"
    )
    top = max(float(clip.weights.max()), 1e-30)
    for index, (second, weight) in enumerate(zip(clip.seconds, clip.weights, strict=True)):
        filled = round(_BAR * float(weight) / top)
        bar = Text("█" * filled + "·" * (_BAR - filled), "cyan" if index == clip.shown else "dim")
        table.add_row(f"{second:.2f} s", bar, f"{float(weight):.3f}")
    return table


def _sites(document: Document) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title="Attention sites", title_justify="left")
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
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title="Agreement of maps", title_justify="left")
    table.add_column("", no_wrap=True)
    if verbose:
        for name in tables:
            table.add_column(title("measure", name), justify="right")
        views = document.maps
        for index, a in enumerate(views):
            for b in views[index + 1 :]:
                values = (_value(scores.get((a.name, b.name))) for scores in tables.values())
                table.add_row(Text(f"{title_of(a)} · {title_of(b)}"), *values)
    else:
        measure, scores = next(iter(tables.items()))
        table.title = f"Agreement of maps ({title('measure', measure)})"
        for view in attributions:
            table.add_column(title_of(view), justify="right")
        for view in document.maps:
            table.add_row(Text(title_of(view)), *(_value(scores.get((view.name, b.name))) for b in attributions))
    console.print(table)


def _value(score: Score | None) -> str:
    return "" if score is None else "–" if score.value != score.value else f"{score.value:.2f}".replace("-0.00", "0.00")

"""``panel.png``: the explanation as a figure for a paper.

Drawn on a figure of its own: no window, no global Matplotlib state, the same on every machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from attnviz.report import meanings
from attnviz.report.colours import lookup, overlay
from attnviz.report.document import Document, MapView, channel_gates
from attnviz.report.numbers import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN = 7.2  # the text width of a two-column paper
MOST_ATTENTION_MAPS = 10
DPI = 220
_TILE_PX = 448
_EDGE, _GAP = 0.08, 0.08  # inches, as all below
_HEADER = 0.34  # a band's name and the titles of its tiles
_UNDER = 0.42  # colour bar, and the next row's titles
_CHARTS = 2.75


def write(document: Document, path: Path) -> None:
    """Write ``panel.png``."""
    draw(document).savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def draw(document: Document) -> Figure:
    """The figure: photograph and attributions, attention maps, then gates and agreement.

    Every box is placed in inches: an automatic layout takes seconds and gives tiles of different sizes.
    """
    import seaborn as sns
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    attention = chosen(document.of_kind("attention"))
    bands: list[tuple[str, list[MapView | None]]] = [("Attribution", [None, *document.of_kind("attribution")])]
    if attention:
        bands.append(("Attention g(x)", [*attention]))
    columns = columns_for([len(views) for _, views in bands])
    tile = (WIDTH_IN - 2 * _EDGE - (columns - 1) * _GAP) / columns
    rows = sum(-(-len(views) // columns) for _, views in bands)
    charts = bool(channel_gates(document)) or len(document.maps) > 1
    height = 0.34 + len(bands) * _HEADER + rows * (tile + _UNDER) + (_CHARTS if charts else 0)
    style: Any = dict(sns.axes_style("white")) | dict(sns.plotting_context("paper")) | _FONTS
    with rc_context(style):
        figure = Figure(figsize=(WIDTH_IN, height))
        sheet = _Sheet(figure, height)
        figure.text(_EDGE / WIDTH_IN, 1 - 0.2 / height, _title(document), fontsize=9, weight="bold", va="center")
        top = 0.34
        for header, views in bands:
            figure.text(_EDGE / WIDTH_IN, 1 - (top + 0.09) / height, header, fontsize=7.5, color="0.35", va="center")
            top += _HEADER
            for first in range(0, len(views), columns):
                for column, view in enumerate(views[first : first + columns]):
                    _tile(sheet, (_EDGE + column * (tile + _GAP), top, tile), document, view)
                top += tile + _UNDER
        if charts:
            _charts(sheet, top, document)
    return figure


class _Sheet(NamedTuple):
    """A figure whose boxes are given in inches from its top left corner."""

    figure: Figure
    height: float

    def box(self, left: float, top: float, width: float, height: float) -> Axes:
        return self.figure.add_axes(
            (left / WIDTH_IN, 1 - (top + height) / self.height, width / WIDTH_IN, height / self.height)
        )


def columns_for(counts: list[int]) -> int:
    """Four to six tiles in a row, whichever leaves the fewest places empty; the larger tiles on a tie.

    >>> columns_for([5, 6]), columns_for([5, 10]), columns_for([3, 4])
    (6, 5, 4)
    """
    return min(range(4, 7), key=lambda columns: (sum(-count % columns for count in counts), columns))


_FONTS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "axes.linewidth": 0.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "text.parse_math": False,  # a file name may hold a dollar sign
}


def chosen(maps: tuple[MapView, ...]) -> list[MapView]:
    """At most ten attention maps, spread evenly from the first to the last.

    The page and the JSON file show all of them.
    """
    if len(maps) <= MOST_ATTENTION_MAPS:
        return list(maps)
    return [maps[i] for i in np.linspace(0, len(maps) - 1, MOST_ATTENTION_MAPS).round().astype(int)]


def short(name: str, most: int = 24) -> str:
    """A dotted path that fits over a tile: its end is what tells sites apart.

    >>> short("backbone.stages.2.blocks.11.attention.gate", 20)
    '…ks.11.attention.gate'
    """
    return name if len(name) <= most else "…" + name[-most:]


def _title(document: Document) -> str:
    target = f"{document.target.label}, p = {document.target.probability:.2f}"
    return f"{short(document.file_name, 40)}  ·  {document.model}  ·  {short(target, 60)}"


def _tile(sheet: _Sheet, place: tuple[float, float, float], document: Document, view: MapView | None) -> None:
    left, top, side = place
    axis = sheet.box(left, top, side, side)
    picture = cv2.resize(document.picture, (_TILE_PX, _TILE_PX), interpolation=cv2.INTER_AREA)
    axis.imshow(picture if view is None else overlay(picture, view), interpolation="antialiased")
    axis.set_axis_off()
    if view is None:
        height, width = document.pixels.shape[:2]
        axis.set_title("Photograph", pad=3)
        axis.text(0.5, -0.03, f"the model sees {width} × {height}", transform=axis.transAxes, ha="center", va="top",
                  fontsize=6, color="0.35")  # fmt: skip
        return
    axis.set_title(label(view, most=int(side * 18)), pad=3)
    _colour_bar(sheet.box(left, top + side + 0.05, side, 0.055), view)


def label(view: MapView, most: int = 24) -> str:
    """What a tile or a row is called."""
    return meanings.method(view.name).title if view.kind == "attribution" else short(view.name, most)


def _colour_bar(axis: Axes, view: MapView) -> None:
    axis.imshow(lookup(view)[None], aspect="auto", extent=(0, 1, 0, 1))
    ends = [view.low, 0.0, view.high] if view.signed else [view.low, view.high]
    axis.set_xticks([0, 0.5, 1] if view.signed else [0, 1])
    texts = [number(end) for end in ends]
    if view.clipped:
        texts[-1] = f"≥ {texts[-1]}"
        texts[0] = f"≤ {texts[0]}" if view.signed else texts[0]
    axis.set_xticklabels(texts)
    axis.tick_params(axis="x", length=1.5, pad=1.5, width=0.4)
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_linewidth(0.3)
    first, *_, last = axis.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")


def _charts(sheet: _Sheet, top: float, document: Document) -> None:
    gates, tables = channel_gates(document), document.measures_between_maps()
    if gates:
        _gate_chart(sheet.box(0.42, top + 0.32, 2.35 if tables else 6.6, 1.65), document)
    if tables:
        side = 1.72
        left = 4.5 if gates else 2.6
        bar = sheet.box(left + side + 0.12, top + 0.45, 0.07, side * 0.6)
        _agreement_chart(sheet.box(left, top + 0.28, side, side), bar, document)


def _gate_chart(axis: Axes, document: Document) -> None:
    """Each channel gate's weights, sorted: how many channels are let through and how many are closed."""
    import seaborn as sns

    gates = channel_gates(document)
    for site, colour in zip(gates, sns.color_palette("viridis", len(gates) + 1), strict=False):
        if site.g is None:
            continue
        weights = np.sort(site.g)[::-1]
        share = np.linspace(0, 100, len(weights))
        axis.plot(share, weights, color=colour, linewidth=1.1, label=f"{short(site.name)}  ({len(weights)})")
    axis.set(xlabel="channels, most open first (%)", ylabel="g", xlim=(0, 100))
    axis.set_title("Channel gates", loc="left")
    axis.grid(visible=True, linewidth=0.3, color="0.9")
    if len(gates) <= MOST_ATTENTION_MAPS:
        axis.legend(frameon=False, fontsize=5.5, title="site (channels)", title_fontsize=5.5, handlelength=1.2)
    sns.despine(ax=axis)


def _agreement_chart(axis: Axes, bar: Axes, document: Document) -> None:
    import seaborn as sns

    measure, scores = next(iter(document.measures_between_maps().items()))
    views = [*chosen(document.of_kind("attention")), *document.of_kind("attribution")]
    names = [view.name for view in views]
    values = np.array([[scores[a, b].value if (a, b) in scores else np.nan for b in names] for a in names])
    upper = np.triu(np.ones_like(values, dtype=bool))
    low = next(iter(scores.values())).low
    labels = [label(view) for view in views]
    sns.heatmap(
        values[1:, :-1], mask=upper[1:, :-1], ax=axis, cbar_ax=bar, square=True, cmap="vlag" if low < 0 else "viridis",
        vmin=-1 if low < 0 else 0, vmax=1, annot=len(names) <= 12, fmt=".1f", annot_kws={"fontsize": 4.5},
        xticklabels=labels[:-1], yticklabels=labels[1:], linewidths=0.4,
    )  # fmt: skip
    axis.tick_params(length=0, labelsize=5.5, pad=1)
    axis.set_xticks(axis.get_xticks(), labels[:-1], rotation=40, ha="right", rotation_mode="anchor")
    bar.tick_params(length=1.5, width=0.4, labelsize=5.5)
    axis.set_title(f"Agreement: {meanings.measure(measure, '').title}", loc="right")

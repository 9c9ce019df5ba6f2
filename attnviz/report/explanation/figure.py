"""``panel.png``: the explanation as a figure for a paper.

Drawn on a figure of its own: no window, no global Matplotlib state, the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from attnviz.report.components import StaticImage
from attnviz.report.core import glossary
from attnviz.report.core.colours import lookup, overlay
from attnviz.report.core.document import Document, channel_gates
from attnviz.report.core.formatting import scale_ends
from attnviz.report.core.map_view import MapView
from attnviz.report.explanation.figure_layout import MOST_ATTENTION_MAPS, bands_of, cut, label, own_terms, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN = 7.2  # the text width of a two-column paper
DPI = 220
_TILE_PX = 448
_COMPRESSION = 2  # of PNG: a tenth larger than at the usual 6, in a third of the time
_EDGE, _GAP = 0.08, 0.08  # inches, as all below
_HEADER = 0.34  # a band's name and the titles of its tiles
_UNDER = 0.42  # colour bar, and the next row's titles
_CHARTS = 2.75


def write(document: Document, path: Path) -> None:
    """Write ``panel.png``."""
    settings = {"compress_level": _COMPRESSION}
    draw(document).savefig(path, format="png", dpi=DPI, metadata={"Software": None}, pil_kwargs=settings)


def draw(document: Document) -> Figure:
    """The figure: photograph and attributions, attention maps, then gates and agreement.

    Every box is placed in inches: an automatic layout takes seconds and gives tiles of different sizes.
    """
    import seaborn as sns
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    content: list[tuple[str, Sequence[MapView | StaticImage | None]]] = [*bands_of(document), *own_terms(document)]
    bands = [(header, shown, _rows(len(shown))) for header, shown in content]
    charts = bool(channel_gates(document)) or len(document.maps) > 1
    height = 0.34 + sum(_HEADER + rows * (tile + _UNDER) for _, _, (rows, _, tile) in bands) + _CHARTS * charts
    style: Any = dict(sns.axes_style("white")) | dict(sns.plotting_context("paper")) | _FONTS
    with rc_context(style):
        figure = Figure(figsize=(WIDTH_IN, height))
        sheet = _Sheet(figure, height)
        figure.text(_EDGE / WIDTH_IN, 1 - 0.2 / height, _title(document), fontsize=9, weight="bold", va="center")
        top = 0.34
        for header, shown, (rows, columns, tile) in bands:
            figure.text(_EDGE / WIDTH_IN, 1 - (top + 0.09) / height, header, fontsize=7.5, color="0.35", va="center")
            for index, one in enumerate(shown):
                row, column = divmod(index, columns)
                place = (_EDGE + column * (tile + _GAP), top + _HEADER + row * (tile + _UNDER), tile)
                if isinstance(one, StaticImage):
                    _static_image(sheet, place, one)
                else:
                    _tile(sheet, place, document, one)
            top += _HEADER + rows * (tile + _UNDER)
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


def _rows(count: int) -> tuple[int, int, float]:
    """Rows, columns and side of the tiles of a band: five to eight in a row."""
    columns = min(8, max(5, count))
    return -(-count // columns), columns, (WIDTH_IN - 2 * _EDGE - (columns - 1) * _GAP) / columns


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


def _title(document: Document) -> str:
    probability = document.target.probability
    target = f"{document.target.label}, p " + (f"= {probability:.2f}" if probability >= 0.005 else "< 0.01")
    return f"{cut(document.file_name, 40)}  ·  {document.model}  ·  {cut(target, 60)}"


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
    axis.set_title(label(view, document), pad=3)
    _colour_bar(sheet.box(left, top + side + 0.05, side, 0.055), view)


def _static_image(sheet: _Sheet, place: tuple[float, float, float], static_image: StaticImage) -> None:
    left, top, side = place
    axis = sheet.box(left, top, side, side)
    axis.imshow(static_image.pixels, interpolation="antialiased")
    axis.set_axis_off()
    axis.set_title(cut(static_image.title), pad=3)
    if static_image.note:
        axis.text(
            0.5, -0.03, static_image.note, transform=axis.transAxes, ha="center", va="top", fontsize=6, color="0.35"
        )


def _colour_bar(axis: Axes, view: MapView) -> None:
    axis.imshow(lookup(view)[None], aspect="auto", extent=(0, 1, 0, 1))
    low, middle, high = scale_ends(view)
    ticks = {0.0: low, 0.5: middle, 1.0: high}
    axis.set_xticks([place for place, text in ticks.items() if text], [text for text in ticks.values() if text])
    axis.tick_params(axis="x", length=1.5, pad=1.5, width=0.4)
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_linewidth(0.3)
    for place, text in zip(axis.get_xticks(), axis.get_xticklabels(), strict=True):
        text.set_horizontalalignment("left" if place == 0 else "right" if place == 1 else "center")


def _charts(sheet: _Sheet, top: float, document: Document) -> None:
    gates, tables = channel_gates(document), document.measures_between_maps()
    if gates:
        _gate_chart(sheet.box(0.46, top + 0.32, 1.91 if tables else 5.4, 1.65), document)
    if tables:
        side = 1.8
        left = 4.75 if gates else 2.7
        bar = sheet.box(left + side + 0.12, top + 0.4, 0.07, side * 0.6)
        _agreement_chart(sheet.box(left, top + 0.28, side, side), bar, document)


def _gate_chart(axis: Axes, document: Document) -> None:
    """Each channel gate's weights, sorted: how many channels are let through and how many are closed."""
    import seaborn as sns

    gates = channel_gates(document)
    names = short_names([site.name for site in document.sites])
    highest = 1.0
    for site, colour in zip(gates, sns.color_palette("viridis", len(gates) + 1), strict=False):
        if site.g is None:
            continue
        weights = np.sort(site.g)[::-1]
        highest = max(highest, float(weights[0]))
        share = np.linspace(0, 100, len(weights))
        axis.plot(share, weights, color=colour, linewidth=1.1, label=f"{cut(names[site.name])} ({len(weights)})")
    axis.set(xlabel="channels, most open first (%)", ylabel="g", xlim=(0, 100))
    axis.set_ylim(min(0.0, axis.get_ylim()[0]), 1.03 * highest)
    axis.set_title("Channel gates", loc="left")
    axis.grid(visible=True, linewidth=0.3, color="0.9")
    if len(gates) <= MOST_ATTENTION_MAPS:
        legend = {"frameon": False, "fontsize": 5.5, "title_fontsize": 5.5, "handlelength": 1.0, "borderaxespad": 0.0}
        axis.legend(title="site (channels)", loc="upper left", bbox_to_anchor=(1.02, 1), alignment="left", **legend)
    sns.despine(ax=axis)


def _agreement_chart(axis: Axes, bar: Axes, document: Document) -> None:
    import seaborn as sns

    measure, scores = next(iter(document.measures_between_maps().items()))
    (_, attributions), *attention = bands_of(document)
    views = [view for band in (*(views for _, views in attention), attributions) for view in band if view is not None]
    names = [view.name for view in views]
    values = np.array([[scores[a, b].value if (a, b) in scores else np.nan for b in names] for a in names])
    upper = np.triu(np.ones_like(values, dtype=bool))
    low = next(iter(scores.values())).low
    labels = [label(view, document) for view in views]
    sns.heatmap(
        values[1:, :-1], mask=upper[1:, :-1], ax=axis, cbar_ax=bar, square=True, cmap="vlag" if low < 0 else "viridis",
        vmin=-1 if low < 0 else 0, vmax=1, annot=len(names) <= 14, fmt=".1f", annot_kws={"fontsize": 4.5},
        xticklabels=labels[:-1], yticklabels=labels[1:], linewidths=0.4,
    )  # fmt: skip
    axis.tick_params(length=0, labelsize=5.5, pad=1)
    axis.set_xticks(axis.get_xticks(), labels[:-1], rotation=40, ha="right", rotation_mode="anchor")
    bar.tick_params(length=1.5, width=0.4, labelsize=5.5)
    axis.set_title(f"Agreement: {glossary.measure(measure, '').title}", loc="right")

"""``panel.png``: the explanation as a figure for a paper.

The figure does not use pyplot: no window, no global Matplotlib state, the same result on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from attnviz.core.glossary import title
from attnviz.report.components import StaticImage
from attnviz.report.core.colours import lookup, overlay, resized
from attnviz.report.core.document import Document, channel_gates
from attnviz.report.core.formatting import cut_start, scale_ends
from attnviz.report.core.map_view import MapView
from attnviz.report.core.renderers import renderer
from attnviz.report.explanation.figure_layout import MAX_ATTENTION_MAPS, bands_of, component_bands, label, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN = 7.2  # the text width of a two-column paper
DPI = 220
_TILE_PX = 448
_COMPRESSION = 2  # of PNG: a tenth larger than at the usual 6, in a third of the time
_EDGE, _GAP = 0.08, 0.08  # inches, as all below
_TITLE = 0.34  # title of the figure
_HEADER = 0.34  # header of a band and titles of its tiles
_BELOW = 0.42  # colour bar, and titles of the next row
_CHARTS = 2.75

_STYLE: dict[str, Any] = {
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
    "text.parse_math": False,  # a file name can contain a dollar sign
}


@renderer("png")
def write(document: Document, path: Path) -> None:
    """Write ``panel.png``."""
    settings = {"compress_level": _COMPRESSION}
    draw(document).savefig(path, format="png", dpi=DPI, metadata={"Software": None}, pil_kwargs=settings)


def draw(document: Document) -> Figure:
    """Draw the image with attributions, attention maps, components, and charts of gates and agreement.

    Boxes are placed in inches, since an automatic layout takes seconds and gives tiles of different sizes.
    """
    import seaborn as sns
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ratio = min(1.0, document.picture.shape[0] / document.picture.shape[1])
    bands = [_Band(header, tiles, ratio) for header, tiles in bands_of(document)]
    bands += [_Band(header, tiles, ratio) for header, tiles in component_bands(document)]
    has_charts = bool(channel_gates(document)) or len(document.maps) > 1
    height = _TITLE + sum(band.height for band in bands) + _CHARTS * has_charts
    style: Any = dict(sns.axes_style("white")) | dict(sns.plotting_context("paper")) | _STYLE
    with rc_context(style):
        sheet = _Sheet(Figure(figsize=(WIDTH_IN, height)), height)
        sheet.text(0.2, _title(document), fontsize=9, weight="bold")
        top = _TITLE
        for band in bands:
            _draw_band(sheet, top, band, document)
            top += band.height
        if has_charts:
            _draw_charts(sheet, top, document)
    return sheet.figure


class _Sheet(NamedTuple):
    """A figure whose boxes are given in inches from its top left corner."""

    figure: Figure
    height: float

    def box(self, left: float, top: float, width: float, height: float) -> Axes:
        return self.figure.add_axes(
            (left / WIDTH_IN, 1 - (top + height) / self.height, width / WIDTH_IN, height / self.height)
        )

    def text(self, top: float, text: str, **style: Any) -> None:
        self.figure.text(_EDGE / WIDTH_IN, 1 - top / self.height, text, va="center", **style)


class _Band(NamedTuple):
    """A header with tiles in rows of five to eight; ``None`` is the image itself.

    Attributes:
        header: Text above the tiles.
        tiles: Maps and pictures.
        ratio: Height of the image, relative to its width, at most 1.
    """

    header: str
    tiles: Sequence[MapView | StaticImage | None]
    ratio: float

    @property
    def columns(self) -> int:
        return min(8, max(5, len(self.tiles)))

    @property
    def side(self) -> float:
        return (WIDTH_IN - 2 * _EDGE - (self.columns - 1) * _GAP) / self.columns

    @property
    def height(self) -> float:
        rows = -(-len(self.tiles) // self.columns)
        return _HEADER + rows * (self.tall + _BELOW)

    @property
    def tall(self) -> float:
        return self.side * self.ratio


def _title(document: Document) -> str:
    target = str(document.target)
    return f"{cut_start(document.file_name, 40)}  ·  {document.model}  ·  {cut_start(target, 60)}"


def _draw_band(sheet: _Sheet, top: float, band: _Band, document: Document) -> None:
    sheet.text(top + 0.09, band.header, fontsize=7.5, color="0.35")
    side, tall = band.side, band.tall
    for index, tile in enumerate(band.tiles):
        row, column = divmod(index, band.columns)
        left, upper = _EDGE + column * (side + _GAP), top + _HEADER + row * (tall + _BELOW)
        axis = sheet.box(left, upper, side, tall)
        axis.set_axis_off()
        if isinstance(tile, MapView):
            axis.imshow(overlay(resized(document.picture, _TILE_PX), tile), interpolation="antialiased")
            axis.set_title(label(tile, document), pad=3)
            _colour_bar(sheet.box(left, upper + tall + 0.05, side, 0.055), tile)
        else:
            _draw_picture(axis, _input_image(document) if tile is None else tile)


def _input_image(document: Document) -> StaticImage:
    height, width = document.pixels.shape[:2]
    return StaticImage("Image", resized(document.picture, _TILE_PX), f"model input {width} × {height}")


def _draw_picture(axis: Axes, image: StaticImage) -> None:
    axis.imshow(image.pixels, interpolation="antialiased")
    axis.set_title(cut_start(image.title), pad=3)
    if image.note:
        axis.text(0.5, -0.03, image.note, transform=axis.transAxes, ha="center", va="top", fontsize=6, color="0.35")


def _colour_bar(axis: Axes, view: MapView) -> None:
    axis.imshow(lookup(view)[None], aspect="auto", extent=(0, 1, 0, 1))
    ticks = [(at, text) for at, text in zip((0.0, 0.5, 1.0), scale_ends(view), strict=True) if text]
    axis.set_xticks([at for at, _ in ticks], [text for _, text in ticks])
    axis.tick_params(axis="x", length=1.5, pad=1.5, width=0.4)
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_linewidth(0.3)
    for (at, _), text in zip(ticks, axis.get_xticklabels(), strict=True):
        text.set_horizontalalignment("left" if at == 0 else "right" if at == 1 else "center")


def _draw_charts(sheet: _Sheet, top: float, document: Document) -> None:
    gates, tables = channel_gates(document), document.measures_between_maps()
    if gates:
        _gate_chart(sheet.box(0.46, top + 0.32, 1.91 if tables else 5.4, 1.65), document)
    if tables:
        side = 1.8
        left = 4.75 if gates else 2.7
        bar = sheet.box(left + side + 0.12, top + 0.4, 0.07, side * 0.6)
        _agreement_chart(sheet.box(left, top + 0.28, side, side), bar, document)


def _gate_chart(axis: Axes, document: Document) -> None:
    """Draw the sorted weights of each channel gate."""
    import seaborn as sns

    gates = channel_gates(document)
    names = short_names([site.name for site in document.sites])
    highest = 1.0
    for site, colour in zip(gates, sns.color_palette("viridis", len(gates) + 1), strict=False):
        if site.g is None:
            continue
        weights = np.sort(site.g)[::-1]
        highest = max(highest, float(weights[0]))
        percent = np.linspace(0, 100, len(weights))
        text = f"{cut_start(names[site.name])} ({len(weights)})"
        axis.plot(percent, weights, color=colour, linewidth=1.1, label=text)
    axis.set(xlabel="channels, most open first (%)", ylabel="g", xlim=(0, 100))
    axis.set_ylim(min(0.0, axis.get_ylim()[0]), 1.03 * highest)
    axis.set_title("Channel gates", loc="left")
    axis.grid(visible=True, linewidth=0.3, color="0.9")
    if len(gates) <= MAX_ATTENTION_MAPS:
        legend = {"frameon": False, "fontsize": 5.5, "title_fontsize": 5.5, "handlelength": 1.0, "borderaxespad": 0.0}
        axis.legend(title="site (channels)", loc="upper left", bbox_to_anchor=(1.02, 1), alignment="left", **legend)
    sns.despine(ax=axis)


def _agreement_chart(axis: Axes, bar: Axes, document: Document) -> None:
    """Draw the first measure of agreement of all pairs of maps in the figure."""
    import seaborn as sns

    measure, scores = next(iter(document.measures_between_maps().items()))
    (_, attributions), *attention = bands_of(document)
    views = [view for band in (*(views for _, views in attention), attributions) for view in band if view is not None]
    names = [view.name for view in views]
    values = np.array([[scores[a, b].value if (a, b) in scores else np.nan for b in names] for a in names])
    upper = np.triu(np.ones_like(values, dtype=bool))
    signed = next(iter(scores.values())).low < 0
    labels = [label(view, document) for view in views]
    sns.heatmap(
        values[1:, :-1], mask=upper[1:, :-1], ax=axis, cbar_ax=bar, square=True, cmap="vlag" if signed else "viridis",
        vmin=-1 if signed else 0, vmax=1, annot=len(names) <= 14, fmt=".1f", annot_kws={"fontsize": 4.5},
        xticklabels=labels[:-1], yticklabels=labels[1:], linewidths=0.4,
    )  # fmt: skip
    axis.tick_params(length=0, labelsize=5.5, pad=1)
    axis.set_xticks(axis.get_xticks(), labels[:-1], rotation=40, ha="right", rotation_mode="anchor")
    bar.tick_params(length=1.5, width=0.4, labelsize=5.5)
    axis.set_title(f"Agreement: {title('measure', measure)}", loc="right")

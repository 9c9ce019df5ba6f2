"""Distributions of every measure over the maps or sites of each model, and over classes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.glossary import meaning
from attnviz.report.core.formatting import cut_middle, number
from attnviz.report.dataset.columns import Columns, mean_without_nan, stride_of, subject_title
from attnviz.report.dataset.predictions import Predictions
from attnviz.report.dataset.run_folder import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_ROWS = 24
MAX_CLASSES = 16
MIN_IMAGES = 3
"""Smallest number of images of a class that is drawn."""

BoxRow: TypeAlias = tuple[str, str, Array]
"""Name, kind, and numbers without NaN."""

_COLOURS = {"attention": "#1f7a78", "attribution": "#b26a2c", "site": "#1f7a78", "pair": "#5b6ea8", "answer": "#6c5a8e"}
_STYLE = {"text.parse_math": False, "font.family": "DejaVu Sans"}
_GROUPS = {
    "answer": ("Predictions", ("answer",), ""),
    "maps": ("Maps", ("attention", "attribution"), " of each map"),
    "site": ("Attention g(x)", ("site",), " of each site"),
    "pair": ("Agreement of maps", ("pair",), " of each pair of maps"),
}


class Boxes(NamedTuple):
    """A figure of box plots, one panel for each model.

    Attributes:
        name: File name without its ending.
        group: Heading of its group of figures: ``"Maps"``.
        title: Title.
        caption: How to read the figure.
        meaning: What the measure means and what it does not; empty for an undocumented measure.
        panels: Model -> rows.
    """

    name: str
    group: str
    title: str
    caption: str
    meaning: tuple[str, str]
    panels: dict[str, list[BoxRow]]

    @property
    def table(self) -> list[dict[str, str]]:
        """The figure in numbers: median, quartiles and number of images of each box."""
        return [
            {"model": model, "row": name, "images": str(len(values))}
            | {
                title: number(float(np.quantile(values, share))) if len(values) else "–"
                for title, share in (("low", 0.25), ("median", 0.5), ("high", 0.75))
            }
            for model, rows in self.panels.items()
            for name, _, values in rows
        ]

    @property
    def alt_text(self) -> str:
        """Alternative text of the figure."""
        table = self.table
        medians = [f"{one['row']} ({one['model']}) {one['median']}" for one in table[:6]]
        more = f", and {len(table) - 6} more in the table below" if len(table) > 6 else ""
        return f"Boxes of {self.title}. Medians: {'; '.join(medians)}{more}."


_CAPTION = "Boxes span the middle half of the images, the line is the median, whiskers reach from 5 to 95 %. "
_THINNED = f"Only {MAX_ROWS} evenly spaced rows are shown."
_CLASSES_CAPTION = (
    "Mean of each image over all maps or sites of the model, by label. Boxes span the middle half, whiskers reach from "
    f"5 to 95 %. Of many classes, those with the {MAX_CLASSES // 2} lowest and highest medians are shown. Classes with "
    f"fewer than {MIN_IMAGES} images are left out."
)


def boxes(run: Run, columns: Columns, predictions: Predictions) -> Iterator[Boxes]:
    """Yield the box plots of every measure over maps or sites, and over classes if there are labels."""
    for group, (heading, kinds, subject) in _GROUPS.items():
        for measure in dict.fromkeys(key.measure for key in columns.keys if key.kind in kinds):
            about = meaning("measure", measure)
            name, text = f"{group}-{measure}", (about.means, about.not_means)
            panels = {model: _subject_rows(columns, model, kinds, measure) for model in run.models}
            panels = {model: rows for model, rows in panels.items() if rows}
            if panels:
                caption = _CAPTION + _THINNED * any(len(rows) == MAX_ROWS for rows in panels.values())
                yield Boxes(name, heading, f"{about.title}{subject}", caption, text, panels)
            panels = {model: _class_rows(columns, model, kinds, measure, predictions) for model in panels}
            panels = {model: rows for model, rows in panels.items() if len(rows) > 1}
            if panels:
                title = f"{about.title} of each class"
                yield Boxes(f"{name}-classes", heading, title, _CLASSES_CAPTION, ("", ""), panels)


def _indices(columns: Columns, model: str, kinds: Sequence[str], measure: str) -> list[int]:
    indices = [at for kind in kinds for at in columns.where(model=model, kind=kind, measure=measure)]
    return [at for at in indices if not columns.keys[at].of_all]


def _subject_rows(columns: Columns, model: str, kinds: Sequence[str], measure: str) -> list[BoxRow]:
    indices = _indices(columns, model, kinds, measure)
    if len(indices) > MAX_ROWS:
        indices = [indices[at] for at in np.linspace(0, len(indices) - 1, MAX_ROWS).round().astype(int)]
    rows = []
    for at in indices:
        key, values = columns.keys[at], columns.sample([at])[0]
        name = subject_title(key.subject) or "prediction"
        name = f"{name} · {subject_title(key.other)}" if key.kind == "pair" else name
        rows.append((name, key.kind, values[~np.isnan(values)]))
    return [row for row in rows if len(row[2])]


def _class_rows(
    columns: Columns, model: str, kinds: Sequence[str], measure: str, predictions: Predictions
) -> list[BoxRow]:
    labels = predictions.label[:: stride_of(len(predictions.label))]
    values = mean_without_nan(columns.sample(_indices(columns, model, kinds, measure)))
    rows = []
    for code, label in enumerate(predictions.labels):
        members = values[(labels == code) & ~np.isnan(values)]
        if len(members) >= MIN_IMAGES:
            rows.append((label, kinds[-1], members))
    rows.sort(key=lambda row: float(np.median(row[2])))
    return rows if len(rows) <= MAX_CLASSES else [*rows[: MAX_CLASSES // 2], *rows[-MAX_CLASSES // 2 :]]


def save(one: Boxes, path: Path) -> tuple[int, int]:
    """Write the figure, and return its width and height in pixels.

    A character that is missing from the font is drawn as a box; the table of the figure contains it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = draw(one)
        figure.savefig(path)
    width, height = figure.bbox.size
    return round(float(width)), round(float(height))


def draw(one: Boxes) -> Figure:
    """Draw the figure, without pyplot's global state."""
    import seaborn as sns
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = max(map(len, one.panels.values()))
    style: Any = dict(sns.axes_style("whitegrid", {"axes.edgecolor": ".8", "grid.color": ".92"}))
    style |= {**dict(sns.plotting_context("paper")), **_STYLE}
    with rc_context(style):
        width = min(4.6 * len(one.panels) + 0.6, 13.0)
        figure = Figure(figsize=(width, 0.75 + 0.24 * rows), layout="constrained", dpi=110)
        axes: list[Axes] = list(figure.subplots(1, len(one.panels), sharex=True, squeeze=False)[0])
        for axis, (model, members) in zip(axes, one.panels.items(), strict=True):
            _panel(axis, members)
            axis.set_title(cut_middle(model, 40) if len(one.panels) > 1 else "", fontsize=8, loc="left")
    return figure


def _panel(axis: Axes, rows: Sequence[BoxRow]) -> None:
    import seaborn as sns

    names = ("whislo", "q1", "med", "q3", "whishi")
    quantiles = [np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)) for _, _, values in rows]
    stats: list[dict[str, Any]] = [dict(zip(names, map(float, one), strict=True)) | {"fliers": []} for one in quantiles]
    line = {"color": "0.25", "linewidth": 0.8}
    is_new = "orientation" in signature(axis.bxp).parameters  # since Matplotlib 3.10
    horizontal: dict[str, Any] = {"orientation": "horizontal"} if is_new else {"vert": False}
    artists = axis.bxp(
        stats, range(len(rows)), widths=0.62, patch_artist=True, showfliers=False, **horizontal,
        medianprops={"color": "black", "linewidth": 1.4}, whiskerprops=line, capprops=line, boxprops={"linewidth": 0.8},
    )  # fmt: skip
    for box, (_, kind, _) in zip(artists["boxes"], rows, strict=True):
        box.set(facecolor=_COLOURS[kind], alpha=0.75)
    axis.set_yticks(range(len(rows)), [cut_middle(name) for name, _, _ in rows])
    axis.invert_yaxis()
    axis.tick_params(labelsize=7, length=0)
    sns.despine(ax=axis, left=True)

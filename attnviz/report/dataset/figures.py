"""Distributions of every measure: over the maps or sites of each model, and over classes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.core import glossary
from attnviz.report.core.formatting import number
from attnviz.report.dataset.columns import Columns, mean_without_nan, stride_of
from attnviz.report.dataset.predictions import Answers
from attnviz.report.dataset.run_folder import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 24
MOST_CLASSES = 16
FEWEST = 3
"""A class is drawn from this many images."""

_GROUPS = {
    "answer": ("Answers", ("answer",)),
    "maps": ("Maps", ("attention", "attribution")),
    "site": ("Attention g(x)", ("site",)),
    "pair": ("Agreement of maps", ("pair",)),
}
_COLOURS = {"attention": "#1f7a78", "attribution": "#b26a2c", "site": "#1f7a78", "pair": "#5b6ea8", "answer": "#6c5a8e"}


class Boxes(NamedTuple):
    """A figure of boxes, one panel for each model.

    Attributes:
        name: Of its file.
        group: What it is about: ``"Maps"``.
        title: What it shows.
        reading: How to read it.
        meaning: What the measure says, and what it does not; empty where nobody described it.
        panels: Model -> rows of name, kind and numbers without NaN.
    """

    name: str
    group: str
    title: str
    reading: str
    meaning: tuple[str, str]
    panels: dict[str, list[tuple[str, str, Array]]]

    @property
    def table(self) -> list[dict[str, str]]:
        """The figure in numbers: median, quartiles and count of each box."""
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
    def alternative(self) -> str:
        """The figure in a sentence."""
        medians = [f"{one['row']} ({one['model']}) {one['median']}" for one in self.table[:6]]
        more = f", and {len(self.table) - 6} more in the table below" if len(self.table) > 6 else ""
        return f"Boxes of {self.title}. Medians: {'; '.join(medians)}{more}."


def boxes(run: Run, columns: Columns, answers: Answers) -> Iterator[Boxes]:
    """Every measure over maps or sites, then over classes where there are labels."""
    labels = answers.label[:: stride_of(len(answers.label))]
    for group, (title, kinds) in _GROUPS.items():
        measures = dict.fromkeys(key.measure for key in columns.keys if key.kind in kinds)
        for measure in measures:
            panels = {model: _rows(columns, model, kinds, measure) for model in run.models}
            panels = {model: rows for model, rows in panels.items() if rows}
            meaning = glossary.measure(measure, "")
            named, said = (
                meaning.title,
                (meaning.means, meaning.not_means) if measure in glossary.MEASURES else ("", ""),
            )
            if panels:
                thinned = any(len(rows) == MOST_ROWS for rows in panels.values())
                what = {"answer": "", "maps": " of each map", "site": " of each site", "pair": " of each pair of maps"}
                yield Boxes(
                    f"{group}-{measure}", title, f"{named}{what[group]}", _READ + thinned * _THINNED, said, panels
                )
            classes = {model: _classes(columns, model, kinds, measure, labels, answers) for model in panels}
            classes = {model: rows for model, rows in classes.items() if len(rows) > 1}
            if classes:
                yield Boxes(
                    f"{group}-{measure}-classes", title, f"{named} of each class", _READ_CLASSES, ("", ""), classes
                )


_READ = "A box holds the middle half of the images, the line in it is the median, whiskers reach to 5 and 95 %. "
_THINNED = f"Of many rows, {MOST_ROWS} are shown, evenly spaced."
_READ_CLASSES = (
    "Each image's mean over all maps or sites of the model, by label. A box holds the middle half, whiskers reach to 5 "
    f"and 95 %. Of many classes, those with the {MOST_CLASSES // 2} lowest and highest medians are shown; a class has "
    f"{FEWEST} images at least."
)


def _rows(columns: Columns, model: str, kinds: Sequence[str], measure: str) -> list[tuple[str, str, Array]]:
    places = [at for kind in kinds for at in columns.where(model=model, kind=kind, measure=measure)]
    places = [at for at in places if not columns.keys[at].of_all]
    if len(places) > MOST_ROWS:
        places = [places[at] for at in np.linspace(0, len(places) - 1, MOST_ROWS).round().astype(int)]
    rows = []
    for at in places:
        key = columns.keys[at]
        values = columns.sample([at])[0]
        name = f"{_named(key.subject)} · {_named(key.other)}" if key.kind == "pair" else _named(key.subject) or "answer"
        rows.append((name, key.kind, values[~np.isnan(values)]))
    return [row for row in rows if len(row[2])]


def _named(name: str) -> str:
    return glossary.METHODS[name].title if name in glossary.METHODS else name


def _classes(
    columns: Columns, model: str, kinds: Sequence[str], measure: str, labels: Array, answers: Answers
) -> list[tuple[str, str, Array]]:
    places = [at for kind in kinds for at in columns.where(model=model, kind=kind, measure=measure)]
    values = mean_without_nan(columns.sample([at for at in places if not columns.keys[at].of_all]))
    rows = []
    for code, label in enumerate(answers.labels):
        own = values[(labels == code) & ~np.isnan(values)]
        if len(own) >= FEWEST:
            rows.append((label, kinds[-1], own))
    rows.sort(key=lambda row: float(np.median(row[2])))
    return rows if len(rows) <= MOST_CLASSES else [*rows[: MOST_CLASSES // 2], *rows[-MOST_CLASSES // 2 :]]


def save(one: Boxes, path: Path) -> tuple[int, int]:
    """Write the figure, and say its width and height in pixels.

    A letter that the font does not have is drawn as a box; the table beside the figure has it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = draw(one)
        figure.savefig(path)
    width, height = figure.bbox.size
    return round(float(width)), round(float(height))


def draw(one: Boxes) -> Figure:
    """The figure, without a window and without Matplotlib's global state."""
    import seaborn as sns
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    most = max(len(rows) for rows in one.panels.values())
    style: Any = dict(sns.axes_style("whitegrid", {"axes.edgecolor": ".8", "grid.color": ".92"}))
    style |= {**dict(sns.plotting_context("paper")), "text.parse_math": False, "font.family": "DejaVu Sans"}
    with rc_context(style):
        width = 4.6 * len(one.panels) + 0.6
        figure = Figure(figsize=(min(width, 13.0), 0.75 + 0.24 * most), layout="constrained", dpi=110)
        axes: list[Axes] = list(figure.subplots(1, len(one.panels), sharex=True, squeeze=False)[0])
        for axis, (model, rows) in zip(axes, one.panels.items(), strict=True):
            _panel(axis, rows)
            axis.set_title(_cut(model, 40) if len(one.panels) > 1 else "", fontsize=8, loc="left")
    return figure


def _panel(axis: Axes, rows: Sequence[tuple[str, str, Array]]) -> None:
    import seaborn as sns

    ends = [np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)) for _, _, values in rows]
    stats: list[dict[str, Any]] = [
        dict(zip(("whislo", "q1", "med", "q3", "whishi"), map(float, each), strict=True)) | {"fliers": []}
        for each in ends
    ]
    line = {"color": "0.25", "linewidth": 0.8}
    drawn = axis.bxp(
        stats, range(len(rows)), widths=0.62, orientation="horizontal", patch_artist=True, showfliers=False,
        medianprops={"color": "black", "linewidth": 1.4}, whiskerprops=line, capprops=line, boxprops={"linewidth": 0.8},
    )  # fmt: skip
    for box, (_, kind, _) in zip(drawn["boxes"], rows, strict=True):
        box.set(facecolor=_COLOURS[kind], alpha=0.75)
    axis.set_yticks(range(len(rows)), [_cut(name) for name, _, _ in rows])
    axis.invert_yaxis()
    axis.tick_params(labelsize=7, length=0)
    sns.despine(ax=axis, left=True)


def _cut(text: str, most: int = 44) -> str:
    """At most so many letters, the middle left out; what no font draws as text is drawn as a box.

    >>> _cut("blocks.5.3.attention.spatial", 16)
    'blocks.….spatial'
    """
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most // 2 - 1]}…{flat[-(most - most // 2) :]}"

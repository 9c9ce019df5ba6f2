"""Reports of studies: an HTML page, a folder of figures and a JSON file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from attnviz.core.arrays import Array
from attnviz.media.atomic_files import check_files, write_files
from attnviz.report.core.colours import data_uri

if TYPE_CHECKING:
    import seaborn as sns
    from matplotlib.figure import Figure

    from attnviz.core.comparison_results import Comparison
    from attnviz.core.sparsity_results import SparsityStudy

FIGURES = "figures"
"""Name of the folder of figures."""


class ReportFigure(NamedTuple):
    """A figure with its texts.

    Attributes:
        name: File name without its ending.
        title: Title.
        caption: How to read the figure, and what it does not show.
        figure: The Matplotlib figure.
    """

    name: str
    title: str
    caption: str
    figure: Figure


S = TypeVar("S", "Comparison", "SparsityStudy")


@dataclass(frozen=True, slots=True)
class StudyReport(Generic[S]):
    """Writer of the reports of one kind of study.

    Attributes:
        noun: Name of the result in error messages: ``"comparison"``.
        stem: File name of the page and of the JSON file, without ending.
        draw: Yields the figures of a study, drawn one at a time.
        render: Returns the page of a study, given its figures and their ``data:`` URIs.
    """

    noun: str
    stem: str
    draw: Callable[[S], Iterator[ReportFigure]]
    render: Callable[[S, Iterable[tuple[ReportFigure, str]]], str]

    def check(self, folder: Path, formats: Sequence[str], *, overwrite: bool) -> None:
        """Check that the report can be written, before the study is run.

        Raises:
            OutputError: see :func:`~attnviz.media.atomic_files.check_files`.
        """
        check_files(folder, self._names(formats), self.noun, overwrite=overwrite)

    def write(self, study: S, folder: Path, formats: Sequence[str], *, overwrite: bool = False) -> list[Path]:
        """Write the report: all of its files, or none after an error; return them in the order of ``formats``.

        The formats are ``"html"`` for a page, ``"png"`` for a folder of figures and ``"json"`` for a file.

        Raises:
            OutputError: see :func:`~attnviz.media.atomic_files.write_files`.
        """
        fill = partial(self._fill, study, formats)
        return write_files(folder, self._names(formats), fill, self.noun, overwrite=overwrite)

    def _names(self, formats: Sequence[str]) -> list[str]:
        return [FIGURES if name == "png" else f"{self.stem}.{name}" for name in formats]

    def _fill(self, study: S, formats: Sequence[str], folder: Path) -> None:
        if "json" in formats:
            text = json.dumps(study.as_dict(), ensure_ascii=False, allow_nan=False, indent=1)
            (folder / f"{self.stem}.json").write_text(text + "\n", encoding="utf-8")
        if not {"html", "png"} & set(formats):
            return
        (folder / FIGURES).mkdir()
        files = [(one, _save(one, folder / FIGURES)) for one in self.draw(study)]
        if "html" in formats:
            embedded = [(one, data_uri(path.read_bytes(), "image/png")) for one, path in files]
            (folder / f"{self.stem}.html").write_text(self.render(study, embedded), encoding="utf-8")
        if "png" not in formats:
            shutil.rmtree(folder / FIGURES)


def _save(figure: ReportFigure, folder: Path) -> Path:
    path = folder / f"{figure.name}.png"
    figure.figure.savefig(path, bbox_inches="tight")
    return path


def cluster_map(similarity: Array, **options: Any) -> sns.matrix.ClusterGrid:
    """Draw a similarity matrix, ``(n, n)`` at most 1, with rows and columns ordered by average linkage.

    NaN counts as 0; the diagonal is ignored in the clustering. ``options`` are those of :func:`seaborn.clustermap`. The
    figure of the returned grid is closed in pyplot, which keeps no reference to it.
    """
    import seaborn as sns
    from matplotlib import pyplot as plt
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    known = np.nan_to_num(similarity, nan=0.0)
    distance = np.clip(1 - (known + known.T) / 2, 0, None)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    grid = sns.clustermap(known, row_linkage=tree, col_linkage=tree, **options)
    plt.close(grid.figure)
    return grid

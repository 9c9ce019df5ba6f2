"""Reports of studies: an HTML page, a folder of figures and a JSON file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from attnviz.media.atomic_files import check_files, write_files
from attnviz.report.core.colours import data_uri

if TYPE_CHECKING:
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
        """Write the report: all of its files, or none after an error.

        Args:
            study: The result of the study.
            folder: Output folder; created if it does not exist.
            formats: ``"html"`` a page, ``"png"`` a folder of figures, ``"json"`` a file.
            overwrite: Whether to replace the files of an earlier report.

        Returns:
            The files, in the order of ``formats``.

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

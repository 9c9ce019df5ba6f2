"""Write a study's folder: all of its files or none of them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnviz.errors import OutputError
from attnviz.studies import SparsityStudy

if TYPE_CHECKING:
    from attnviz.report.sparsity.figures import Drawn

FORMATS = {"html": "sparsity.html", "png": "figures", "json": "sparsity.json"}
"""What each format is called in the folder; ``figures`` holds one file per figure."""


def check(folder: Path, formats: Iterable[str], *, overwrite: bool) -> None:
    """Say before the work whether its result can be written.

    Raises:
        OutputError: the folder is a file, or holds a study already.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, wanted a folder for the study")
    there = [FORMATS[name] for name in formats if (folder / FORMATS[name]).exists()]
    if there and not overwrite:
        raise OutputError(f"{folder}: holds {', '.join(there)} already; --overwrite replaces it")


def write(study: SparsityStudy, folder: Path, formats: Sequence[str], *, overwrite: bool = False) -> list[Path]:
    """Write the files, into a temporary folder first, so that an interruption leaves nothing half-written.

    Args:
        study: What was found.
        folder: Made where it does not exist.
        formats: ``"html"``, ``"png"``, ``"json"``.
        overwrite: Whether an earlier study may be replaced.

    Returns:
        The files, in the order of ``formats``.

    Raises:
        OutputError: see :func:`check`, or the disk refused.
    """
    check(folder, formats, overwrite=overwrite)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".sparsity.", dir=folder) as name:
            partial = Path(name)
            _render(study, partial, formats)
            for one in formats:
                _replace(partial / FORMATS[one], folder / FORMATS[one])
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return [folder / FORMATS[name] for name in formats]


def _render(study: SparsityStudy, folder: Path, formats: Sequence[str]) -> None:
    if "json" in formats:
        text = json.dumps(study.as_dict(), ensure_ascii=False, allow_nan=False, indent=1)
        (folder / FORMATS["json"]).write_text(text + "\n", encoding="utf-8")
    if not {"html", "png"} & set(formats):
        return
    from attnviz.report.sparsity.figures import draw

    figures = folder / FORMATS["png"]
    figures.mkdir()
    drawn: list[tuple[Drawn, Path]] = []
    for one in draw(study):
        path = figures / f"{one.name}.png"
        one.figure.savefig(path)
        drawn.append((one, path))
    if "html" in formats:
        from attnviz.report.sparsity.page import render

        (folder / FORMATS["html"]).write_text(render(study, drawn), encoding="utf-8")


def _replace(new: Path, old: Path) -> None:
    if old.is_dir():
        shutil.rmtree(old)
    new.replace(old)

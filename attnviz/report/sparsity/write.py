"""Write a study's folder: all of its files or none of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnviz.core.sparsity_results import SparsityStudy
from attnviz.media.atomic_files import check_files
from attnviz.report.core.templating import Found, write_found

FORMATS = {"html": "sparsity.html", "png": "figures", "json": "sparsity.json"}
"""What each format is called in the folder; ``figures`` holds one file per figure."""


def check(folder: Path, formats: Sequence[str], *, overwrite: bool) -> None:
    """Say before the work whether its result can be written.

    Raises:
        OutputError: see :func:`~attnviz.media.atomic_files.check_files`.
    """
    check_files(folder, [FORMATS[name] for name in formats], "study", overwrite=overwrite)


def write(study: SparsityStudy, folder: Path, formats: Sequence[str], *, overwrite: bool = False) -> list[Path]:
    """Write the files, all or none.

    Args:
        study: What was found.
        folder: Made where it does not exist.
        formats: ``"html"``, ``"png"``, ``"json"``.
        overwrite: Whether an earlier study may be replaced.

    Returns:
        The files, in the order of ``formats``.

    Raises:
        OutputError: see :func:`~attnviz.media.atomic_files.write_files`.
    """
    from attnviz.report.sparsity.figures import draw
    from attnviz.report.sparsity.page import render

    noted = Found("study", FORMATS, study.as_dict())
    return write_found(noted, draw(study), lambda figures: render(study, figures), folder, formats, overwrite=overwrite)

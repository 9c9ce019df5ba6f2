"""Write a comparison's folder: all of its files or none of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnviz.core.comparison_results import Comparison
from attnviz.media.atomic_files import check_files
from attnviz.report.core.templating import Found, write_found

FORMATS = {"html": "comparison.html", "png": "figures", "json": "comparison.json"}
"""What each format is called in the folder; ``figures`` holds one file per figure."""


def check(folder: Path, formats: Sequence[str], *, overwrite: bool) -> None:
    """Say before the work whether its result can be written.

    Raises:
        OutputError: see :func:`~attnviz.media.atomic_files.check_files`.
    """
    check_files(folder, [FORMATS[name] for name in formats], "comparison", overwrite=overwrite)


def write(found: Comparison, folder: Path, formats: Sequence[str], *, overwrite: bool = False) -> list[Path]:
    """Write the files, all or none.

    Args:
        found: What was found.
        folder: Made where it does not exist.
        formats: ``"html"``, ``"png"``, ``"json"``.
        overwrite: Whether an earlier comparison may be replaced.

    Returns:
        The files, in the order of ``formats``.

    Raises:
        OutputError: see :func:`~attnviz.media.atomic_files.write_files`.
    """
    from attnviz.report.comparison.figures import draw
    from attnviz.report.comparison.page import render

    noted = Found("comparison", FORMATS, found.as_dict())
    return write_found(noted, draw(found), lambda figures: render(found, figures), folder, formats, overwrite=overwrite)

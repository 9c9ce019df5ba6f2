"""The folder of an explanation's report: what it is called, and its files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from attnviz.media.atomic_files import check_files, write_files
from attnviz.report import FILE_NAMES, render
from attnviz.report.core.document import Document


def folders_for(images: Sequence[str], out: str | Path | None) -> list[Path]:
    """The folder of each image's report.

    One image goes to ``out``; several go to folders named after them in ``out``, numbered where names repeat. Without
    ``out``, a folder named after the image in the current one.

    >>> [str(folder) for folder in folders_for(["a/cat.jpg", "b/cat.png"], "r")]
    ['r/cat', 'r/cat-2']
    """
    if out is not None and len(images) == 1:
        return [Path(out)]
    taken: set[Path] = set()
    folders = []
    for image in images:
        plain = Path(out or ".") / (Path(image).stem or "image")
        folder, number = plain, 2
        while folder in taken:
            folder, number = plain.with_name(f"{plain.name}-{number}"), number + 1
        taken.add(folder)
        folders.append(folder)
    return folders


def check_folder(folder: Path, formats: Iterable[str], *, overwrite: bool) -> None:
    """Say before the work whether its result can be written.

    Raises:
        OutputError: see :func:`~attnviz.media.atomic_files.check_files`.
    """
    check_files(folder, [FILE_NAMES[name] for name in formats], "report", overwrite=overwrite)


def write_folder(document: Document, folder: Path, formats: Sequence[str], *, overwrite: bool = False) -> list[Path]:
    """Write the report's files, all or none; other files in the folder are left alone.

    Args:
        document: What to write.
        folder: Made where it does not exist.
        formats: ``"html"``, ``"png"``, ``"json"``, ``"gif"``.
        overwrite: Whether files of an earlier report may be replaced.

    Returns:
        The files, in the order of ``formats``.

    Raises:
        OutputError: see :func:`~attnviz.media.atomic_files.write_files`.
    """

    def fill(partial: Path) -> None:
        for name in formats:
            render(document, name, partial / FILE_NAMES[name])

    return write_files(folder, [FILE_NAMES[name] for name in formats], fill, "report", overwrite=overwrite)

"""A report's folder: all of its files or none of them."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from attnviz.errors import OutputError
from attnviz.report import FILE_NAMES, render
from attnviz.report.document import Document


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
        OutputError: the folder is a file, cannot be looked into or written, or holds a report already.
    """
    try:
        _check_folder(folder, formats, overwrite=overwrite)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be a folder for the report: {error.strerror or error}") from error


def _check_folder(folder: Path, formats: Iterable[str], *, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, wanted a folder for the report")
    there = [FILE_NAMES[name] for name in formats if (folder / FILE_NAMES[name]).exists()]
    if there and not overwrite:
        raise OutputError(f"{folder}: holds {', '.join(there)} already; --overwrite replaces it")
    parent = folder
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise OutputError(f"{folder}: cannot be made, {parent} is a file")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: cannot be written, no permission in {parent}")


def write_folder(document: Document, folder: Path, formats: Sequence[str], *, overwrite: bool = False) -> list[Path]:
    """Write the report's files: into a temporary sibling first, so that an interruption leaves nothing half-written.

    Other files in the folder are left alone.

    Args:
        document: What to write.
        folder: Made where it does not exist.
        formats: ``"html"``, ``"png"``, ``"json"``.
        overwrite: Whether files of an earlier report may be replaced.

    Returns:
        The files, in the order of ``formats``.

    Raises:
        OutputError: see :func:`check_folder`, or the disk refused.
    """
    check_folder(folder, formats, overwrite=overwrite)
    made = _make_parents(folder.parent)
    partial: Path | None = None
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
        for name in formats:
            render(document, name, partial / FILE_NAMES[name])
        partial.chmod(0o777 & ~_umask())
        _move(partial, folder, formats)
        made.clear()
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        for parent in reversed(made):
            parent.rmdir()
    return [folder / FILE_NAMES[name] for name in formats]


def _make_parents(folder: Path) -> list[Path]:
    """Make the folder and those above it; those that were made, outermost first."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()][::-1]
    made: list[Path] = []
    for one in missing:
        try:
            one.mkdir()
        except OSError as error:
            for parent in reversed(made):
                parent.rmdir()
            raise OutputError(f"{one}: cannot be made: {error.strerror or error}") from error
        made.append(one)
    return made


def _move(partial: Path, folder: Path, formats: Sequence[str]) -> None:
    """Put the finished files in place: the folder at once where there is none, or else file by file."""
    if not folder.exists():
        try:
            partial.rename(folder)
        except OSError as error:
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                raise
        else:
            return
    for name in formats:
        (partial / FILE_NAMES[name]).replace(folder / FILE_NAMES[name])


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

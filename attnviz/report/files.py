"""A folder of files: all of them or none of them."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from attnviz.errors import OutputError
from attnviz.folders import check_folder


def check_files(folder: Path, names: Sequence[str], what: str, *, overwrite: bool) -> None:
    """Say before the work whether its result can be written.

    Args:
        folder: Where to.
        names: The files, or folders of files, that will be written there.
        what: What they are: ``"report"``.
        overwrite: Whether they may be there already.

    Raises:
        OutputError: the folder is a file, cannot be looked into or written, or holds one of them already.
    """
    try:
        check_folder(folder, what)
        there = [name for name in names if (folder / name).exists()]
    except OSError as error:
        raise OutputError(f"{folder}: cannot be a folder for the {what}: {error.strerror or error}") from error
    if there and not overwrite:
        raise OutputError(f"{folder}: holds {', '.join(there)} already; --overwrite replaces it")


def write_files(
    folder: Path, names: Sequence[str], fill: Callable[[Path], None], what: str, *, overwrite: bool
) -> list[Path]:
    """Have files written into a temporary folder, then put them in place: an interruption leaves none half-written.

    Other files in the folder are left alone.

    Args:
        folder: Made where it does not exist.
        names: What ``fill`` writes: files, or folders of files.
        fill: Writes them into the folder that it is given.
        what: What they are, for messages.
        overwrite: Whether earlier ones may be replaced.

    Returns:
        Their paths, in the order of ``names``.

    Raises:
        OutputError: see :func:`check_files`, or the disk refused.
    """
    check_files(folder, names, what, overwrite=overwrite)
    made = make_parents(folder.parent)
    partial: Path | None = None
    try:
        beside = folder if folder.exists() else folder.parent  # a folder may be another disk than its parent
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=beside))
        fill(partial)
        partial.chmod(0o777 & ~_umask())
        _move(partial, folder, names)
        made.clear()
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        for parent in reversed(made):
            parent.rmdir()
    return [folder / name for name in names]


def make_parents(folder: Path) -> list[Path]:
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


def _move(partial: Path, folder: Path, names: Sequence[str]) -> None:
    """Put the finished files in place: the folder at once where there is none, or else file by file."""
    if not folder.exists():
        try:
            partial.rename(folder)
        except OSError as error:
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                raise
        else:
            return
    for name in names:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        (partial / name).replace(folder / name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

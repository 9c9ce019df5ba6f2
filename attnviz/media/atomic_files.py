"""A folder of files: all of them or none of them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attnviz.errors import OutputError


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


def check_folder(folder: Path, what: str) -> None:
    """Say before the work that a folder cannot be written; it need not be there yet, and is not made.

    Args:
        folder: Where to.
        what: What for: ``"report"``.

    Raises:
        OutputError: it is a file, lies below one, or may not be written.
        OSError: it cannot be looked into.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, wanted a folder for the {what}")
    parent = folder
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise OutputError(f"{folder}: cannot be made, {parent} is a file")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: cannot be written, no permission in {parent}")


_READABLE = 0o644  # some writers make private files


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in ``path``'s place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        write(beside)
        beside.chmod(_READABLE)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, atomically."""
    write_atomically(path, lambda beside: beside.write_text(json.dumps(content, indent=1) + "\n"))

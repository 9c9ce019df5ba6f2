"""Write files completely or not at all: an interruption leaves no partial file.

Permissions follow the process's umask, which the operating system applies to the temporary file or folder.
"""

import contextlib
import errno
import json
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from attnviz.errors import OutputError


@contextlib.contextmanager
def output_errors(where: object, what: str = "cannot be written") -> Iterator[None]:
    """Turn an :class:`OSError` into an :class:`OutputError` that names the file or folder, in one line."""
    try:
        yield
    except OSError as error:
        reason = " ".join((error.strerror or str(error)).split()) or type(error).__name__
        raise OutputError(f"{where}: {what}: {reason}") from error


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` write a temporary file in the folder of ``path``, created if missing, and rename it to ``path``.

    Raises:
        OutputError: the file cannot be written.
    """
    make_parents(path.parent)
    partial = path.with_name(partial_name(path.name))
    try:
        with output_errors(path):
            partial.touch(exist_ok=False)
            mode = stat.S_IMODE(partial.stat().st_mode)
            write(partial)
            partial.chmod(mode)  # safetensors and others create private files
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def partial_name(name: str) -> str:
    """Return an unused name for a file or folder while it is written."""
    return f".{name}.{uuid.uuid4().hex[:12]}.partial"


def is_partial(name: str) -> bool:
    """Return whether a name is one of :func:`partial_name`."""
    return name.startswith(".") and name.endswith(".partial")


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON; see :func:`write_atomically`."""
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def check_files(folder: Path, names: Sequence[str], what: str, *, overwrite: bool) -> None:
    """Check that files, or folders of files, can be written into a folder; nothing is created.

    ``what`` they are, such as ``"report"``, is part of the messages.

    Raises:
        OutputError: the folder is a file, is below a file or cannot be read or written, or one of the files exists.
    """
    with output_errors(folder, f"cannot be a folder for the {what}"):
        _check_folder(folder, what)
        existing = [name for name in names if (folder / name).exists()]
    if existing and not overwrite:
        raise OutputError(f"{folder}: holds {', '.join(existing)} already; --overwrite replaces it")


def write_files(
    folder: Path, names: Sequence[str], fill: Callable[[Path], None], what: str, *, overwrite: bool
) -> list[Path]:
    """Let ``fill`` write files into a temporary folder and move them into ``folder``; its other files stay as they are.

    Returns:
        The paths of the files or folders ``names``, in their order.

    Raises:
        OutputError: see :func:`check_files`, or the files cannot be written.
    """
    check_files(folder, names, what, overwrite=overwrite)
    created = make_parents(folder.parent)
    # The folder itself, if it exists: it can be on another disk than its parent.
    partial = (folder if folder.exists() else folder.parent) / partial_name(folder.name)
    try:
        with output_errors(folder):
            partial.mkdir()
            fill(partial)
            _move(partial, folder, names)
            created.clear()
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in reversed(created):
            parent.rmdir()
    return [folder / name for name in names]


def make_parents(folder: Path) -> list[Path]:
    """Create a folder and its missing parents, and return those that were created, outermost first.

    Raises:
        OutputError: one cannot be created; the others are removed again.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()][::-1]
    created: list[Path] = []
    for one in missing:
        try:
            one.mkdir()
        except FileExistsError:  # another process created it
            continue
        except OSError as error:
            for parent in reversed(created):
                parent.rmdir()
            raise OutputError(f"{one}: cannot be made: {error.strerror or error}") from error
        created.append(one)
    return created


def _check_folder(folder: Path, what: str) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, wanted a folder for the {what}")
    parent = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    if not parent.is_dir():
        raise OutputError(f"{folder}: cannot be made, {parent} is a file")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: cannot be written, no permission in {parent}")


def _move(partial: Path, folder: Path, names: Sequence[str]) -> None:
    """Rename the temporary folder if ``folder`` does not exist, otherwise move its files one by one."""
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

"""Files on a local disk or behind any URL that fsspec can open."""

import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnviz.errors import AttnvizError, ImageError, OutputError
from attnviz.media.atomic_files import output_errors, partial_name, write_atomically
from attnviz.media.image_decoding import check_file, error_line

MAX_FILE_BYTES = 1 << 30
"""The largest image file that is read."""

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_ATOMIC_PUT = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "adl"})
"""Object stores, in which a file appears complete or not at all."""


def is_url(path: str) -> bool:
    """Whether a path is a URL and not a local path.

    >>> is_url("s3://bucket/photos"), is_url("C:/photos")
    (True, False)
    """
    return _URL.match(path) is not None


def open_filesystem(url: str, error: type[AttnvizError] = OutputError) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        AttnvizError: no installed package opens such URLs.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)  # type: ignore[no-any-return]
    except (ValueError, ImportError) as reason:
        raise error(f"{url}: cannot be opened: {error_line(reason)}") from reason


def read_image(path: str) -> bytes:
    """The bytes of an image file, local or behind a URL.

    Raises:
        ImageError: missing, empty, not a regular file, too large, or unreadable.
    """
    try:
        if not is_url(path):
            check_file(path)
            size = Path(path).stat().st_size
        else:
            system, inside = open_filesystem(path, ImageError)
            size = int(system.info(inside)["size"] or 0)
        if size > MAX_FILE_BYTES:
            raise ImageError(f"{path}: {size:,} bytes, at most {MAX_FILE_BYTES:,} are read")
        return system.cat_file(inside) if is_url(path) else Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error_line(error)}") from error


def list_files(url: str) -> list[str] | None:
    """Paths of all files below a folder, relative to it; ``None`` if the URL is a file.

    Raises:
        ImageError: the folder cannot be listed.
    """
    system, inside = open_filesystem(url, ImageError)
    try:
        if system.isfile(inside):
            return None
        top = inside.strip("/") + "/"  # some file systems begin their paths with a slash
        found = [str(path).lstrip("/") for path in system.find(inside)]
    except OSError as error:
        raise ImageError(f"{url}: cannot be listed: {error_line(error)}") from error
    return [path.removeprefix(top) for path in found if path.startswith(top)]


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that is written to, local or behind a URL. Picklable: every worker opens it on its own.

    Its methods raise an :class:`OutputError`, in one line with the name, for what cannot be listed, read or written.

    Attributes:
        root: Path or URL.
    """

    root: str

    @property
    def is_local(self) -> bool:
        """Whether it is on a local disk."""
        return not is_url(self.root)

    def path(self, name: str) -> str:
        """Path or URL of a file in the folder."""
        return f"{self.root.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether the folder holds this file."""
        if self.is_local:
            return Path(self.path(name)).is_file()
        system, inside = open_filesystem(self.path(name))
        return bool(system.isfile(inside))

    def names(self, inside: str = "") -> list[str]:
        """Sorted names of the files and folders in a subfolder; empty if it does not exist."""
        where = self.path(inside) if inside else self.root
        with output_errors(where, "cannot be listed"), suppress(FileNotFoundError):
            if self.is_local:
                return sorted(os.listdir(where))  # noqa: PTH208  # names, not paths
            system, path = open_filesystem(where)
            system.invalidate_cache()
            return sorted(str(one).rstrip("/").rpartition("/")[2] for one in system.ls(path, detail=False))
        return []

    def read(self, name: str) -> bytes:
        """Content of a file."""
        where = self.path(name)
        with output_errors(where, "cannot be read"):
            if self.is_local:
                return Path(where).read_bytes()
            system, path = open_filesystem(where)
            return bytes(system.cat_file(path))

    def write(self, name: str, data: bytes) -> None:
        """Write a file completely or not at all; an earlier one of this name is replaced."""
        where = self.path(name)
        with output_errors(where):
            if self.is_local:
                write_atomically(Path(where), lambda partial: partial.write_bytes(data))
            else:
                _write_url(where, data)

    def append(self, name: str, line: str) -> None:
        """Append a line to a file; behind a URL the file is written again."""
        data = f"{line}\n".encode()
        if not self.is_local:
            before = self.read(name) if self.exists(name) else b""
            self.write(name, before + data)
            return
        with output_errors(self.path(name)), Path(self.path(name)).open("ab") as file:
            file.write(data)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with its content, if it exists."""
        where = self.path(name)
        with output_errors(where, "cannot be removed"):
            if not self.is_local:
                system, inside = open_filesystem(where)
                if system.exists(inside):
                    system.rm(inside, recursive=True)
            elif Path(where).is_dir() and not Path(where).is_symlink():
                shutil.rmtree(where)
            else:
                Path(where).unlink(missing_ok=True)


def _write_url(where: str, data: bytes) -> None:
    system, path = open_filesystem(where)
    parent, _, name = path.rpartition("/")
    if _ATOMIC_PUT.intersection([system.protocol] if isinstance(system.protocol, str) else system.protocol):
        system.pipe_file(path, data)
        return
    if parent:
        system.makedirs(parent, exist_ok=True)
    partial = f"{parent}/{partial_name(name)}" if parent else partial_name(name)
    try:
        system.pipe_file(partial, data)
        if system.exists(path):
            system.rm_file(path)
        system.mv(partial, path)
    except BaseException:
        if system.exists(partial):
            system.rm_file(partial)
        raise

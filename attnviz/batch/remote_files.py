"""Files wherever they are: on a local disk, or behind any URL that pyarrow or fsspec can open."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnviz.errors import ImageError, OutputError
from attnviz.media.image_decoding import check_file

if TYPE_CHECKING:
    from pyarrow import fs

MAX_FILE_BYTES = 1 << 30
"""The largest image file that is read."""

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_SINGLE_PUT = frozenset({"s3", "gcs", "abfs"})  # pyarrow's names of stores where an object is there whole or not at all


def is_url(path: str) -> bool:
    """Whether a path is a URL and no local path.

    >>> is_url("s3://bucket/photos"), is_url("C:/photos")
    (True, False)
    """
    return _URL.match(path) is not None


@lru_cache(maxsize=64)
def _system(start: str) -> Any:
    """The file system behind the start of a URL, ``scheme://host``: pyarrow's own, or one of fsspec's."""
    import pyarrow as pa
    from pyarrow import fs

    try:
        return fs.FileSystem.from_uri(f"{start}/")[0]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    import fsspec

    try:
        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(start.partition("://")[0])))
    except (ValueError, ImportError) as error:
        raise OutputError(f"{start}: cannot be opened: {_line(error)}") from error


def resolve(path: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URL, and the path in it.

    Raises:
        OutputError: nothing installed opens such a URL.
    """
    scheme, _, rest = path.partition("://")
    if scheme.lower() == "file":
        return _system("file://"), "/" + rest.lstrip("/")
    host = rest.partition("/")[0]
    return _system(f"{scheme}://{host}" if scheme.lower() != "memory" else "memory://"), rest.rstrip("/")


def read_image(path: str) -> bytes:
    """The bytes of an image file, local or behind a URL.

    Raises:
        ImageError: missing, empty, no regular file, too large, or it cannot be read.
    """
    if not is_url(path):
        check_file(path)
        size = Path(path).stat().st_size
    else:
        size = _size_of(path)
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{path}: {size:,} bytes, at most {MAX_FILE_BYTES:,} are read")
    try:
        return Path(path).read_bytes() if not is_url(path) else _read_url(path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {_line(error)}") from error


def _size_of(path: str) -> int:
    from pyarrow import fs

    try:
        system, inside = resolve(path)
        info = system.get_file_info(inside)
    except (OSError, OutputError) as error:
        raise ImageError(f"{path}: cannot be opened: {_line(error)}") from error
    if info.type != fs.FileType.File:
        raise ImageError(f"{path}: no such file")
    return int(info.size or 0)


def _read_url(path: str) -> bytes:
    system, inside = resolve(path)
    with system.open_input_stream(inside) as stream:
        return bytes(stream.read())


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that is written to, local or behind a URL. Picklable: every worker opens it for itself.

    Attributes:
        root: As it was given.
    """

    root: str

    @property
    def is_local(self) -> bool:
        """Whether it is on a local disk."""
        return not is_url(self.root)

    def path(self, name: str) -> str:
        """The path or URL of a file in it."""
        return f"{self.root.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether it holds that file."""
        from pyarrow import fs

        if self.is_local:
            return Path(self.path(name)).is_file()
        system, inside = resolve(self.path(name))
        return bool(system.get_file_info(inside).type == fs.FileType.File)

    def names(self, inside: str = "") -> list[str]:
        """Names of the files and folders in a folder of it, sorted; none where there is no such folder.

        Raises:
            OutputError: it is no folder, or cannot be looked into.
        """
        where = self.path(inside) if inside else self.root
        try:
            if self.is_local:
                return sorted(os.listdir(where)) if Path(where).exists() else []  # noqa: PTH208  # names, not paths
            from pyarrow import fs

            system, path = resolve(where)
            found = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
            return sorted(one.base_name for one in found)
        except OSError as error:
            raise OutputError(f"{where}: cannot be looked into: {_line(error)}") from error

    def read(self, name: str) -> bytes:
        """What a file holds.

        Raises:
            OutputError: it cannot be read.
        """
        where = self.path(name)
        try:
            return Path(where).read_bytes() if self.is_local else _read_url(where)
        except OSError as error:
            raise OutputError(f"{where}: cannot be read: {_line(error)}") from error

    def write(self, name: str, data: bytes) -> None:
        """Put a file there: whole, or not at all; an earlier one of that name is replaced.

        Raises:
            OutputError: the disk is full, the folder cannot be written, or the store refused.
        """
        where = self.path(name)
        try:
            if self.is_local:
                _write_local(Path(where), data)
            else:
                _write_url(where, data)
        except OSError as error:
            raise OutputError(f"{where}: cannot be written: {_line(error)}") from error

    def append(self, name: str, line: str) -> None:
        """Add a line to a file; behind a URL, where files cannot grow, it is written anew.

        Raises:
            OutputError: it cannot be written.
        """
        data = f"{line}\n".encode()
        if not self.is_local:
            before = self.read(name) if self.exists(name) else b""
            self.write(name, before + data)
            return
        try:
            with Path(self.path(name)).open("ab") as file:
                file.write(data)
        except OSError as error:
            raise OutputError(f"{self.path(name)}: cannot be written: {_line(error)}") from error

    def remove(self, name: str) -> None:
        """Take a file, or a folder with all that it holds, away; nothing happens where there is none."""
        where = self.path(name)
        try:
            if self.is_local:
                path = Path(where)
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
                return
            from pyarrow import fs

            system, inside = resolve(where)
            kind = system.get_file_info(inside).type
            if kind == fs.FileType.Directory:
                system.delete_dir(inside)
            elif kind == fs.FileType.File:
                system.delete_file(inside)
        except OSError as error:
            raise OutputError(f"{where}: cannot be removed: {_line(error)}") from error


def partial_name(name: str) -> str:
    """Where a file is written before it is put in place: hidden, so that no reader of the folder takes it."""
    return f".{name}.{uuid.uuid4().hex[:12]}.partial"


def is_partial(name: str) -> bool:
    """Whether a name is one of :func:`partial_name`'s."""
    return name.startswith(".") and name.endswith(".partial")


def _write_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(partial_name(path.name))
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _write_url(where: str, data: bytes) -> None:
    system, path = resolve(where)
    parent, _, name = path.rpartition("/")
    if system.type_name in _SINGLE_PUT:
        with system.open_output_stream(path) as stream:
            stream.write(data)
        return
    if parent:
        system.create_dir(parent, recursive=True)
    beside = f"{parent}/{partial_name(name)}" if parent else partial_name(name)
    try:
        with system.open_output_stream(beside) as stream:
            stream.write(data)
        system.move(beside, path)
    except BaseException:
        if system.get_file_info(beside).is_file:
            system.delete_file(beside)
        raise


def _line(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__

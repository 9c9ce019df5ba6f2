"""Read the files inside a Qt resource archive (``.rcc``), where ``gcompris-qt-data`` keeps its photographs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from attnviz.errors import DataError

_MAGIC = b"qres"
_COMPRESSED, _FOLDER = 1, 2  # compressed entries are text; photographs are stored as they are


def read_rcc(path: Path) -> Iterator[tuple[str, bytes]]:
    """Each uncompressed file of the archive: its path inside, and its bytes.

    The archive is a tree of nodes beside a table of names and a block of data; all numbers are big-endian. A node is
    ``name offset: u32, flags: u16`` and then ``count: u32, first child: u32`` for a folder or
    ``language: u32, data offset: u32`` for a file; from version 2 on, 8 bytes of date follow.

    Raises:
        DataError: not such an archive, or one that is cut short.

    Source: the format that Qt's ``rcc`` writes, https://doc.qt.io/qt-6/resources.html.
    """
    content = path.read_bytes()
    if content[:4] != _MAGIC:
        raise DataError(f"{path}: no Qt resource archive: it begins with {content[:4]!r}, wanted {_MAGIC!r}")
    try:
        yield from _walk(content)
    except struct.error as error:
        raise DataError(f"{path}: a damaged Qt resource archive ({error})") from error


def _walk(content: bytes) -> Iterator[tuple[str, bytes]]:
    version, tree, data, names = struct.unpack_from(">IIII", content, 4)
    node_size = 14 if version < 2 else 22
    pending = [(0, "")]
    while pending:
        node, parent = pending.pop()
        at = tree + node * node_size
        name_at, flags = struct.unpack_from(">IH", content, at)
        path = f"{parent}/{_name(content, names + name_at)}" if node else ""
        if flags & _FOLDER:
            count, first = struct.unpack_from(">II", content, at + 6)
            pending.extend((first + child, path) for child in range(count))
        elif not flags & _COMPRESSED:
            (data_at,) = struct.unpack_from(">I", content, at + 10)
            (size,) = struct.unpack_from(">I", content, data + data_at)
            start = data + data_at + 4
            yield path, content[start : start + size]


def _name(content: bytes, at: int) -> str:
    (length,) = struct.unpack_from(">H", content, at)
    return content[at + 6 : at + 6 + 2 * length].decode("utf-16-be")

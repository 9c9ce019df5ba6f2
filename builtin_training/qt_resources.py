"""Read Qt resource archives (``.rcc``), in which ``gcompris-qt-data`` stores its photographs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from attnviz.errors import DataError

_MAGIC = b"qres"
_COMPRESSED, _FOLDER = 1, 2  # flags of a node; photographs are stored uncompressed


def read_rcc(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the path inside the archive and the content of each uncompressed file.

    The archive holds a tree of nodes, a table of names and a block of data; all numbers are big-endian. A node is
    ``name offset: u32, flags: u16``, followed by ``count: u32, first child: u32`` for a folder or by
    ``language: u32, data offset: u32`` for a file; from version 2 on, 8 bytes of date follow.

    Raises:
        DataError: not a Qt resource archive, or a truncated one.

    Source: the format that Qt's ``rcc`` writes, https://doc.qt.io/qt-6/resources.html.
    """
    content = path.read_bytes()
    if content[:4] != _MAGIC:
        raise DataError(f"{path}: not a Qt resource archive: it begins with {content[:4]!r}, wanted {_MAGIC!r}")
    try:
        yield from _walk(content)
    except struct.error as error:
        raise DataError(f"{path}: damaged Qt resource archive ({error})") from error


def _walk(content: bytes) -> Iterator[tuple[str, bytes]]:
    version, tree, data, names = struct.unpack_from(">IIII", content, 4)
    node_size = 14 if version < 2 else 22
    pending = [(0, "")]
    while pending:
        node, parent = pending.pop()
        offset = tree + node * node_size
        name_offset, flags = struct.unpack_from(">IH", content, offset)
        path = f"{parent}/{_name(content, names + name_offset)}" if node else ""
        if flags & _FOLDER:
            count, first = struct.unpack_from(">II", content, offset + 6)
            pending.extend((first + child, path) for child in range(count))
        elif not flags & _COMPRESSED:
            (data_offset,) = struct.unpack_from(">I", content, offset + 10)
            (size,) = struct.unpack_from(">I", content, data + data_offset)
            start = data + data_offset + 4
            yield path, content[start : start + size]


def _name(content: bytes, offset: int) -> str:
    (length,) = struct.unpack_from(">H", content, offset)
    return content[offset + 6 : offset + 6 + 2 * length].decode("utf-16-be")

"""Which images: folders by class, lists of files, and tables with labels, boxes and masks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from attnviz.batch.csv_listing import beside, read_csv
from attnviz.batch.item import Box, Item
from attnviz.batch.remote_files import is_url, resolve
from attnviz.errors import DataError, ImageError, OutputError

__all__ = ["ENDINGS", "Box", "Item", "Listing", "list_images"]

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""Files of a folder that are taken for images."""

LISTS = frozenset({".txt", ".lst", ".list"})
TABLES = frozenset({".csv"})


@dataclass(frozen=True, slots=True)
class Listing:
    """The images of a run, in their order.

    Attributes:
        items: Numbered from 0.
        notes: What the reader must know: files that were given twice, columns that are not used.
    """

    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """A hash of all that is known of the images before they are read."""
        state = hashlib.sha256()
        for item in self.items:
            state.update(repr(tuple(asdict(item).items())).encode("utf-8", "surrogateescape"))
        return state.hexdigest()


def list_images(given: Sequence[str], limit: int | None = None) -> Listing:
    """All images that are named by folders, lists, tables and files, each once.

    Args:
        given: Any of: a folder, local or behind a URL, in which every image is found, however deep, its label the name
            of the folder right below the one given; a list of files (``.txt``), one on each line; a table (``.csv``)
            with a column ``path`` and any of ``label``, ``x0,y0,x1,y1``, ``boxes``, ``mask``; an image. Paths in
            lists and tables are relative to the folder of the list.
        limit: At most so many, evenly spread over the listing, so that no class of a sorted tree is favoured.

    Returns:
        The items in a fixed order: as given, folders by name, lists by line.

    Raises:
        DataError: a list or table with a mistake, told with its line; or one that is nowhere.
        ImageError: a path is not there, or a folder holds no image.
    """
    found: dict[str, Item] = {}
    notes: list[str] = []
    twice = 0
    for one in given:
        items, more = _items(str(one))
        notes += more
        for item in items:
            if item.path in found:
                twice += 1
                found[item.path] = _joined(found[item.path], item)
            else:
                found[item.path] = item
    if not found:
        raise ImageError("there is no image to look at")
    if twice:
        notes.append(f"{twice} path{'s were' if twice > 1 else ' was'} given more than once: each is looked at once.")
    chosen = list(found.values())
    if limit is not None and limit < len(chosen):
        notes.append(f"{limit} of {len(chosen)} images are looked at, evenly spread over the listing.")
        chosen = [chosen[int((i + 0.5) * len(chosen) / limit)] for i in range(limit)]
    return Listing(tuple(replace(item, number=n) for n, item in enumerate(chosen)), tuple(notes))


def _joined(one: Item, other: Item) -> Item:
    if None not in {one.label, other.label} and one.label != other.label:
        raise DataError(f"{one.path}: is given with two labels, {one.label!r} and {other.label!r}")
    return replace(
        one,
        label=one.label if one.label is not None else other.label,
        boxes=tuple(dict.fromkeys((*one.boxes, *other.boxes))),
        mask=one.mask if one.mask is not None else other.mask,
    )


def _items(given: str) -> tuple[Iterable[Item], Sequence[str]]:
    ending = os.path.splitext(given)[1].lower()  # noqa: PTH122  # of URLs too
    if is_url(given):
        if ending in LISTS | TABLES:
            raise DataError(f"{given}: a list of files is read from a local file; its lines may be URLs")
        return _of_url(given), ()
    path = Path(given)
    if path.is_dir():
        return _of_folder(path), ()
    if not path.exists():
        raise ImageError(f"{given}: no such file or folder")
    if ending in LISTS:
        return _checked(given, _of_list(path)), ()
    if ending in TABLES:
        items, notes = read_csv(path)
        return _checked(given, items), notes
    return [Item(0, given)], ()


def _of_folder(root: Path) -> list[Item]:
    inside = sorted(_walk(root), key=lambda path: path.relative_to(root).parts)
    if not inside:
        raise ImageError(f"{root}: no image in this folder (wanted {', '.join(sorted(ENDINGS))})")
    return [Item(0, str(path), label=_class_of(path.relative_to(root).parts)) for path in inside]


def _class_of(parts: Sequence[str]) -> str | None:
    return parts[0] if len(parts) > 1 else None


def _walk(root: Path) -> Iterator[Path]:
    """Images in a folder and in those below it; links to folders are followed, but not in circles."""
    seen: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in files:
            path = Path(folder, name)
            if path.suffix.lower() in ENDINGS and not name.startswith(".") and path.is_file():
                yield path


def _of_url(given: str) -> list[Item]:
    from pyarrow import fs

    try:
        system, inside = resolve(given)
        start = system.get_file_info(inside)
        if start.type == fs.FileType.File:
            return [Item(0, given)]
        found = system.get_file_info(fs.FileSelector(inside, recursive=True, allow_not_found=True))
    except (OSError, OutputError) as error:
        raise ImageError(f"{given}: cannot be looked into: {' '.join(str(error).split())}") from error
    top = inside.strip("/") + "/"  # some systems begin their paths with a slash
    paths = [one.path.lstrip("/") for one in found if one.type == fs.FileType.File]
    names = [path.removeprefix(top) for path in paths if path.startswith(top)]
    names = [name for name in names if os.path.splitext(name)[1].lower() in ENDINGS]  # noqa: PTH122
    if not names:
        raise ImageError(f"{given}: no image in this folder (wanted {', '.join(sorted(ENDINGS))})")
    pieces = sorted(tuple(name.split("/")) for name in names)
    return [Item(0, f"{given.rstrip('/')}/{'/'.join(parts)}", label=_class_of(parts)) for parts in pieces]


def _of_list(path: Path) -> list[Item]:
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    named = [line.rstrip("\r") for line in lines]
    items = [Item(0, beside(path, line)) for line in named if line.strip()]
    if not items:
        raise DataError(f"{path}: names no image; wanted one path on each line")
    return items


def _checked(given: str, items: Sequence[Item]) -> Sequence[Item]:
    """Refuse a list of which no file is there: it is then the list that is wrong, and not its images."""
    local = [item.path for item in items if not is_url(item.path)]
    if local and len(local) == len(items) and not any(Path(path).exists() for path in local):
        raise DataError(
            f"{given}: none of its {len(items)} files is there, not {local[0]}; paths are relative to the folder of "
            "the list"
        )
    return items

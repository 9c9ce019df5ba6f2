"""Lists of images: from folders by class, lists of files, and tables with labels, boxes and masks."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from attnviz.errors import DataError, ImageError
from attnviz.media.csv_listing import read_csv, resolve_path
from attnviz.media.image_item import Box, Item
from attnviz.media.remote_files import is_url, list_files

__all__ = ["IMAGE_ENDINGS", "Box", "Item", "Listing", "list_images"]

IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".npy"})
"""File names in a folder that are images."""

LISTS = frozenset({".txt", ".lst", ".list"})
TABLES = frozenset({".csv"})


@dataclass(frozen=True, slots=True)
class Listing:
    """The images of a run, in their order.

    Attributes:
        items: Numbered from 0.
        notes: Files that were given twice, columns that are not used.
    """

    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Hash of everything that is known about the images before they are read."""
        state = hashlib.sha256()
        for item in self.items:
            state.update(repr(tuple(asdict(item).items())).encode("utf-8", "surrogateescape"))
        return state.hexdigest()


def list_images(given: Sequence[str], limit: int | None = None) -> Listing:
    """All images in folders, lists, tables and files, each once.

    Args:
        given: Any of: a folder, local or behind a URL, which is searched recursively, with the name of its subfolder as
            the label of an image; a list of files (``.txt``), one per line; a table (``.csv``) with a column ``path``
            and any of ``label``, ``x0,y0,x1,y1``, ``boxes``, ``mask``; an image. Paths in lists and tables are
            relative to the folder of the list.
        limit: Largest number of images, evenly spread over the listing, so that no class is favoured.

    Returns:
        The items in a fixed order: as given, folders by name, lists by line.

    Raises:
        DataError: a list or table with a mistake, with its line; or one of which no file exists.
        ImageError: a path does not exist, or a folder holds no image.
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
        raise ImageError("no image was given")
    if twice:
        notes.append(f"{twice} path{'s were' if twice > 1 else ' was'} given more than once; each is used once.")
    chosen = list(found.values())
    if limit is not None and limit < len(chosen):
        notes.append(f"{limit} of {len(chosen)} images are used, evenly spread over the listing.")
        chosen = [chosen[int((i + 0.5) * len(chosen) / limit)] for i in range(limit)]
    return Listing(tuple(replace(item, number=n) for n, item in enumerate(chosen)), tuple(notes))


def _joined(one: Item, other: Item) -> Item:
    if None not in {one.label, other.label} and one.label != other.label:
        raise DataError(f"{one.path}: has two labels, {one.label!r} and {other.label!r}")
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
            raise DataError(f"{given}: a list of files must be local; its lines can be URLs")
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
        raise ImageError(f"{root}: no image in this folder (wanted {', '.join(sorted(IMAGE_ENDINGS))})")
    return [Item(0, str(path), label=_class_of(path.relative_to(root).parts)) for path in inside]


def _class_of(parts: Sequence[str]) -> str | None:
    return parts[0] if len(parts) > 1 else None


def _walk(root: Path) -> Iterator[Path]:
    """Images in a folder, recursively; links to folders are followed, without cycles."""
    visited: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            below.clear()
            continue
        visited.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in files:
            path = Path(folder, name)
            if path.suffix.lower() in IMAGE_ENDINGS and not name.startswith(".") and path.is_file():
                yield path


def _of_url(given: str) -> list[Item]:
    files = list_files(given)
    if files is None:
        return [Item(0, given)]
    names = [name for name in files if os.path.splitext(name)[1].lower() in IMAGE_ENDINGS]  # noqa: PTH122
    if not names:
        raise ImageError(f"{given}: no image in this folder (wanted {', '.join(sorted(IMAGE_ENDINGS))})")
    pieces = sorted(tuple(name.split("/")) for name in names)
    return [Item(0, f"{given.rstrip('/')}/{'/'.join(parts)}", label=_class_of(parts)) for parts in pieces]


def _of_list(path: Path) -> list[Item]:
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    named = [line.rstrip("\r") for line in lines]
    items = [Item(0, resolve_path(path, line)) for line in named if line.strip()]
    if not items:
        raise DataError(f"{path}: names no image; wanted one path per line")
    return items


def _checked(given: str, items: Sequence[Item]) -> Sequence[Item]:
    """The items; a list of which no file exists is an error, since then the list is wrong and not its images."""
    local = [item.path for item in items if not is_url(item.path)]
    if local and len(local) == len(items) and not any(Path(path).exists() for path in local):
        raise DataError(
            f"{given}: none of its {len(items)} files exists, such as {local[0]}; paths are relative to the folder of "
            "the list"
        )
    return items

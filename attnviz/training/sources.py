"""Load the images that scenes are composed of: cut-out objects and photographs."""

import gzip
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from attnviz.errors import DataError

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
ImageFile = tuple[str, Callable[[], bytes]]
"""The name of an image, and the function that reads its file."""

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
_MIN_OBJECT_PX, _MIN_PHOTOGRAPH_PX, _STORED_SIDE_PX = 96, 160, 384
_HELD_OUT_SHARE = 0.2
_MIN_COUNT = 5


@dataclass(frozen=True, slots=True)
class Source:
    """An image that scenes are composed of.

    Attributes:
        name: Path below the parent of the searched folder; the same on every machine.
        group: Images of the same subject share a group. A group is never split between training and evaluation.
        pixels: ``(H, W, 4)`` uint8 RGBA of an object, cropped to its opaque part; ``(H, W, 3)`` RGB of a photograph.
    """

    name: str
    group: str
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Sources:
    """Objects, photographs, and patches: parts of photographs that are used as further objects."""

    objects: tuple[Source, ...]
    photographs: tuple[Source, ...]
    patches: tuple[Source, ...] = ()


def find_sources(objects: Path, photographs: Path) -> Sources:
    """Load the objects, images with transparency, and the photographs below two folders.

    Raises:
        DataError: fewer than 5 usable objects or photographs.
    """
    things = load_objects(image_files(objects), f"in {objects}")  # first, since photographs take longer
    return Sources(things, load_photographs(image_files(photographs), f"in {photographs}"))


def load_objects(files: Iterable[ImageFile], where: str) -> tuple[Source, ...]:
    """Decode the usable objects among image files; the error message says ``where`` they were searched.

    Raises:
        DataError: fewer than 5 usable objects.
    """
    return _enough(filter(None, map(_object, files)), "objects", where)


def load_photographs(files: Iterable[ImageFile], where: str) -> tuple[Source, ...]:
    """Decode the usable photographs among image files; arguments and errors as in :func:`load_objects`."""
    return _enough(filter(None, map(_photograph, files)), "photographs", where)


def _enough(images: Iterable[Source], what: str, where: str) -> tuple[Source, ...]:
    found = tuple(images)
    if len(found) < _MIN_COUNT:
        raise DataError(f"scenes need at least {_MIN_COUNT} {what}, found {len(found)} {where}")
    return found


def split(sources: Sources, seed: int, *, held_out: bool) -> Sources:
    """Return the training part or the held-out part: a fifth of the groups, chosen by a hash of group and seed.

    Raises:
        DataError: a part would be empty.
    """

    def choose(images: Iterable[Source]) -> tuple[Source, ...]:
        return tuple(image for image in images if is_held_out(image.group, seed) == held_out)

    chosen = Sources(choose(sources.objects), choose(sources.photographs))
    if not chosen.objects or not chosen.photographs:
        raise DataError(
            f"{len(sources.objects)} objects and {len(sources.photographs)} photographs are too few to hold some out: "
            "add more"
        )
    return chosen


def is_held_out(group: str, seed: int) -> bool:
    """Return whether a group is held out; independent of the machine and of the other groups."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < _HELD_OUT_SHARE


def image_files(folder: Path) -> Iterator[ImageFile]:
    """List the JPEG, PNG and WebP files below a folder, sorted by path; gzipped ones are decompressed when read."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder.parent).as_posix()
        if path.suffix.lower() in _SUFFIXES and path.is_file():
            yield name, path.read_bytes
        elif path.suffix == ".gz" and Path(path.stem).suffix.lower() in _SUFFIXES:
            yield name.removesuffix(".gz"), lambda path=path: gzip.decompress(path.read_bytes())  # type: ignore[misc]


def subject_group(name: str) -> str:
    """Return the name without the part that distinguishes views of one subject: number, side, size or theme.

    >>> subject_group("data/left07.jpg"), subject_group("data/left11.jpg")
    ('data/left', 'data/left')
    >>> subject_group("wallpapers/Kay/contents/images/5120x2880.png")
    'wallpapers/Kay'
    """
    folder, _, leaf = name.rpartition("/")
    if "/contents/" in name:
        return name.split("/contents/", maxsplit=1)[0]
    stem = leaf.rpartition(".")[0]
    common = re.sub(r"([_-]?(left|right|front|side|back|[0-9x]+|[ABLR]))+$", "", stem)
    return f"{folder}/{common or stem.rstrip('0123456789') or stem}"


def _open(content: bytes) -> Image.Image | None:
    """Decode an image, a JPEG at a reduced size; ``None`` if it cannot be decoded."""
    try:
        image = Image.open(io.BytesIO(content))
        image.draft("RGB", (2 * _STORED_SIDE_PX, 2 * _STORED_SIDE_PX))
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return image


def _object(file: ImageFile) -> Source | None:
    name, read = file
    image = _open(read())
    if image is None or not image.has_transparency_data:
        return None
    image = image.convert("RGBA")
    box = image.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox()
    if box is None or max(box[2] - box[0], box[3] - box[1]) < _MIN_OBJECT_PX:
        return None
    cut = image.crop(box)
    cut.thumbnail((_STORED_SIDE_PX, _STORED_SIDE_PX), Image.Resampling.BICUBIC)
    pixels = np.asarray(cut)
    opaque = float((pixels[..., 3] > 127).mean())
    return Source(name, subject_group(name), pixels) if 0.1 < opaque < 0.97 else None


def _photograph(file: ImageFile) -> Source | None:
    name, read = file
    image = _open(read())
    if image is None or image.has_transparency_data or image.mode not in {"RGB", "YCbCr"}:
        return None
    short = min(image.size)
    if short < _MIN_PHOTOGRAPH_PX or max(image.size) > 3 * short:
        return None
    image = image.convert("RGB")
    if short > _STORED_SIDE_PX:
        size = tuple(round(side * _STORED_SIDE_PX / short) for side in image.size)
        image = image.resize((size[0], size[1]), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return Source(name, subject_group(name), np.asarray(image))

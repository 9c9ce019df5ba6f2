"""Find what scenes are made of on this machine: objects that are cut out, and photographs to put them into."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from attnviz.errors import DataError
from attnviz.training.qt_resources import read_rcc

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Opener = Callable[[], bytes]

STAMPS = Path("/usr/share/tuxpaint/stamps")
PACKAGES = (
    "tuxpaint-stamps-default opencv-doc gcompris-qt-data gnome-backgrounds mate-backgrounds "
    "plasma-workspace-wallpapers lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 ukui-wallpapers"
)
_PHOTOGRAPH_FOLDERS = (
    Path("/usr/share/doc/opencv-doc/examples/data"),
    Path("/usr/share/backgrounds"),
    Path("/usr/share/wallpapers"),
)
_RCC_FOLDER = Path("/usr/share/gcompris-qt/rcc")
_PYTHON_PACKAGES = (("skimage", "data"), ("sklearn", "datasets/images"))
_ENDINGS = {".jpg", ".jpeg", ".png", ".webp"}

# Drawings, not photographs; and pictures that serve elsewhere as examples, so that no model was trained on them.
_DRAWN = re.compile(
    r"cartoon|symbols/|flags|roadsigns|screenshot|logo|chess|abstract|sway|digits|phantom|/page|text|notes|mask|paintings/|gogh"
    r"|bosschaert|unicorn|braille|babyshapes/resource/image|Blender|sudoku|stuff|gradient|Wallpaper|Colors|Stripes|Traditional",
    re.IGNORECASE,
)
_SHOWN = re.compile(r"chelsea|coffee|rocket|astronaut")
_SMALLEST_OBJECT_PX, _SMALLEST_PHOTOGRAPH_PX, _KEPT_SIDE_PX = 96, 160, 384
_HELD_OUT_SHARE = 0.2
_SMALLEST_NUMBER = 5


@dataclass(frozen=True, slots=True)
class Source:
    """One picture.

    Attributes:
        name: Where it came from, the same on every machine.
        group: Pictures of the same thing share a group, and a group is never split.
        pixels: ``(H, W, 4)`` uint8 RGBA of an object, cropped to what is opaque; ``(H, W, 3)`` RGB of a photograph.
    """

    name: str
    group: str
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Sources:
    """Objects and photographs, to train on or held out; and patches, parts of photographs that serve as objects too."""

    objects: tuple[Source, ...]
    photographs: tuple[Source, ...]
    patches: tuple[Source, ...] = ()


def find_sources(objects: Path | None = None, photographs: Path | None = None) -> Sources:
    """All objects and photographs of the named folders, or of the packages that are installed.

    Args:
        objects: Folder of pictures with transparency, searched to its leaves; by default Tux Paint's stamps.
        photographs: Folder of photographs; by default those of Debian packages, scikit-image and scikit-learn.

    Raises:
        DataError: too few of either, with what to install.
    """
    cut_outs = _files(objects) if objects else _photographic(_files(STAMPS))
    things = tuple(filter(None, map(_object, cut_outs)))
    _require(things, "objects", objects)  # before the photographs, which take longer
    scenery = _files(photographs) if photographs else _photographic(_installed_photographs())
    backgrounds = tuple(filter(None, map(_photograph, scenery)))
    _require(backgrounds, "photographs", photographs)
    return Sources(things, backgrounds)


def _require(found: tuple[Source, ...], what: str, folder: Path | None) -> None:
    if len(found) < _SMALLEST_NUMBER:
        where = f"in {folder}" if folder else f"on this machine: apt-get install {PACKAGES}"
        raise DataError(f"scenes need at least {_SMALLEST_NUMBER} {what}, found {len(found)} {where}")


def split(sources: Sources, seed: int, *, held_out: bool) -> Sources:
    """The objects and photographs to train on, or those held out: a fifth, chosen by a hash of each group and the seed.

    Raises:
        DataError: a side of the split would be empty.
    """

    def choose(pictures: Iterable[Source]) -> tuple[Source, ...]:
        return tuple(p for p in pictures if is_held_out(p.group, seed) == held_out)

    chosen = Sources(choose(sources.objects), choose(sources.photographs))
    if not chosen.objects or not chosen.photographs:
        raise DataError(
            f"{len(sources.objects)} objects and {len(sources.photographs)} photographs are too few to hold some out: "
            "add more"
        )
    return chosen


def is_held_out(group: str, seed: int) -> bool:
    """Whether a group is held out: the same on every machine, whatever else is installed there."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < _HELD_OUT_SHARE


def _files(folder: Path) -> Iterator[tuple[str, Opener]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder.parent).as_posix()
        if path.suffix.lower() in _ENDINGS and path.is_file():
            yield name, path.read_bytes
        elif path.suffix == ".gz" and Path(path.stem).suffix.lower() in _ENDINGS:
            yield name.removesuffix(".gz"), lambda path=path: gzip.decompress(path.read_bytes())  # type: ignore[misc]


def _installed_photographs() -> Iterator[tuple[str, Opener]]:
    for folder in _PHOTOGRAPH_FOLDERS:
        themes = set()  # a wallpaper comes in many sizes: the first will do
        for name, read in _files(folder):
            theme = _group(name) if "/contents/images/" in name else name
            if theme not in themes and "/images_dark/" not in name:
                themes.add(theme)
                yield name, read
    for package, inside in _PYTHON_PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            yield from _files(Path(spec.origin).parent / inside)
    for archive in sorted(_RCC_FOLDER.glob("*.rcc")):
        for name, content in sorted(read_rcc(archive)):
            if Path(name).suffix in _ENDINGS:
                yield name, lambda content=content: content  # type: ignore[misc]


def _photographic(files: Iterable[tuple[str, Opener]]) -> Iterator[tuple[str, Opener]]:
    """Without drawings, and without the pictures that serve as examples elsewhere."""
    return (file for file in files if not _DRAWN.search(file[0]) and not _SHOWN.search(file[0]))


def _group(name: str) -> str:
    """The name without what tells views of one thing apart: a number, a side, a size or a theme.

    >>> _group("data/left07.jpg"), _group("data/left11.jpg")
    ('data/left', 'data/left')
    >>> _group("wallpapers/Kay/contents/images/5120x2880.png")
    'wallpapers/Kay'
    """
    folder, _, leaf = name.rpartition("/")
    if "/contents/" in name:
        return name.split("/contents/", maxsplit=1)[0]
    stem = leaf.rpartition(".")[0]
    alike = re.sub(r"([_-]?(left|right|front|side|back|[0-9x]+|[ABLR]))+$", "", stem)
    return f"{folder}/{alike or stem.rstrip('0123456789') or stem}"


def _open(content: bytes) -> Image.Image | None:
    try:
        image = Image.open(io.BytesIO(content))
        image.draft("RGB", (2 * _KEPT_SIDE_PX, 2 * _KEPT_SIDE_PX))
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # a picture that cannot be read is none
    return image


def _object(file: tuple[str, Opener]) -> Source | None:
    name, read = file
    image = _open(read())
    if image is None or not image.has_transparency_data:
        return None
    image = image.convert("RGBA")
    box = image.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox()
    if box is None or max(box[2] - box[0], box[3] - box[1]) < _SMALLEST_OBJECT_PX:
        return None
    cut = image.crop(box)
    cut.thumbnail((_KEPT_SIDE_PX, _KEPT_SIDE_PX), Image.Resampling.BICUBIC)
    pixels = np.asarray(cut)
    opaque = float((pixels[..., 3] > 127).mean())
    return Source(name, _group(name), pixels) if 0.1 < opaque < 0.97 else None


def _photograph(file: tuple[str, Opener]) -> Source | None:
    name, read = file
    image = _open(read())
    if image is None or image.has_transparency_data or image.mode not in {"RGB", "YCbCr"}:
        return None
    short = min(image.size)
    if short < _SMALLEST_PHOTOGRAPH_PX or max(image.size) > 3 * short:
        return None
    image = image.convert("RGB")
    if short > _KEPT_SIDE_PX:
        size = tuple(round(side * _KEPT_SIDE_PX / short) for side in image.size)
        image = image.resize((size[0], size[1]), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return Source(name, _group(name), np.asarray(image))

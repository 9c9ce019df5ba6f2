"""Find the objects and photographs that the built-in models are trained on, in installed Debian and Python packages."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from attnviz.training.sources import ImageFile, Sources, image_files, load_objects, load_photographs, subject_group
from builtin_training.qt_resources import read_rcc

OBJECTS_HELP = "Folder of cut-outs with transparency, instead of Tux Paint's stamps."
BACKGROUNDS_HELP = "Folder of photographs, instead of those of the packages."
PACKAGES = (
    "tuxpaint-stamps-default opencv-doc gcompris-qt-data gnome-backgrounds mate-backgrounds "
    "plasma-workspace-wallpapers lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 ukui-wallpapers"
)
_RCC_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True, slots=True)
class Places:
    """Where the installed packages store their images.

    Attributes:
        stamps: Folder of Tux Paint's stamps.
        photographs: Folders of photographs and wallpapers.
        python_packages: Packages that contain photographs, with the folder inside.
        archives: Folder of Qt resource archives.
    """

    stamps: Path = Path("/usr/share/tuxpaint/stamps")
    photographs: tuple[Path, ...] = (
        Path("/usr/share/doc/opencv-doc/examples/data"), Path("/usr/share/backgrounds"), Path("/usr/share/wallpapers"),
    )  # fmt: skip
    python_packages: tuple[tuple[str, str], ...] = (("skimage", "data"), ("sklearn", "datasets/images"))
    archives: Path = Path("/usr/share/gcompris-qt/rcc")


INSTALLED = Places()

# Drawings, which are not photographs.
_DRAWINGS = re.compile(
    r"cartoon|symbols/|flags|roadsigns|screenshot|logo|chess|abstract|sway|digits|phantom|/page|text|notes|mask|paintings/|gogh"
    r"|bosschaert|unicorn|braille|babyshapes/resource/image|Blender|sudoku|stuff|gradient|Wallpaper|Colors|Stripes|Traditional",
    re.IGNORECASE,
)
# Images that the documentation and the tests use as examples: no model is trained on them.
_EXAMPLES = re.compile(r"chelsea|coffee|rocket|astronaut")


def find_sources(objects: Path | None = None, photographs: Path | None = None, places: Places = INSTALLED) -> Sources:
    """Load the objects and photographs of the installed packages, or of given folders.

    Args:
        objects: Folder of images with transparency, searched recursively; Tux Paint's stamps by default.
        photographs: Folder of photographs, searched recursively; by default the photographs of Debian packages,
            scikit-image and scikit-learn.
        places: Where the packages are installed.

    Raises:
        DataError: fewer than 5 usable objects or photographs; the message names the packages to install.
    """
    object_files = image_files(objects) if objects else _photographic(image_files(places.stamps))
    things = load_objects(object_files, _where(objects))  # first, since photographs take longer
    photograph_files = image_files(photographs) if photographs else _photographic(_installed_photographs(places))
    return Sources(things, load_photographs(photograph_files, _where(photographs)))


def _where(folder: Path | None) -> str:
    return f"in {folder}" if folder else f"on this machine: apt-get install {PACKAGES}"


def _installed_photographs(places: Places) -> Iterator[ImageFile]:
    for folder in places.photographs:
        yield from _one_per_theme(folder)
    for package, inside in places.python_packages:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            yield from image_files(Path(spec.origin).parent / inside)
    for archive in sorted(places.archives.glob("*.rcc")):
        for name, content in sorted(read_rcc(archive)):
            if Path(name).suffix in _RCC_SUFFIXES:
                yield name, lambda content=content: content  # type: ignore[misc]


def _one_per_theme(folder: Path) -> Iterator[ImageFile]:
    """The images of a folder; of a wallpaper theme, which holds one image in many sizes, only the first."""
    themes = set()
    for name, read in image_files(folder):
        theme = subject_group(name) if "/contents/images/" in name else name
        if theme not in themes and "/images_dark/" not in name:
            themes.add(theme)
            yield name, read


def _photographic(files: Iterable[ImageFile]) -> Iterator[ImageFile]:
    return (file for file in files if not _DRAWINGS.search(file[0]) and not _EXAMPLES.search(file[0]))

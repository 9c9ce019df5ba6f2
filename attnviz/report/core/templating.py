"""What every page is made of: its template's environment, and figures that stand inside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from attnviz.core.comparison_results import words
from attnviz.media.atomic_files import write_files
from attnviz.report.core.colours import data_uri
from attnviz.report.core.formatting import number, visible

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure


class Drawn(NamedTuple):
    """A figure with its words.

    Attributes:
        name: Of its file, without ending.
        title: What it shows.
        reading: How to read it, and what it does not show.
        figure: Matplotlib's.
    """

    name: str
    title: str
    reading: str
    figure: Figure


def template(name: str) -> Template:
    """A template of a page: everything is escaped, and a name that is not there is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("attnviz.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = number
    environment.filters["words"] = words
    environment.filters["breaks"] = breaks
    environment.filters["visible"] = visible
    return environment.get_template(name)


def breaks(path: str) -> Markup:
    """A dotted path that may be broken after each dot.

    >>> breaks("blocks.5")
    Markup('blocks.<wbr>5')
    """
    return Markup(".<wbr>").join(path.split("."))


def settings_rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How it was made, as pairs of words."""
    return [(key.replace("_", " "), str(value)) for key, value in settings.items()]


def embedded(figures: Iterable[tuple[Drawn, Path]]) -> list[tuple[Drawn, str]]:
    """Each figure with its picture as an address that needs no network."""
    return [(drawn, data_uri(path.read_bytes(), "image/png")) for drawn, path in figures]


class Found(NamedTuple):
    """What a study found, as a folder will hold it.

    Attributes:
        what: In a word, for messages: ``"study"``.
        names: What each format is called: ``"html"`` a page, ``"png"`` a folder of figures, ``"json"`` a file.
        data: For machines.
    """

    what: str
    names: Mapping[str, str]
    data: Mapping[str, Any]


def write_found(
    found: Found,
    figures: Iterator[Drawn],
    page: Callable[[Sequence[tuple[Drawn, Path]]], str],
    folder: Path,
    formats: Sequence[str],
    *,
    overwrite: bool,
) -> list[Path]:
    """Write page, figures and file, all or none.

    Args:
        found: What goes into the file, and what the files are called.
        figures: Drawn when they are wanted, one at a time.
        page: From figures with their PNG files to the page's text.
        folder: Made where it does not exist.
        formats: ``"html"``, ``"png"``, ``"json"``.
        overwrite: Whether earlier files may be replaced.

    Returns:
        The files, in the order of ``formats``.

    Raises:
        OutputError: see :func:`~attnviz.media.atomic_files.write_files`.
    """

    def fill(partial: Path) -> None:
        if "json" in formats:
            text = json.dumps(found.data, ensure_ascii=False, allow_nan=False, indent=1)
            (partial / found.names["json"]).write_text(text + "\n", encoding="utf-8")
        if not {"html", "png"} & set(formats):
            return
        (partial / found.names["png"]).mkdir()
        drawn: list[tuple[Drawn, Path]] = []
        for one in figures:
            path = partial / found.names["png"] / f"{one.name}.png"
            one.figure.savefig(path, bbox_inches="tight")
            drawn.append((one, path))
        if "html" in formats:
            (partial / found.names["html"]).write_text(page(drawn), encoding="utf-8")
        if "png" not in formats:
            shutil.rmtree(partial / found.names["png"])

    names = [found.names[name] for name in formats]
    return write_files(folder, names, fill, found.what, overwrite=overwrite)

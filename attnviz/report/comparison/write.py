"""Write a comparison's folder: all of its files or none of them."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from attnviz.comparison import Comparison
from attnviz.errors import OutputError
from attnviz.report.comparison.figures import Drawn, draw
from attnviz.report.numbers import number

FORMATS = {"html": "comparison.html", "png": "figures", "json": "comparison.json"}
"""What each format is called in the folder; ``figures`` holds one file per figure."""


def check(folder: Path, formats: Iterable[str], *, overwrite: bool) -> None:
    """Say before the work whether its result can be written.

    Raises:
        OutputError: the folder is a file, or holds a comparison already.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, wanted a folder for the comparison")
    there = [FORMATS[name] for name in formats if (folder / FORMATS[name]).exists()]
    if there and not overwrite:
        raise OutputError(f"{folder}: holds {', '.join(there)} already; --overwrite replaces it")


def write(found: Comparison, folder: Path, formats: Sequence[str], *, overwrite: bool = False) -> list[Path]:
    """Write the files, into a temporary folder first, so that an interruption leaves nothing half-written.

    Args:
        found: The comparison.
        folder: Made where it does not exist.
        formats: ``"html"``, ``"png"``, ``"json"``.
        overwrite: Whether an earlier comparison may be replaced.

    Returns:
        The files, in the order of ``formats``.

    Raises:
        OutputError: see :func:`check`, or the disk refused.
    """
    check(folder, formats, overwrite=overwrite)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".comparison.", dir=folder) as name:
            partial = Path(name)
            _render(found, partial, formats)
            for one in formats:
                _replace(partial / FORMATS[one], folder / FORMATS[one])
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return [folder / FORMATS[name] for name in formats]


def _render(found: Comparison, folder: Path, formats: Sequence[str]) -> None:
    if "json" in formats:
        text = json.dumps(found.as_dict(), ensure_ascii=False, allow_nan=False, indent=1)
        (folder / FORMATS["json"]).write_text(text + "\n", encoding="utf-8")
    if not {"html", "png"} & set(formats):
        return
    figures = folder / FORMATS["png"]
    figures.mkdir()
    drawn: list[tuple[Drawn, Path]] = []
    for one in draw(found):
        path = figures / f"{one.name}.png"
        one.figure.savefig(path, bbox_inches="tight")
        drawn.append((one, path))
    if "html" in formats:
        (folder / FORMATS["html"]).write_text(page(found, drawn), encoding="utf-8")


def page(found: Comparison, figures: Iterable[tuple[Drawn, Path]]) -> str:
    """``comparison.html``: one page that needs no network, with its figures inside."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("attnviz.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = number
    return environment.get_template("comparison.html.j2").render(
        found=found,
        figures=[(one, _uri(path)) for one, path in figures],
        names=[row.name for row in found.compared],
        settings=[(key.replace("_", " "), str(value)) for key, value in found.settings.items()],
    )


def _uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _replace(new: Path, old: Path) -> None:
    if old.is_dir():
        shutil.rmtree(old)
    new.replace(old)

"""The output folder of an explanation's report: its name and its files."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from attnviz.media.atomic_files import check_files, write_files
from attnviz.report import FILE_NAMES, render
from attnviz.report.core.document import Document


def folders_for(images: Sequence[str], out: str | Path | None) -> list[Path]:
    """Return the output folder of each image's report.

    The report of a single image goes to ``out``, those of several images to folders in ``out`` named after the images,
    numbered if names repeat. Without ``out``, folders are created in the current folder.

    >>> [str(folder) for folder in folders_for(["a/cat.jpg", "b/cat.png"], "r")]
    ['r/cat', 'r/cat-2']
    """
    if out is not None and len(images) == 1:
        return [Path(out)]
    taken: set[Path] = set()
    folders = []
    for image in images:
        base = Path(out or ".") / (Path(image).stem or "image")
        folder, number = base, 2
        while folder in taken:
            folder, number = base.with_name(f"{base.name}-{number}"), number + 1
        taken.add(folder)
        folders.append(folder)
    return folders


def check_folder(folder: Path, formats: Iterable[str], *, overwrite: bool) -> None:
    """Check that the report can be written, before the explanation is computed.

    Raises:
        OutputError: see :func:`~attnviz.media.atomic_files.check_files`.
    """
    check_files(folder, [FILE_NAMES[name] for name in formats], "report", overwrite=overwrite)


def write_folder(document: Document, folder: Path, formats: Sequence[str], *, overwrite: bool = False) -> list[Path]:
    """Write the report: all of its files, or none after an error; return them in the order of ``formats``.

    Other files in the folder are kept.

    Raises:
        OutputError: see :func:`~attnviz.media.atomic_files.write_files`.
    """

    def fill(partial: Path) -> None:
        for name in formats:
            render(document, name, partial / FILE_NAMES[name])

    return write_files(folder, [FILE_NAMES[name] for name in formats], fill, "report", overwrite=overwrite)

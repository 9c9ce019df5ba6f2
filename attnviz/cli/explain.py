"""``attnviz explain``: photographs in, reports out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attnviz.cli.options import CommaList, running
from attnviz.errors import OutputError

if TYPE_CHECKING:
    from attnviz.explaining.seeing import Source
    from attnviz.models import VisionModel
    from attnviz.records import Explanation
    from attnviz.report import Document

FORMATS = ("html", "png", "json", "gif")


@click.command(short_help="Explain photographs and clips.")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--model",
    "-m",
    default="cbam",
    show_default=True,
    help="A name that `attnviz models` lists, or timm:…, torchvision:…, hf:…, package.module:function.",
)
@click.option("--target", "-t", help="Class to explain, by index or name.  [default: the first answer]")
@click.option(
    "--methods",
    type=CommaList(),
    help="Attribution methods, with commas.  [default: those of gradcam, saliency, integrated_gradients and smoothgrad "
    "that apply to the model]",
)
@click.option(
    "--sites",
    type=CommaList(),
    default="*",
    show_default=True,
    help="Attention sites by name, module or kind: a shell pattern, or several with commas.",
)
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    help="Folder of the report; of several images, the folder of their folders.  [default: named after the image]",
)
@click.option(
    "--format",
    "formats",
    type=CommaList(FORMATS),
    default=",".join(FORMATS),
    show_default=True,
    help="Files to write, with commas; gif for clips alone.",
)
@click.option(
    "--frames",
    type=click.IntRange(1, 64),
    help="Frames of a clip, evenly spaced.  [default: as many as the model looks at together, or 8]",
)
@running
@click.option("--overwrite", is_flag=True, help="Replace an earlier report.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary for machines.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors alone.")
@click.option("--verbose", "-v", is_flag=True, help="Also print every pair of maps, settings and where the time went.")
def command(
    images: tuple[str, ...],
    model: str,
    target: str | None,
    methods: tuple[str, ...] | None,
    sites: tuple[str, ...],
    out: Path | None,
    formats: tuple[str, ...],
    frames: int | None,
    weights: str,
    device: str,
    seed: int,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Explain photographs and clips: where a model attends, beside CAM and saliency maps, with numbers and a report.

    \b
    attnviz explain cat.jpg --model cbam
    attnviz explain cat.mp4 --model temporal
    attnviz explain cat.jpg --target "Egyptian cat" --sites "spatial" --format html
    """  # noqa: D301  # \b is the character that keeps Click from re-wrapping
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
    from attnviz.report.folder import check_folder, folders_for

    folders = folders_for(images, out)
    for folder in folders:
        check_folder(folder, formats, overwrite=overwrite)
    first = _readable(images)
    _check_methods(methods or ())

    from attnviz.cli.loading import load

    vision: VisionModel | None = None
    summaries = []
    for number, (image, folder) in enumerate(zip(images, folders, strict=True)):
        clock = Clock()
        with progress(image, clock, shown=not quiet) as listener:
            from attnviz.explain import explain

            if vision is None:
                listener("load the model", 0, 1)
                vision = load(model, weights, device, seed)
            explanation = explain(
                first if number == 0 else image, vision, methods=methods, target=target, sites=",".join(sites),
                weights=weights, seed=seed, progress=listener, frames=frames,
            )  # fmt: skip
            explanation = replace(explanation, settings={"model": model, **explanation.settings})
            document, files = _write(explanation, folder, formats, overwrite=overwrite, listener=listener)
        clock.stop()
        if as_json:
            summaries.append(_summary(document, files))
        elif not quiet:
            from attnviz.cli.show import show

            show(document, files, clock.seconds, verbose=verbose)
    if as_json:
        click.echo(json.dumps(summaries[0] if len(summaries) == 1 else summaries, ensure_ascii=False, indent=2))


def _readable(images: Sequence[str]) -> Source:
    """The first picture or clip; all are decoded, so that a bad one is told before any work."""
    from attnviz.explaining.seeing import look

    for image in images[1:]:
        look(image)
    return look(images[0])


def _check_methods(methods: Sequence[str]) -> None:
    """An unknown name is told before a model is loaded."""
    if methods:
        from attnviz.attribution import METHODS

        for method in methods:
            METHODS[method]


def _write(
    explanation: Explanation, folder: Path, formats: Sequence[str], *, overwrite: bool, listener: Any
) -> tuple[Document, list[Path]]:
    from attnviz.report import describe
    from attnviz.report.folder import write_folder

    listener("write the report", 1, 1)
    document = describe(explanation)
    wanted = [name for name in formats if name != "gif" or document.clip]
    if not wanted:
        raise OutputError(
            f"{document.file_name}: a photograph has no frames to animate, wanted another format than gif"
        )
    return document, write_folder(document, folder, wanted, overwrite=overwrite)


def _summary(document: Document, files: Sequence[Path]) -> dict[str, Any]:
    from attnviz.report.archive import dump

    return {**dump(document, arrays=False), "files": [str(path) for path in files]}


class Clock:
    """Seconds of each step.

    Attributes:
        seconds: Step -> seconds.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._step, self._since = "start", time.perf_counter()

    def begin(self, step: str) -> None:
        """The next step begins, and the last one ends; behind a comma stands what a step has done so far."""
        step, now = step.partition(", ")[0], time.perf_counter()
        self.seconds[self._step] = self.seconds.get(self._step, 0.0) + now - self._since
        self._step, self._since = step, now

    def stop(self) -> None:
        """The last step ends."""
        self.begin("")


@contextmanager
def progress(image: str, clock: Clock, *, shown: bool) -> Iterator[Any]:
    """A progress display on the error stream, which hands out a listener for :func:`attnviz.explain.explain`."""
    if not shown:
        yield lambda step, _done, _total: clock.begin(step)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.fields[image]}", markup=False), BarColumn(24),
               TextColumn("{task.description}", markup=False), TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("start", total=None, image=Path(image).name)

        def listener(step: str, done: int, total: int) -> None:
            clock.begin(step)
            bar.update(task, description=step, completed=done, total=total if total > 1 else None)

        yield listener

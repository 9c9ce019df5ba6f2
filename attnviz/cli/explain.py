"""``attnviz explain``: photographs in, reports out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attnviz.cli.options import CommaList, running
from attnviz.errors import OutputError

if TYPE_CHECKING:
    from attnviz.core.explanation_results import Explanation
    from attnviz.explanation.model_inputs import Source
    from attnviz.models import VisionModel
    from attnviz.report import Document
from attnviz.cli.progress import Clock, progress

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
    from attnviz.report.explanation.folder import check_folder, folders_for

    folders = folders_for(images, out)
    for folder in folders:
        check_folder(folder, formats, overwrite=overwrite)
    first = _readable(images)
    _check_methods(methods or ())

    from attnviz.cli.model_loading import load

    vision: VisionModel | None = None
    summaries = []
    for number, (image, folder) in enumerate(zip(images, folders, strict=True)):
        clock = Clock()
        with progress(image, clock, shown=not quiet) as listener:
            from attnviz.explanation.explain import explain

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
            from attnviz.cli.explain_output import show

            show(document, files, clock.seconds, verbose=verbose)
    if as_json:
        click.echo(json.dumps(summaries[0] if len(summaries) == 1 else summaries, ensure_ascii=False, indent=2))


def _readable(images: Sequence[str]) -> Source:
    """The first picture or clip; all are decoded, so that a bad one is told before any work."""
    from attnviz.explanation.model_inputs import open_source

    for image in images[1:]:
        open_source(image)
    return open_source(images[0])


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
    from attnviz.report.explanation.folder import write_folder

    listener("write the report", 1, 1)
    document = describe(explanation)
    wanted = [name for name in formats if name != "gif" or document.clip]
    if not wanted:
        raise OutputError(
            f"{document.file_name}: a photograph has no frames to animate, wanted another format than gif"
        )
    return document, write_folder(document, folder, wanted, overwrite=overwrite)


def _summary(document: Document, files: Sequence[Path]) -> dict[str, Any]:
    from attnviz.report.explanation.json_file import dump

    return {**dump(document, arrays=False), "files": [str(path) for path in files]}

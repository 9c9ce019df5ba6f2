"""``attnviz explain``: explain images and clips, and write a report of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from attnviz.cli.options import MODEL_HELP, CommaList, Loading, list_given, option, printing, running
from attnviz.cli.progress import Progress, StepTimes, progress_bar
from attnviz.cli.registry_help import METHODS, RegistryCommand
from attnviz.cli.target_options import Asked, asking
from attnviz.errors import OutputError

if TYPE_CHECKING:
    from attnviz.explanation.model_inputs import Source
    from attnviz.explanation.prepared_model import PreparedModel
    from attnviz.explanation.result import Explanation
    from attnviz.report import Document

FORMATS = ("html", "png", "json", "gif")
ON_REQUEST = ("coco",)
_KEPT_VALUES = 1 << 28
"""Decoded images are kept up to this many bytes; the others are decoded again when their turn comes."""


@click.command(cls=RegistryCommand, registries=METHODS, short_help="Explain images and clips.")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@option("--model", "-m", default="cbam", help=MODEL_HELP)
@asking
@click.option(
    "--methods", type=CommaList(),
    help="Attribution methods, comma-separated.  [default: those of gradcam, saliency, integrated_gradients and "
    "smoothgrad that apply to the model]",
)  # fmt: skip
@option(
    "--sites", type=CommaList(), default="*",
    help="Attention sites by name, module or kind: shell patterns, comma-separated.",
)  # fmt: skip
@click.option(
    "--out", "-o", type=click.Path(path_type=Path),
    help="Output folder; for several images, the folder of their folders.  [default: named after the image]",
)  # fmt: skip
@option(
    "--format", "formats", type=CommaList((*FORMATS, *ON_REQUEST)), default=",".join(FORMATS),
    help="Files to write, comma-separated; gif for clips only; coco: the regions of the maps as COCO annotations.",
)  # fmt: skip
@click.option(
    "--frames", type=click.IntRange(1, 64),
    help="Number of evenly spaced frames of a clip.  [default: the number that the model processes together, or 8]",
)  # fmt: skip
@running
@printing("report")
@click.option(
    "--verbose", "-v", is_flag=True, help="Also print every pair of maps, the settings and the time per step."
)
def command(
    images: tuple[str, ...],
    model: str,
    methods: tuple[str, ...] | None,
    sites: tuple[str, ...],
    out: Path | None,
    formats: tuple[str, ...],
    frames: int | None,
    loading: Loading,
    asked: Asked,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Explain images and clips: where a model attends, with CAM and saliency maps, numbers and a report.

    IMAGE is an image, a clip, a folder, a list of files (.txt) or a table (.csv with a column path).

    \b
    attnviz explain cat.jpg --model cbam
    attnviz explain cat.mp4 --model temporal
    attnviz explain cat.jpg --target "Egyptian cat" --not "tabby cat" --format html
    attnviz explain cat.jpg --model hf:openai/clip-vit-base-patch32 --text "a cat" --text "a dog"
    attnviz explain street.jpg --model torchvision:fcos_resnet50_fpn --box 40,60,200,180
    attnviz explain cell.png --model net.py:build --weights run.pt --labels names.txt
    """  # noqa: D301  # \b is the character that keeps Click from re-wrapping
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
    from attnviz.report.explanation.folder import check_folder, folders_for

    paths = [item.path for item in list_given(images, quiet=quiet).items]
    folders = folders_for(paths, out)
    for folder in folders:
        check_folder(folder, formats, overwrite=overwrite)
    sources = _open_all(paths)
    _check_methods(methods or ())
    prepared: PreparedModel | None = None
    summaries = []
    for image, folder in zip(paths, folders, strict=True):
        times = StepTimes()
        with progress_bar(shown=not quiet, label=Path(image).name, times=times) as on_progress:
            from attnviz.explanation.explain import explain
            from attnviz.explanation.prepared_model import PreparedModel

            on_progress("load the model", 0, 1)
            prepared = prepared or PreparedModel(loading.load(model))
            explanation = explain(
                sources.pop(image, image), prepared, methods=methods, sites=",".join(sites),
                weights=loading.weights, seed=loading.seed, progress=on_progress, frames=frames, **asked.arguments,
            )  # fmt: skip
            explanation = replace(explanation, settings={"model": model, **explanation.settings, **loading.settings})
            document, files = _write(explanation, folder, formats, on_progress, overwrite=overwrite)
        times.stop()
        if as_json:
            from attnviz.report.explanation.json_file import dump

            summaries.append({**dump(document, arrays=False), "files": [str(path) for path in files]})
        elif not quiet:
            from attnviz.cli.explain_output import print_explanation

            print_explanation(document, files, times.seconds, verbose=verbose)
    if as_json:
        click.echo(json.dumps(summaries[0] if len(summaries) == 1 else summaries, ensure_ascii=False, indent=2))


def _open_all(images: Sequence[str]) -> dict[str, Source]:
    """Decode every image, so that a bad one is an error before any work, and keep the first ones."""
    from attnviz.explanation.model_inputs import open_source
    from attnviz.media.image_decoding import Picture

    sources: dict[str, Source] = {}
    pixels = 0
    for image in images:
        source = open_source(image)
        pixels += source.pixels.size if isinstance(source, Picture) else 0
        if pixels <= _KEPT_VALUES or not sources:
            sources[image] = source
    return sources


def _check_methods(methods: Sequence[str]) -> None:
    """Raise an error for an unknown name before a model is loaded."""
    if methods:
        from attnviz.attribution import METHODS

        for method in methods:
            METHODS[method]


def _write(
    explanation: Explanation, folder: Path, formats: Sequence[str], on_progress: Progress, *, overwrite: bool
) -> tuple[Document, list[Path]]:
    from attnviz.report import describe
    from attnviz.report.explanation.folder import write_folder

    on_progress("write the report", 1, 1)
    document = describe(explanation)
    wanted = [name for name in formats if name != "gif" or document.clip]
    if not wanted:
        raise OutputError(f"{document.file_name}: an image has no frames to animate, wanted another format than gif")
    return document, write_folder(document, folder, wanted, overwrite=overwrite)

"""``attnviz compare``: which maps agree, and which of them to believe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from attnviz.cli.options import CommaList, running
from attnviz.cli.progress import bar

if TYPE_CHECKING:
    from attnviz.analyses.comparison import Subject
    from attnviz.core.comparison_results import Comparison

FORMATS = ("html", "png", "json")
METHODS = ("gradcam", "layercam", "eigencam", "saliency", "integrated_gradients", "smoothgrad")


@click.command(short_help="Compare maps: which agree, and which to believe.")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--model", "-m", "models", multiple=True, default=("cbam",), show_default=True,
    help="As in `attnviz explain`; give it several times to compare models.",
)  # fmt: skip
@click.option(
    "--methods", type=CommaList(), default=",".join(METHODS), show_default=True, help="Attributions, with commas."
)
@click.option(
    "--metrics", type=CommaList(),
    help="Tests of faithfulness and, with masks, of localisation, with commas.  [default: six of faithfulness, and all "
    "of localisation where there are masks]",
)  # fmt: skip
@click.option("--mask", "masks", multiple=True, type=click.Path(), help="Picture of the object, white; one per image.")
@click.option("--sites", default="last", show_default=True, help="Sites by a shell pattern; last: of each kind.")
@click.option("--target", "-t", help="Class to ask about, by index or name.  [default: each model's first answer]")
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), default=Path("comparison"), show_default=True, help="Folder."
)
@click.option(
    "--format", "formats", type=CommaList(FORMATS), default=",".join(FORMATS), show_default=True,
    help="Files to write, with commas.",
)  # fmt: skip
@running
@click.option("--overwrite", is_flag=True, help="Replace an earlier comparison.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison for machines.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors alone.")
def command(
    images: tuple[str, ...],
    models: tuple[str, ...],
    methods: tuple[str, ...],
    metrics: tuple[str, ...] | None,
    masks: tuple[str, ...],
    sites: str,
    target: str | None,
    out: Path,
    formats: tuple[str, ...],
    weights: str,
    device: str,
    seed: int,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare attention maps with attributions over photographs: who agrees, and on whom the answer depends.

    \b
    attnviz compare photos/*.jpg --model cbam --methods gradcam,rise
    attnviz compare cat.jpg --mask cat-mask.png --model cbam --model senet
    """  # noqa: D301  # \b is the character that keeps Click from re-wrapping
    if masks and len(masks) != len(images):
        raise click.UsageError(f"wanted one --mask for each of {len(images)} images, got {len(masks)}")
    from dataclasses import replace

    from attnviz.report.comparison import check, write

    check(out, formats, overwrite=overwrite)

    from attnviz.analyses.comparison import METRICS, compare
    from attnviz.metrics.localisation import LOCALISATION

    with bar(shown=not quiet) as on_progress:
        subjects = _subjects(images, masks, tuple(dict.fromkeys(models)), weights, device, seed)
        wanted = metrics or (*METRICS, *(LOCALISATION if masks else ()))
        found = compare(
            subjects,
            images,
            methods=methods,
            metrics=wanted,
            sites=sites,
            target=target,
            seed=seed,
            progress=on_progress,
        )
        settings = {
            "models": ", ".join(models), "weights": weights, "methods": ", ".join(methods), "sites": sites,
            "masks": ", ".join(masks) or "none", "device": device, "seed": seed,
        }  # fmt: skip
        found = replace(found, settings=settings)
        files = write(found, out, formats, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps({**found.as_dict(), "files": list(map(str, files))}, ensure_ascii=False))
    elif not quiet:
        _show(found, files)


def _subjects(
    images: Sequence[str], masks: Sequence[str], models: Sequence[str], weights: str, device: str, seed: int
) -> dict[str, Subject]:
    """Every model with the images and masks as it sees them."""
    import numpy as np
    import torch

    from attnviz.analyses.comparison import Subject
    from attnviz.cli.model_loading import load
    from attnviz.errors import DataError
    from attnviz.media.image_decoding import as_picture
    from attnviz.media.images import as_images

    pictures, shapes = [as_picture(image) for image in images], [as_picture(mask) for mask in masks]
    for picture, shape in zip(pictures, shapes, strict=False):
        if (
            abs(picture.pixels.shape[1] / picture.pixels.shape[0] - shape.pixels.shape[1] / shape.pixels.shape[0])
            > 0.02
        ):
            raise DataError(f"{shape.path}: a mask has the proportions of its image, {picture.path}")
    subjects = {}
    for model in models:
        vision = load(model, weights, device, seed)
        parameter = next(vision.module.parameters(), torch.zeros(()))
        seen = as_images(pictures, vision.preprocess)
        x = seen.x.to(parameter.device, parameter.dtype)
        cropped = [vision.preprocess.crop(shape.pixels).max(axis=2) > 127 for shape in shapes]
        objects = torch.from_numpy(np.stack(cropped)).to(x.device) if cropped else None
        subjects[model] = Subject(vision, x, objects, seen.pixels)
    return subjects


def _show(found: Comparison, files: Sequence[Path]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from attnviz.core.comparison_results import words
    from attnviz.report.core.formatting import number

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("map", no_wrap=True)
    for metric in found.metrics:
        arrow = "↑" if metric.higher_is == "better" else "↓"
        table.add_column(f"{words(metric.name)} {arrow}", justify="right")
    for row in found.rows:
        cells = (number(row.cells[metric.name].value) for metric in found.metrics)
        table.add_row(Text(row.name, "dim" if row.kind == "baseline" else ""), *cells)
    console.print(table)
    for text in found.summary:
        console.print(Text(text))
    for text in found.caveats:
        console.print(Text(f"note: {text}", style="yellow"))
    for path in files:
        console.print(Text(str(path), style="green"), soft_wrap=True)

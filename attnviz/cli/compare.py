"""``attnviz compare``: compare maps by agreement, faithfulness and localisation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from attnviz.cli.options import CommaList, Loading, list_given, option, output, running, several_models
from attnviz.cli.progress import progress_bar
from attnviz.cli.registry_help import AGREEMENT, METHODS, METRICS, RegistryCommand
from attnviz.cli.target_options import not_option, target_option

if TYPE_CHECKING:
    from attnviz.analyses.comparison import Subject
    from attnviz.core.comparison_results import Comparison
    from attnviz.media.image_item import Item

FORMATS = ("html", "png", "json")


@click.command(
    cls=RegistryCommand,
    registries=METHODS | METRICS | AGREEMENT,
    short_help="Compare maps with each other and by tests.",
)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@several_models
@click.option(
    "--methods", type=CommaList(),
    help="Attribution methods, comma-separated.  [default: gradcam,saliency,integrated_gradients,smoothgrad]",
)  # fmt: skip
@click.option(
    "--metrics", type=CommaList(),
    help="Tests of faithfulness and, with masks, measures of localisation, comma-separated.  [default: six tests of "
    "faithfulness, and all measures of localisation if there are masks]",
)  # fmt: skip
@click.option("--mask", "masks", multiple=True, help="Image that is white on the object; one per image.")
@option("--sites", default="last", help="Sites by a shell pattern, or last: the last of each kind.")
@target_option
@not_option
@running
@output("comparison", "comparison", FORMATS)
def command(
    images: tuple[str, ...],
    models: tuple[str, ...],
    methods: tuple[str, ...] | None,
    metrics: tuple[str, ...] | None,
    masks: tuple[str, ...],
    sites: str,
    target: str | None,
    contrast: str | None,
    loading: Loading,
    out: Path,
    formats: tuple[str, ...],
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare attention maps with attributions: which agree, and on which of them the prediction depends.

    IMAGE is an image, a folder, a list of files (.txt) or a table (.csv with a column path and, for localisation, boxes
    or mask).

    \b
    attnviz compare photos/ --model cbam --methods gradcam,rise
    attnviz compare cat.jpg --mask cat-mask.png --model cbam --model senet
    """  # noqa: D301  # \b is the character that keeps Click from re-wrapping
    from dataclasses import replace

    from attnviz.report.comparison import check, write

    items = _with_masks(list_given(images, quiet=quiet).items, masks)
    check(out, formats, overwrite=overwrite)

    from attnviz.analyses.comparison import METRICS, compare
    from attnviz.attribution import DEFAULT_METHODS
    from attnviz.metrics.localisation import LOCALISATION
    from attnviz.targets import Request

    methods = methods or DEFAULT_METHODS
    with progress_bar(shown=not quiet) as on_progress:
        subjects = _subjects(items, tuple(dict.fromkeys(models)), loading)
        has_masks = all(subject.masks is not None for subject in subjects.values())
        found = compare(
            subjects,
            [item.path for item in items],
            methods=methods,
            metrics=metrics or (*METRICS, *(LOCALISATION if has_masks else ())),
            sites=sites,
            target=Request(target, contrast),
            seed=loading.seed,
            progress=on_progress,
        )
        settings = {
            "models": ", ".join(models), "weights": loading.weights, "methods": ", ".join(methods), "sites": sites,
            "masks": ", ".join(item.mask or "" for item in items).strip(", ") or "none", "device": loading.device,
            "seed": loading.seed, "target": target or "what the model predicts",
            **({"not": contrast} if contrast else {}), **loading.settings,
        }  # fmt: skip
        found = replace(found, settings=settings)
        files = write(found, out, formats, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps({**found.as_dict(), "files": list(map(str, files))}, ensure_ascii=False))
    elif not quiet:
        _print(found, files)


def _with_masks(items: Sequence[Item], masks: Sequence[str]) -> list[Item]:
    from dataclasses import replace

    if masks and len(masks) != len(items):
        raise click.UsageError(f"wanted one --mask for each of {len(items)} images, got {len(masks)}")
    return [replace(item, mask=mask) for item, mask in zip(items, masks, strict=True)] if masks else list(items)


def _subjects(items: Sequence[Item], models: Sequence[str], loading: Loading) -> dict[str, Subject]:
    """Every model with its inputs, and with masks if every image has one."""
    import numpy as np
    import torch

    from attnviz.analyses.comparison import Subject
    from attnviz.batch.image_reader import object_masks
    from attnviz.media.image_decoding import as_picture
    from attnviz.media.images import as_images

    pictures = [as_picture(item.path) for item in items]
    visions = {model: loading.load(model) for model in models}
    preprocesses = [vision.preprocess for vision in visions.values()]
    masks = [object_masks(item, picture, preprocesses) for item, picture in zip(items, pictures, strict=True)]
    subjects = {}
    for number, (model, vision) in enumerate(visions.items()):
        parameter = next(vision.module.parameters(), torch.zeros(()))
        images = as_images(pictures, vision.preprocess)
        x = images.x.to(parameter.device, parameter.dtype)
        own = [mask[number] for mask in masks if mask is not None]
        objects = torch.from_numpy(np.stack(own)).to(x.device) if len(own) == len(items) else None
        subjects[model] = Subject(vision, x, objects, images.pixels)
    return subjects


def _print(found: Comparison, files: Sequence[Path]) -> None:
    from rich.text import Text

    from attnviz.cli.terminal import console_of, print_end, table_of
    from attnviz.core.glossary import title
    from attnviz.report.core.formatting import number

    heads = (f"{title('measure', one.name)} {'↑' if one.higher_is == 'better' else '↓'}" for one in found.metrics)
    table = table_of("map", *heads)
    table.columns[0].no_wrap = True
    for row in found.rows:
        cells = (number(row.cells[metric.name].value) for metric in found.metrics)
        table.add_row(Text(row.name, "dim" if row.kind == "baseline" else ""), *cells)
    console = console_of(160)
    console.print(table)
    for text in found.summary:
        console.print(Text(text))
    print_end(console, found.caveats, files)

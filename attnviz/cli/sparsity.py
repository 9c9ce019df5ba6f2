"""``attnviz sparsity``: how sparse attention is over many images, and how much of it is needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from attnviz.cli.options import CommaList, Loading, list_given, option, output, running, several_models
from attnviz.cli.progress import Progress, progress_bar
from attnviz.cli.registry_help import SPARSITY, RegistryCommand
from attnviz.cli.target_options import not_option, target_option

if TYPE_CHECKING:
    from torch import Tensor

    from attnviz.analyses.sparsity_study import StudyConfig
    from attnviz.core.sparsity_results import ModelFinding, SparsityStudy
    from attnviz.models import VisionModel
    from attnviz.targets import Request

FORMATS = ("html", "png", "json")
_MOST_WITH_INTERVALS = 7


@click.command(
    cls=RegistryCommand,
    registries=SPARSITY,
    short_help="Measure how sparse attention is, and how much of it is needed.",
)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@several_models
@option("--sites", default="*", help="Sites by name, module or kind: shell patterns, comma-separated.")
@click.option("--causal", is_flag=True, help="Also prune and replace g: some hundred forward passes per image.")
@click.option("--measures", type=CommaList(), help="Measures of g, comma-separated, or all.  [default: the quick ones]")
@click.option("--activations", is_flag=True, help="Also measure activations before and after sites and nonlinearities.")
@option("--batch", type=click.IntRange(min=1), default=16, help="Batch size.")
@target_option
@not_option
@running
@output("study", "sparsity", FORMATS)
def command(
    images: tuple[str, ...],
    models: tuple[str, ...],
    sites: str,
    measures: tuple[str, ...] | None,
    batch: int,
    target: str | None,
    contrast: str | None,
    loading: Loading,
    out: Path,
    formats: tuple[str, ...],
    *,
    causal: bool,
    activations: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure how sparse the attention of a model is and, with --causal, how much of it is needed.

    IMAGE is an image, a folder, a list of files (.txt) or a table (.csv with a column path). An interrupted study is
    continued when the same command is given again.

    \b
    attnviz sparsity photos/ --model cbam --model senet --causal
    attnviz sparsity photos/ --model timm:vit_small_patch16_224 --sites "blocks.1*"
    """  # noqa: D301  # \b is the character that keeps Click from re-wrapping
    from attnviz.report.sparsity import check, write

    paths = [Path(item.path) for item in list_given(images, quiet=quiet).items]
    check(out, formats, overwrite=overwrite)

    import torch

    from attnviz import __version__
    from attnviz.analyses.sparsity_collector import MeasureSelection, default_measures, known_measures
    from attnviz.analyses.sparsity_study import StudyConfig
    from attnviz.core.sparsity_results import SparsityStudy
    from attnviz.targets import Request

    names = known_measures() if measures == ("all",) else measures or default_measures()
    config = StudyConfig(MeasureSelection(tuple(names), activations), sites, causal, seed=loading.seed)
    with progress_bar(shown=not quiet) as on_progress:
        found = [
            _one(model, paths, config, batch, out, loading, Request(target, contrast), on_progress)
            for model in dict.fromkeys(models)
        ]
        on_progress("write the study", 0, 1)
        settings = {
            "models": ", ".join(models), "weights": loading.weights, "sites": sites, "measures": ", ".join(names),
            "causal": causal, "shares": ", ".join(f"{share:g}" for share in config.shares) if causal else "none",
            "batch": batch, "target": target or "what the model predicts", "seed": loading.seed,
            "attnviz": __version__, "torch": torch.__version__,
            **loading.settings,
        }  # fmt: skip
        given = ", ".join(map(str, images[:3])) + (" …" if len(images) > 3 else "")
        subject = f"{len(paths)} image{'s' * (len(paths) != 1)}: {given}"
        study = SparsityStudy(subject, tuple(found), settings)
        files = write(study, out, formats, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps({**study.as_dict(), "files": list(map(str, files))}, ensure_ascii=False))
    elif not quiet:
        _print(study, files)


def chunked(paths: Sequence[Path], size: int) -> list[Sequence[Path]]:
    """Batches of about ``size`` images, none of a single image if there are more: ablation needs another image.

    >>> [len(chunk) for chunk in chunked([Path(str(i)) for i in range(5)], 2)]
    [2, 3]
    """
    chunks = [paths[i : i + size] for i in range(0, len(paths), size)]
    if size > 1 and len(chunks) > 1 and len(chunks[-1]) == 1:
        chunks[-2:] = [[*chunks[-2], *chunks[-1]]]
    return chunks


def _one(
    model: str,
    paths: Sequence[Path],
    config: StudyConfig,
    batch: int,
    out: Path,
    loading: Loading,
    request: Request,
    on_progress: Progress,
) -> ModelFinding:
    from dataclasses import replace

    from attnviz.analyses.sparsity_study import reader_of, study

    on_progress(f"{model}: load", 0, 1)
    vision, files = loading.load(model), [(path, path.stat()) for path in paths]
    prints = [f"{path} {status.st_size} {status.st_mtime_ns}" for path, status in files]
    key = hashlib.sha256(
        "\n".join([model, loading.weights, str(loading.seed), str(loading.settings), repr(request), *prints]).encode()
    ).hexdigest()
    keep = out / f".{hashlib.sha256(model.encode()).hexdigest()[:12]}.resume"
    batches = [partial(_load_batch, vision, chunk) for chunk in chunked(paths, batch)]
    found = study(
        vision.module,
        batches,
        config,
        model,
        keep,
        key,
        lambda part, *n: on_progress(f"{model}: {part}", *n),
        reader_of(vision, request, batches[0]()[:1]),
    )
    return replace(found, notes=(*vision.notes, *found.notes))


def _load_batch(vision: VisionModel, paths: Sequence[Path]) -> Tensor:
    from attnviz.media.images import load_images

    parameter = next(vision.module.parameters(), None)
    x = load_images(paths, vision.preprocess).x
    return x if parameter is None else x.to(parameter.device, parameter.dtype)


def _print(study: SparsityStudy, files: Sequence[Path]) -> None:
    """Print the tables and the paths of the files."""
    from rich.text import Text

    from attnviz.cli.terminal import console_of, print_end, table_of
    from attnviz.report.sparsity.tables import tables

    console = console_of()
    for model in study.models:
        console.print(Text.assemble((model.model, "bold"), f"  {model.images} images, {len(model.sites)} sites"))
        for made in tables(model):
            table = table_of(*made.head, title=made.title, space=1)
            for row in made.rows:
                # The page has all intervals; a wide table with intervals does not fit a terminal.
                table.add_row(*(Text(cell.split(" [")[0] if len(row) > _MOST_WITH_INTERVALS else cell) for cell in row))
            console.print(table)
        print_end(console, model.notes, ())
    print_end(console, (), files)

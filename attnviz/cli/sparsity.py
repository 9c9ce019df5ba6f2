"""``attnviz sparsity``: how sparse attention is over many images, and how much of it is needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attnviz.cli.options import CommaList, list_given, output, running, several_models
from attnviz.cli.progress import Progress, progress_bar
from attnviz.cli.registry_help import SPARSITY, RegistryCommand

if TYPE_CHECKING:
    from torch import Tensor

    from attnviz.core.sparsity_results import ModelFinding, SparsityStudy
    from attnviz.models import VisionModel

FORMATS = ("html", "png", "json")
_WIDTH = 140
_MOST_WITH_INTERVALS = 7


@click.command(
    cls=RegistryCommand,
    registries=SPARSITY,
    short_help="Measure how sparse attention is, and how much of it is needed.",
)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@several_models
@click.option(
    "--sites", default="*", show_default=True, help="Sites by name, module or kind: shell patterns, comma-separated."
)
@click.option("--causal", is_flag=True, help="Also prune and replace g: some hundred forward passes per image.")
@click.option("--measures", type=CommaList(), help="Measures of g, comma-separated, or all.  [default: the quick ones]")
@click.option("--activations", is_flag=True, help="Also measure activations before and after sites and nonlinearities.")
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Batch size.")
@running
@output("study", "sparsity", FORMATS)
def command(
    images: tuple[str, ...],
    models: tuple[str, ...],
    sites: str,
    measures: tuple[str, ...] | None,
    batch: int,
    weights: str,
    device: str,
    seed: int,
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

    from attnviz.analyses.sparsity_collector import MeasureSelection, default_measures, known_measures
    from attnviz.analyses.sparsity_study import StudyConfig
    from attnviz.core.sparsity_results import SparsityStudy

    names = known_measures() if measures == ("all",) else measures or default_measures()
    config = StudyConfig(MeasureSelection(tuple(names), activations), sites, causal, seed=seed)
    with progress_bar(shown=not quiet) as on_progress:
        found = [
            _one(model, paths, config, batch, out, weights, device, seed, on_progress)
            for model in dict.fromkeys(models)
        ]
        on_progress("write the study", 0, 1)
        settings = {
            "models": ", ".join(models), "weights": weights, "sites": sites, "measures": ", ".join(names),
            "causal": causal, "shares": ", ".join(f"{share:g}" for share in config.shares) if causal else "none",
            "batch": batch, "seed": seed, **_versions(),
        }  # fmt: skip
        study = SparsityStudy(_subject(images, paths), tuple(found), settings)
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
    config: Any,
    batch: int,
    out: Path,
    weights: str,
    device: str,
    seed: int,
    on_progress: Progress,
) -> ModelFinding:
    from dataclasses import replace

    from attnviz.analyses.sparsity_study import study
    from attnviz.cli.model_loading import load

    on_progress(f"{model}: load", 0, 1)
    vision = load(model, weights, device, seed)
    key = hashlib.sha256("\n".join([model, weights, str(seed), *map(_fingerprint, paths)]).encode()).hexdigest()
    keep = out / f".{hashlib.sha256(model.encode()).hexdigest()[:12]}.resume"
    batches = [_loader(vision, chunk) for chunk in chunked(paths, batch)]
    found = study(
        vision.module, batches, config, model, keep, key, lambda part, *n: on_progress(f"{model}: {part}", *n)
    )
    return replace(found, notes=(*vision.notes, *found.notes))


def _fingerprint(path: Path) -> str:
    status = path.stat()
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def _loader(vision: VisionModel, paths: Sequence[Path]) -> Callable[[], Tensor]:
    def load_batch() -> Tensor:
        from attnviz.media.images import load_images

        parameter = next(vision.module.parameters(), None)
        x = load_images(paths, vision.preprocess).x
        return x if parameter is None else x.to(parameter.device, parameter.dtype)

    return load_batch


def _subject(given: Sequence[str], paths: Sequence[Path]) -> str:
    named = ", ".join(map(str, given[:3])) + (" …" if len(given) > 3 else "")
    return f"{len(paths)} image{'s' * (len(paths) != 1)}: {named}"


def _versions() -> dict[str, str]:
    import torch

    from attnviz import __version__

    return {"attnviz": __version__, "torch": torch.__version__}


def _print(study: SparsityStudy, files: Sequence[Path]) -> None:
    """Print the tables and the paths of the files."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from attnviz.report.sparsity.tables import tables

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    for model in study.models:
        console.print(Text.assemble((model.model, "bold"), f"  {model.images} images, {len(model.sites)} sites"))
        for made in tables(model):
            table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", title=made.title, title_justify="left")
            for index, head in enumerate(made.head):
                table.add_column(head, justify="left" if index == 0 else "right")
            for row in made.rows:
                # The page has all intervals; a wide table with intervals does not fit a terminal.
                table.add_row(*(Text(cell.split(" [")[0] if len(row) > _MOST_WITH_INTERVALS else cell) for cell in row))
            console.print(table)
        for note in model.notes:
            console.print(Text(f"note: {note}", style="yellow"))
    for path in files:
        console.print(Text(str(path), style="green"), soft_wrap=True)

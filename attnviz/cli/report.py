"""``attnviz report``: a whole data set, on this machine or on a cluster; what was done is never done again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from attnviz.cli.main import INTERRUPTED
from attnviz.cli.options import CommaList, running

if TYPE_CHECKING:
    from attnviz.batch import Outcome
    from attnviz.batch.run import Engine
    from attnviz.batch.summary import Summary

FORMATS = ("csv", "json", "pdf")


class Names(CommaList):
    """Names with commas between them, or none at all."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The names, each once."""
        return () if value in {"", "none"} else super().convert(value, param, ctx)


@click.command(short_help="Report on a folder or a list of images.")
@click.argument("given", metavar="FOLDER_OR_LIST...", nargs=-1, required=True)
@click.option(
    "--model", "-m", "models", multiple=True, default=("cbam",), show_default=True,
    help="As in `attnviz explain`; give it several times to compare models.",
)  # fmt: skip
@click.option(
    "--methods", type=CommaList(),
    help="Attribution methods, with commas.  [default: those of gradcam, layercam and saliency that apply]",
)  # fmt: skip
@click.option(
    "--metrics", type=Names(), default="none", show_default=True,
    help="Tests of faithfulness of every map, with commas: many passes for each. Localisation is measured wherever "
    "there are boxes or masks.",
)  # fmt: skip
@click.option(
    "--sites",
    default="last",
    show_default=True,
    help="Attention sites: shell patterns, with commas; last: all are measured, the last of each kind has a map.",
)
@running
@click.option("--out", "-o", default="report", show_default=True, help="Folder, or a URL such as s3://bucket/run.")
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Images at once.")
@click.option(
    "--workers", type=click.IntRange(min=0), default=min(4, os.cpu_count() or 1), show_default=True,
    help="Threads that read images ahead.",
)  # fmt: skip
@click.option(
    "--shard-size",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Images of one file: what an interruption can lose at most.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many images, evenly spread.")
@click.option(
    "--pages",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="How many of the most surprising images get the full page of `attnviz explain`.",
)
@click.option("--export", "formats", type=Names(FORMATS), default="none", show_default=True,
              help="Also write csv, json, pdf, with commas.")  # fmt: skip
@click.option(
    "--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="What computes."
)
@click.option("--address", help="Of a Ray cluster, or auto.  [default: a cluster of this machine alone]")
@click.option("--actors", type=click.IntRange(min=1), help="Ray: how many copies of the models work at once.  "
              "[default: one for each GPU, or as many as the cluster's processors carry]")  # fmt: skip
@click.option("--gpus", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Ray: GPUs of each copy.")
@click.option("--cpus", type=click.FloatRange(min=0), help="Ray: processors of each copy.  [default: those of the "
              "smallest machine]")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Throw an earlier run away in place of going on with it.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary for machines.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors alone.")
def command(
    given: tuple[str, ...],
    models: tuple[str, ...],
    methods: tuple[str, ...] | None,
    metrics: tuple[str, ...],
    sites: str,
    weights: str,
    out: str,
    batch: int,
    workers: int,
    shard_size: int,
    limit: int | None,
    pages: int,
    formats: tuple[str, ...],
    engine: str,
    address: str | None,
    actors: int | None,
    gpus: float,
    cpus: float | None,
    device: str,
    seed: int,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Look at every image of a data set: attention, attributions, their agreement and sparsity, as Parquet and pages.

    FOLDER_OR_LIST is a folder (folders in it are classes), a list of files (.txt), a table (.csv with path, label,
    x0,y0,x1,y1 or boxes, mask), or a URL of a folder. An interrupted run goes on when the same command is given again.

    \b
    attnviz report photos/ --model cbam --model senet --out photos-report
    attnviz report val.csv --model timm:seresnet50 --methods gradcam,integrated_gradients --metrics insertion,deletion
    attnviz report s3://bucket/photos --engine ray --address auto --gpus 1 --out s3://bucket/report
    """  # noqa: D301  # \b is the character that keeps Click from re-wrapping
    if not weights:
        raise click.BadParameter("wanted default, none or a file", param_hint="'--weights'")
    if engine == "local" and (address or actors or gpus or cpus):
        raise click.UsageError("--address, --actors, --gpus and --cpus are of --engine ray")
    if "pdf" in formats:
        from attnviz.batch.export import browser

        browser()  # told before the work

    from attnviz.batch import RunOptions, run

    asked = RunOptions(
        tuple(dict.fromkeys(models)), methods, tuple(metrics), sites, weights, seed, batch, shard_size, limit
    )  # fmt: skip
    works = None if engine == "local" else _ray(address, actors, gpus, cpus, device, workers)
    with _progress(shown=not quiet) as on_progress, _resumable(out):
        outcome = run(
            given, out, asked, device=device, workers=workers, overwrite=overwrite, engine=works, progress=on_progress
        )  # fmt: skip
        summary, files = _finish(outcome, pages, formats, device, on_progress)
    if as_json:
        click.echo(json.dumps(_for_machines(outcome, summary, files), ensure_ascii=False))
    elif not quiet:
        from attnviz.cli.report_output import show

        show(outcome, summary, files)


def _ray(address: str | None, actors: int | None, gpus: float, cpus: float | None, device: str, workers: int) -> Engine:
    from attnviz.batch.ray_engine import Cluster, RayEngine

    return RayEngine(Cluster(address, actors, gpus, cpus), device, workers)


def _finish(
    outcome: Outcome, pages: int, formats: tuple[str, ...], device: str, on_progress: Callable[[str, int, int], object]
) -> tuple[Summary, list[str]]:
    """Summary, pages of single images, the page of the whole, and other formats."""
    from attnviz.batch.export import export
    from attnviz.batch.image_pages import write_pages
    from attnviz.batch.summary import summarise

    store, plan = outcome.store, outcome.plan
    on_progress("summarise", 0, 0)
    summary = summarise(store, [one.name for one in plan.models], max(pages, 10))
    wanted = [(one.item, one.model) for one in summary.surprises[:pages]]
    write_pages(
        store, plan, outcome.listing.items, wanted, device, lambda done: on_progress("write pages", done, len(wanted))
    )
    files = []
    if store.folder.is_local:
        on_progress("write the report", 0, 0)
        from attnviz.report import dataset

        files.append(str(dataset.write(store.folder.root)))
    on_progress("export", 0, 0)
    return summary, files + export(store, plan, summary, formats)


def _for_machines(outcome: Outcome, summary: Summary, files: list[str]) -> dict[str, Any]:
    return {
        "schema": "attnviz.batch",
        "version": 1,
        "out": outcome.store.folder.root,
        "total": outcome.plan.total,
        "before": outcome.before,
        "computed": outcome.computed,
        "seconds": round(outcome.seconds, 3),
        "summary": summary.as_dict(),
        "files": files,
    }


@contextmanager
def _resumable(out: str) -> Iterator[None]:
    """An interruption says what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        from attnviz.batch import Store
        from attnviz.batch.plan import parse

        store = Store(out)
        if store.folder.exists("plan.json"):
            plan = parse(store.folder.read("plan.json"), store.folder.path("plan.json"))
            shards = -(-plan["total"] // plan["shard_size"])
            click.echo(
                f"Interrupted: the images of {len(store.done())} of {shards} shards are kept; the same command goes on "
                "from there.",
                err=True,
            )
            raise click.exceptions.Exit(INTERRUPTED) from None
        raise


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[str, int, int], object]]:
    if not shown:
        yield lambda _step, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """Images a second."""

        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.1f} a second" if task.speed else "")

    columns = (TextColumn("{task.description}", markup=False), BarColumn(24), MofNCompleteColumn(), Rate(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=120) as bar:
        task, step = bar.add_task("start", total=None), ""

        def on_progress(name: str, done: int, total: int) -> None:
            nonlocal step
            if name != step:  # so that what was there already does not count as speed
                bar.reset(task, description=name, completed=done, total=total or None)
                step = name
            bar.update(task, completed=done, total=total or None)

        yield on_progress

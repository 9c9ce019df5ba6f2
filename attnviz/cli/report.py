"""``attnviz report``: a report on a data set, on this machine or on a cluster; an interrupted run is continued."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from attnviz.cli.errors import INTERRUPTED
from attnviz.cli.options import CommaList, Loading, option, printing, running, several_models
from attnviz.cli.progress import Progress, progress_bar
from attnviz.cli.registry_help import METHODS, METRICS, RegistryCommand
from attnviz.cli.target_options import not_option, target_option

if TYPE_CHECKING:
    from attnviz.batch import Outcome
    from attnviz.batch.run import Engine
    from attnviz.batch.summary import Summary

FORMATS = ("csv", "json", "pdf")
_FROM_0, _FROM_1 = click.IntRange(min=0), click.IntRange(min=1)


@click.command(cls=RegistryCommand, registries=METHODS | METRICS, short_help="Report on a folder or a list of images.")
@click.argument("given", metavar="IMAGE...", nargs=-1, required=True)
@several_models
@option(
    "--methods", type=CommaList(),
    help="Attribution methods, comma-separated.  [default: gradcam and saliency, if they apply]",
)  # fmt: skip
@option(
    "--metrics", type=CommaList(may_be_empty=True), default="none",
    help="Tests of faithfulness of every map, comma-separated; each needs many forward passes. Localisation is measured"
    " for images with boxes or masks.",
)  # fmt: skip
@option(
    "--sites", default="last",
    help="Attention sites: shell patterns, comma-separated; last measures all and maps the last of each kind.",
)  # fmt: skip
@target_option
@not_option
@running
@option("--out", "-o", default="report", help="Folder, or a URL such as s3://bucket/run.")
@option("--batch", type=_FROM_1, default=8, help="Batch size.")
@option("--workers", type=_FROM_0, default=min(4, os.cpu_count() or 1), help="Number of threads that read images.")
@option("--shard-size", type=_FROM_1, default=64, help="Images per file: the most that an interruption can lose.")
@option("--limit", type=_FROM_1, help="Largest number of images, evenly spread.")
@option("--pages", type=_FROM_0, default=8, help="Number of outliers that get the full page of `attnviz explain`.")
@option("--export", "formats", type=CommaList(FORMATS, may_be_empty=True), default="none",
              help="Also write csv, json, pdf; comma-separated.")  # fmt: skip
@option("--engine", type=click.Choice(["local", "ray"]), default="local", help="Engine.")
@option("--address", help="Address of a Ray cluster, or auto.  [default: a new cluster on this machine]")
@option("--actors", type=_FROM_1, help="Ray: number of copies of the models.  "
              "[default: one per GPU, or as many as the processors of the cluster allow]")  # fmt: skip
@option("--gpus", type=click.FloatRange(min=0), default=0.0, help="Ray: GPUs per copy.")
@option("--cpus", type=click.FloatRange(min=0), help="Ray: processors per copy.  [default: those of the "
              "smallest machine]")  # fmt: skip
@printing("run; by default it is continued")
def command(
    given: tuple[str, ...],
    models: tuple[str, ...],
    methods: tuple[str, ...] | None,
    metrics: tuple[str, ...],
    sites: str,
    target: str | None,
    contrast: str | None,
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
    loading: Loading,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Report on a data set: attention, attributions, their agreement and sparsity, as Parquet files and pages.

    IMAGE is a folder (its subfolders are classes), an image, a list of files (.txt), a table (.csv with path, label,
    x0,y0,x1,y1 or boxes, mask, and what to explain: target, not, query, region), or a URL of a folder. An
    interrupted run is continued by the same command.

    \b
    attnviz report photos/ --model cbam --model senet --out photos-report
    attnviz report val.csv --model timm:seresnet50 --methods gradcam,integrated_gradients --metrics insertion,deletion
    attnviz report s3://bucket/photos --engine ray --address auto --gpus 1 --out s3://bucket/report
    """  # noqa: D301  # \b is the character that keeps Click from re-wrapping
    if engine == "local" and (address or actors or gpus or cpus):
        raise click.UsageError("--address, --actors, --gpus and --cpus need --engine ray")
    if "pdf" in formats:
        from attnviz.batch.export import browser

        browser()  # an error before the work

    from attnviz.batch import RunOptions, run

    names = tuple(dict.fromkeys(models))
    options = RunOptions(
        names, methods, tuple(metrics), sites, loading.weights, loading.seed, batch, shard_size, limit,
        labels=loading.labels, preprocess=loading.preprocess or None, target=target, contrast=contrast,
        texts=loading.texts or None, task=loading.task, output=loading.output,
    )  # fmt: skip
    runner: Engine | None = None
    if engine == "ray":
        from attnviz.batch.ray_engine import Cluster, RayEngine

        runner = RayEngine(Cluster(address, actors, gpus, cpus), loading.device, workers)
    with progress_bar(shown=not quiet, unit="images") as on_progress, _resumable(out):
        outcome = run(
            given, out, options, device=loading.device, workers=workers, overwrite=overwrite, engine=runner,
            progress=on_progress,
        )  # fmt: skip
        summary, files = _finish(outcome, pages, formats, loading.device, on_progress)
    if as_json:
        click.echo(json.dumps(_as_json(outcome, summary, files), ensure_ascii=False))
    elif not quiet:
        from attnviz.cli.report_output import print_outcome

        print_outcome(outcome, summary, files)


def _finish(
    outcome: Outcome, pages: int, formats: tuple[str, ...], device: str, on_progress: Progress
) -> tuple[Summary, list[str]]:
    """Write the summary, pages of single images, the page of the run, and other formats."""
    from attnviz.batch.export import export
    from attnviz.batch.image_pages import write_pages
    from attnviz.batch.summary import summarise

    store, plan = outcome.store, outcome.plan
    on_progress("summarise", 0, 0)
    summary = summarise(store, [one.name for one in plan.models], max(pages, 10))
    wanted = [(one.item, one.model) for one in summary.surprises[:pages]]
    items = outcome.listing.items
    write_pages(store, plan, items, wanted, device, lambda done: on_progress("write pages", done, len(wanted)))
    files = []
    if store.folder.is_local:
        on_progress("write the report", 0, 0)
        from attnviz.report import dataset

        files.append(str(dataset.write(store.folder.root)))
    on_progress("export", 0, 0)
    return summary, files + export(store, plan, summary, formats)


def _as_json(outcome: Outcome, summary: Summary, files: list[str]) -> dict[str, Any]:
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
    """After an interruption, print what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        from attnviz.batch import Store
        from attnviz.batch.plan import parse

        store = Store(out)
        if store.folder.exists("plan.json"):
            plan = parse(store.folder.read("plan.json"), store.folder.path("plan.json"))
            shards = -(-plan["total"] // plan["shard_size"])
            kept = f"{len(store.done())} of {shards} shards are kept"
            click.echo(f"Interrupted: {kept}; the same command continues the run.", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
        raise

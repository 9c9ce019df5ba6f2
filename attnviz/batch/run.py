"""A run from start to end: list the images, plan, and compute the missing shards."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from attnviz.batch.plan import Plan, RunOptions, plan_of
from attnviz.batch.store import Store
from attnviz.errors import OutputError
from attnviz.media.image_item import Item
from attnviz.media.image_listing import Listing, list_images

Progress = Callable[[str, int, int], object]
"""Called with the name of a step, the number of finished images and their total; 0 and 0 if no images are counted."""


Engine: TypeAlias = Callable[[Store, Plan, Sequence[Item], Sequence[int], Callable[[int], object]], None]
"""Computes and stores the given shards of a plan, in any order and on any machines, and reports numbers of images."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run.

    Attributes:
        store: Folder of the run.
        plan: Plan of the run.
        listing: The images.
        before: Number of images that were done before.
        computed: Number of images of this run.
        seconds: Duration of the computation.
    """

    store: Store
    plan: Plan
    listing: Listing
    before: int
    computed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images per second of this run."""
        return self.computed / self.seconds if self.seconds > 0 else 0.0


def run(
    given: Sequence[str],
    out: str,
    options: RunOptions,
    *,
    device: str = "auto",
    workers: int = 2,
    overwrite: bool = False,
    engine: Engine | None = None,
    progress: Progress = lambda _step, _done, _total: None,
) -> Outcome:
    """Compute the results of all images that an earlier run with the same options has not computed.

    Args:
        given: Folders, lists, tables and images, see :func:`~attnviz.media.image_listing.list_images`.
        out: Folder of the run: a local path or a URL.
        options: Models, methods and metrics.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``; a run can continue on another device.
        workers: Threads that read images ahead.
        overwrite: Whether to delete an earlier run in the folder.
        engine: Computes the shards; this process by default.
        progress: Progress callback.

    Raises:
        DataError: a list has a mistake, or an option is invalid.
        ImageError: there is no image.
        UnknownNameError: no such model, method, metric or site.
        OutputError: the folder cannot be written, or holds a run with other options. Finished shards are kept.
    """
    from attnviz.batch.local_engine import run_locally
    from attnviz.batch.shard import prepare_models

    progress("list the images", 0, 0)
    options.check()
    listing = list_images(given, options.limit)
    store = Store(out)
    plan = store.begin(plan_of(options, given, listing), overwrite=overwrite)
    prepared_models = None
    if not plan.models:
        progress("try the models", 0, 0)
        prepared_models = prepare_models(options, device)
        plan = replace(plan, models=tuple(prepared.planned for prepared in prepared_models))
    store.open(plan, listing)
    there = store.done()
    todo = [shard for shard in range(plan.shards) if shard not in there]
    before = plan.total - sum(len(plan.items_of(shard)) for shard in todo)
    done, start = before, time.perf_counter()

    def advance(images: int) -> None:
        nonlocal done
        done += images
        progress("look", done, plan.total)

    if todo:
        store.log("start", shards=len(todo), images=plan.total - before)
        try:
            if engine is not None:
                del prepared_models
                advance(0)
                engine(store, plan, listing.items, todo, advance)
            else:
                if prepared_models is None:
                    progress("load the models", 0, 0)
                prepared_models = prepared_models or prepare_models(options, device, plan.models)
                advance(0)
                run_locally(store, plan, listing.items, todo, prepared_models, workers, advance)
        except OutputError as error:
            kept = sum(len(plan.items_of(shard)) for shard in store.done())
            raise OutputError(
                f"{error}; {kept} of {plan.total} images are kept; the same command continues the run"
            ) from error
        seconds = time.perf_counter() - start
        store.log("end", images=plan.total - before, seconds=round(seconds, 3))
    store.tidy()
    outcome = Outcome(store, plan, listing, before, plan.total - before, time.perf_counter() - start)
    fill_glossary()
    return outcome


def fill_glossary() -> None:
    """Fill the registries that define the names in the tables: other processes can have computed these."""
    from attnviz.attribution import METHODS
    from attnviz.batch import evaluate_batch  # noqa: F401  # defines its own measures
    from attnviz.heatmaps.projection import PROJECTIONS
    from attnviz.metrics.agreement import AGREEMENT
    from attnviz.metrics.faithfulness import FAITHFULNESS
    from attnviz.metrics.localisation import LOCALISATION
    from attnviz.metrics.sparsity import SPARSITY

    for registry in (METHODS, PROJECTIONS, AGREEMENT, FAITHFULNESS, LOCALISATION, SPARSITY):
        registry.entries()

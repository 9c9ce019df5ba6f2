"""A run from end to end: list, plan, compute what is missing, and say what was found."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from attnviz.batch.plan import Plan, RunOptions, plan_of
from attnviz.batch.store import Store
from attnviz.errors import OutputError
from attnviz.media.image_item import Item
from attnviz.media.image_listing import Listing, list_images

Progress = Callable[[str, int, int], object]
"""Told a step's name, how many images are done, and of how many; how many is 0 where a step has no images."""


class Engine(Protocol):
    """Computes the shards that are missing, in any order and by whatever machines."""

    def __call__(
        self, store: Store, plan: Plan, items: Sequence[Item], todo: Sequence[int], progress: Callable[[int], object]
    ) -> None:
        """Compute and store shards ``todo``."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did.

    Attributes:
        store: Where everything lies.
        plan: What it was.
        listing: The images.
        before: Images that were there already.
        computed: Images that were looked at now.
        seconds: How long that took.
    """

    store: Store
    plan: Plan
    listing: Listing
    before: int
    computed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images a second, of those that were looked at now."""
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
    """Look at all images, or at those that an earlier run with the same question left.

    Args:
        given: Folders, lists, tables and images, see :func:`~attnviz.media.image_listing.list_images`.
        out: The run's folder: a local path or a URL.
        options: What is asked.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``: plays no part in what is asked.
        workers: Threads that read images ahead.
        overwrite: Whether an earlier run in the folder is thrown away.
        engine: What computes; this process by default.
        progress: Told the progress.

    Raises:
        DataError: a list with a mistake, or a setting that makes no sense.
        ImageError: there is no image.
        UnknownNameError: no such model, method, metric or site.
        OutputError: the folder cannot be written, or holds a run that was asked for otherwise. What is done is kept.
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
                    prepared_models = prepare_models(options, device, plan.models)
                advance(0)
                run_locally(store, plan, listing.items, todo, prepared_models, workers, advance)
        except OutputError as error:
            kept = sum(len(plan.items_of(shard)) for shard in store.done())
            raise OutputError(
                f"{error}; {kept} of {plan.total} images are kept, and the same command goes on from there"
            ) from error
        seconds = time.perf_counter() - start
        store.log("end", images=plan.total - before, seconds=round(seconds, 3))
    store.tidy()
    return Outcome(store, plan, listing, before, plan.total - before, time.perf_counter() - start)

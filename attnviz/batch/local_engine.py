"""Compute the shards one after the other in this process."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

from attnviz.batch.image_reader import read_ahead, reader
from attnviz.batch.plan import Plan
from attnviz.batch.prepared_model import PreparedModel
from attnviz.batch.shard import compute, preprocessings_of
from attnviz.batch.store import Store
from attnviz.media.image_item import Item


def run_locally(
    store: Store,
    plan: Plan,
    items: Sequence[Item],
    todo: Sequence[int],
    prepared_models: Sequence[PreparedModel],
    workers: int,
    progress: Callable[[int], object],
) -> None:
    """Compute and store shards in their order.

    Args:
        store: Folder of the run.
        plan: Plan of the run.
        items: All images of the run.
        todo: Numbers of the shards.
        prepared_models: The models.
        workers: Threads that read images ahead; 0 for none.
        progress: Progress callback: number of newly finished images.
    """
    wanted = (items[n] for shard in todo for n in plan.items_of(shard))
    with reader(workers) as pool:
        images = read_ahead(
            wanted, preprocessings_of(prepared_models), pool, 2 * plan.options.batch
        )  # reads ahead across the end of a shard
        for shard in todo:
            start, count = time.perf_counter(), len(plan.items_of(shard))
            store.put(shard, compute(itertools.islice(images, count), prepared_models, progress))
            store.log("shard", shard=shard, images=count, seconds=round(time.perf_counter() - start, 3))

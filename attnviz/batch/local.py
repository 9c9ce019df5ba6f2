"""Shards one after the other, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from attnviz.batch.compute import compute
from attnviz.batch.eye import Eye
from attnviz.batch.items import Item
from attnviz.batch.plan import Plan
from attnviz.batch.reading import reader
from attnviz.batch.store import Store


def run_locally(
    store: Store,
    plan: Plan,
    items: Sequence[Item],
    todo: Sequence[int],
    eyes: Sequence[Eye],
    workers: int,
    told: Callable[[int], object],
) -> None:
    """Compute and store shards in their order.

    Args:
        store: Where they go.
        plan: The plan.
        items: All images of the run.
        todo: Numbers of the shards.
        eyes: The models.
        workers: Threads that read images ahead; 0 reads in turn.
        told: Told how many images are done, each time that some are.
    """
    with reader(workers) as pool:
        for shard in todo:
            start = time.perf_counter()
            chosen = [items[n] for n in plan.items_of(shard)]
            store.put(shard, compute(chosen, eyes, pool, told))
            store.log("shard", shard=shard, images=len(chosen), seconds=round(time.perf_counter() - start, 3))

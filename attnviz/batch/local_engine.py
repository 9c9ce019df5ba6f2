"""Compute the shards one after the other in this process."""

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import closing

from attnviz.batch.image_reader import read_ahead
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
    """Compute and store the shards ``todo``; ``workers`` threads read images ahead, also across the end of a shard."""
    wanted = (items[n] for shard in todo for n in plan.items_of(shard))
    ahead = read_ahead(wanted, preprocessings_of(prepared_models), workers, 2 * plan.options.batch)
    with closing(ahead) as images:
        for shard in todo:
            start, count = time.perf_counter(), len(plan.items_of(shard))
            store.put(shard, compute(itertools.islice(images, count), prepared_models, progress))
            store.log("shard", shard=shard, images=count, seconds=round(time.perf_counter() - start, 3))

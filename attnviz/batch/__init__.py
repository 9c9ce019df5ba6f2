"""Reports of many images: a data set is listed, cut into shards, computed shard by shard, and stored as Parquet.

A run is a folder. Its :class:`~attnviz.batch.plan.Plan` is written first; a shard is a pure function of the plan, and
complete or missing, so any engine can compute it, and an interrupted run continues with the missing shards.
"""

from attnviz.batch.plan import Plan, RunOptions
from attnviz.batch.run import Outcome, run
from attnviz.batch.store import Store
from attnviz.media.image_listing import Item, Listing, list_images

__all__ = ["Item", "Listing", "Outcome", "Plan", "RunOptions", "Store", "list_images", "run"]

"""Reading of a run's folder, shard by shard, one table at a time. ``docs/reference/batch.md`` describes the format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnviz.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = "attnviz.batch"


@dataclass(frozen=True, slots=True)
class Run:
    """A run over many images and its completed shards.

    Attributes:
        folder: The run's folder.
        total: Number of images of the run.
        models: Names of the models.
        shards: Numbers of the completed shards.
        plan: Content of ``plan.json``.
    """

    folder: Path
    total: int
    models: tuple[str, ...]
    shards: tuple[int, ...]
    plan: dict[str, Any]

    @property
    def shard_size(self) -> int:
        """Number of images of a shard."""
        return int(self.plan.get("shard_size", 1))

    def table(self, name: str, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read one table of one shard.

        Raises:
            DataError: the file is damaged, or lacks a column.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / name / f"part-{shard:06d}.parquet"
        try:
            return pq.read_table(path, columns=None if columns is None else list(columns), partitioning=None)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read as a table of a run: {error}") from error

    def rows(self, name: str, shard: int, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the rows of one table of one shard."""
        for batch in self.table(name, shard, columns).to_batches(max_chunksize=256):
            yield from batch.to_pylist()


def open_run(folder: Path) -> Run:
    """Read the plan of a run, and find its completed shards.

    Raises:
        DataError: the folder has no valid plan.
    """
    path = folder / "plan.json"
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        models = tuple(one if isinstance(one, str) else str(one["name"]) for one in plan["models"])
        if plan["schema"] != SCHEMA:
            raise DataError(f"{path}: wanted schema {SCHEMA}, got {plan['schema']}")
        names = [one.stem for one in (folder / "answers").glob("part-*.parquet")]
        shards = tuple(sorted(int(name[5:]) for name in names if name[5:].isdecimal()))
        return Run(folder, int(plan["total"]), models, shards, plan)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as the plan of a run: {error}") from error

"""A run's folder, as ``docs/reference/batch.md`` tells it: read shard by shard, one table at a time."""

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
    """What a run was asked, and which of it is there.

    Attributes:
        folder: Its folder.
        total: How many images it is about.
        models: Their names.
        shards: Numbers of the shards that are done.
        plan: All of ``plan.json``.
    """

    folder: Path
    total: int
    models: tuple[str, ...]
    shards: tuple[int, ...]
    plan: dict[str, Any]

    def table(self, name: str, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One table of one shard.

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
        """The rows of one table of one shard."""
        for batch in self.table(name, shard, columns).to_batches(max_chunksize=256):
            yield from batch.to_pylist()


def open_run(folder: Path) -> Run:
    """Look at a run's folder.

    Raises:
        DataError: it holds no plan of a run.
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

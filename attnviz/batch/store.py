"""The folder of a run: the plan, the listing, and one complete file of each table for every shard."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnviz.batch.plan import Plan, differences, models_of, parse
from attnviz.batch.schemas import LAST, TABLES, part, schemas, shard_of
from attnviz.errors import OutputError
from attnviz.media.atomic_files import check_files, is_partial
from attnviz.media.image_item import printable
from attnviz.media.image_listing import Listing
from attnviz.media.remote_files import Folder

if TYPE_CHECKING:
    import pyarrow as pa

PLAN, LOG = "plan.json", "log.jsonl"
_BINARY = frozenset({"values", "jpeg"})

OURS = (
    PLAN, LOG, "items", *TABLES, "details", "index.html", "image.html", "page", "report.json", "report.pdf",
    "measures.csv", "answers.csv",
)  # fmt: skip
"""Everything that a run writes into its folder. ``--overwrite`` deletes only these."""


class Store:
    """The folder of a run. Picklable: every worker writes the shards that it computed.

    Its methods raise an :class:`OutputError` if the folder cannot be written, or a file in it is missing or damaged.

    Args:
        root: A local path, or a URL that pyarrow or fsspec can write to.
    """

    def __init__(self, root: str) -> None:
        self.folder = Folder(str(root))

    def begin(self, plan: Plan, *, overwrite: bool) -> Plan:
        """Find an earlier run in the folder, or delete it to overwrite; nothing is written yet.

        Returns:
            The plan, with the properties of the models from the earlier run.

        Raises:
            OutputError: the folder cannot be written, holds a run with other options (the message lists them), or holds
                other files with the names of :data:`OURS`.
        """
        if self.folder.is_local:
            check_files(Path(self.folder.root), (), "report", overwrite=True)
        if overwrite:
            for name in OURS:
                self.folder.remove(name)
            return plan
        if not self.folder.exists(PLAN):
            taken = [name for name in self.folder.names() if name in OURS and name != LOG]
            if taken:
                raise OutputError(
                    f"{self.folder.root}: holds {', '.join(taken)} and no plan.json; --overwrite replaces "
                    f"{'them' if len(taken) > 1 else 'it'}"
                )
            return plan
        found = parse(self.folder.read(PLAN), self.folder.path(PLAN))
        found["settings"]["images"].pop("given", None)
        different = differences({key: found.get(key) for key in plan.question}, plan.question)
        if different:
            raise OutputError(
                f"{self.folder.root}: holds a run with other options: {'; '.join(different)}. Use the same options "
                "to continue it, another --out to keep both, or --overwrite to replace it"
            )
        return replace(plan, models=models_of(found))

    def open(self, plan: Plan, listing: Listing) -> None:
        """Write the plan and the listing, unless they exist."""
        if not self.folder.exists(PLAN):
            text = json.dumps(plan.as_dict(), ensure_ascii=False, indent=1)
            self.folder.write(PLAN, printable(text).encode() + b"\n")
        name = f"items/{part(0)}"
        if not self.folder.exists(name):
            self.folder.write(name, packed(_items(listing)))

    def done(self) -> set[int]:
        """Return the finished shards: those with ``answers``, which are written last."""
        found = (shard_of(name) for name in self.folder.names(LAST))
        return {number for number in found if number is not None}

    def put(self, shard: int, tables: Mapping[str, pa.Table]) -> None:
        """Write a shard: ``answers`` last, which marks it as complete."""
        for name in TABLES:
            self.folder.write(f"{name}/{part(shard)}", packed(tables[name]))

    def get(self, table: str, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read one table of a shard."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        name = f"{table}/{part(shard)}"
        data = self.folder.read(name)
        try:
            return pq.read_table(pa.BufferReader(data), columns=None if columns is None else list(columns))
        except (pa.ArrowException, OSError) as error:
            raise OutputError(f"{self.folder.path(name)}: damaged: {' '.join(str(error).split())}") from error

    def all(self, table: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield one table of each finished shard, one at a time."""
        for shard in sorted(self.done()):
            yield self.get(table, shard, columns)

    def log(self, event: str, **values: Any) -> None:
        """Append an event with its time to the log, which is not part of the results."""
        self.folder.append(LOG, json.dumps({"time": round(time.time(), 3), "event": event, **values}))

    def tidy(self) -> None:
        """Delete the temporary files of interrupted writers; called once all shards are finished."""
        for table in ("", "items", *TABLES):
            for name in self.folder.names(table):
                if is_partial(name):
                    self.folder.remove(f"{table}/{name}" if table else name)


def packed(table: pa.Table) -> bytes:
    """Return a table as the bytes of a Parquet file: the same bytes for the same rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    texts = [field.name for field in table.schema if field.type == pa.string()]
    plain = [field.name for field in table.schema if field.name in _BINARY]
    pq.write_table(
        table, sink, compression="zstd", use_dictionary=texts,
        write_statistics=[name for name in table.schema.names if name not in plain and name != "top"],
    )  # fmt: skip
    return bytes(sink.getvalue())


def _items(listing: Listing) -> pa.Table:
    import pyarrow as pa

    rows = [
        {
            "item": item.number, "path": printable(item.path), "label": item.label and printable(item.label),
            "boxes": [list(box) for box in item.boxes] or None, "mask": item.mask and printable(item.mask),
            "same_as": None,
        }
        for item in listing.items
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schemas()["items"])

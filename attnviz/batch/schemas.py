"""The tables of a run: one Parquet file of each for every shard. ``docs/reference/batch.md`` lists the columns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = ("measures", "maps", "thumbnails", "answers")
"""Tables in the order in which they are written: a shard is complete once ``answers`` exists."""

LAST = "answers"


@cache
def schemas() -> Mapping[str, pa.Schema]:
    """Return the schema of each table by name."""
    import pyarrow as pa

    def of(**columns: pa.DataType) -> pa.Schema:
        return pa.schema([pa.field(name, kind) for name, kind in columns.items()])

    text, whole, real = pa.string(), pa.int32(), pa.float64()
    return {
        "items": of(
            item=pa.int64(), path=text, label=text, boxes=pa.list_(pa.list_(whole)), mask=text, same_as=pa.int64()
        ),
        "measures": of(
            item=pa.int64(), image=text, label=text, model=text, kind=text, subject=text, other=text, measure=text,
            value=real, why=text,
        ),
        "maps": of(
            item=pa.int64(), model=text, name=text, kind=text, method=text, source=text, height=whole, width=whole,
            low=pa.float32(), high=pa.float32(), signed=pa.bool_(), values=pa.binary(),
        ),
        "thumbnails": of(item=pa.int64(), model=text, width=whole, height=whole, jpeg=pa.binary()),
        "answers": of(
            item=pa.int64(), image=text, label=text, model=text, status=text, reason=text, target=whole,
            target_label=text, probability=real, score=real, unit=text,
            top=pa.list_(pa.struct([
                ("index", whole), ("label", text), ("probability", real), ("score", real), ("unit", text),
                ("box", pa.list_(real)),
            ])),
            correct=pa.bool_(), width=whole, height=whole, sha256=text,
        ),
    }  # fmt: skip


def part(shard: int) -> str:
    """Return the file name of a shard.

    >>> part(17)
    'part-000017.parquet'
    """
    return f"part-{shard:06d}.parquet"


def shard_of(name: str) -> int | None:
    """Return the number of the shard in a file name; ``None`` for other files."""
    digits = name.removeprefix("part-").removesuffix(".parquet")
    return int(digits) if name == f"part-{digits}.parquet" and digits.isdecimal() else None

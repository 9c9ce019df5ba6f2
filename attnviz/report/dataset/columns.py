"""Every measure of a run as a column with one number for each image, in a file and not in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.dataset.run_folder import Run

if TYPE_CHECKING:
    import pyarrow as pa

MOST_SAMPLED = 20_000
"""Figures and intervals are drawn from this many images at most, evenly spaced."""

_BETWEEN = "\x1f"
_CHUNK = 1 << 16


class Column(NamedTuple):
    """What a number is about.

    Attributes:
        model: Name of the model.
        kind: ``"attention"`` or ``"attribution"`` of a map, ``"site"``, ``"pair"``, ``"answer"``.
        subject: The map or site; empty for an answer, and for the mean of all subjects of the kind.
        other: The second map of a pair, or what of a site.
        measure: Name of the measure.
    """

    model: str
    kind: str
    subject: str
    other: str
    measure: str

    @property
    def of_all(self) -> bool:
        """Whether it is the mean of all subjects of its kind."""
        return not self.subject and self.kind != "answer"


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The columns of a run.

    Attributes:
        keys: What each is about; means of a kind come last.
        values: ``(columns, images)`` float32; NaN where there is no number.
    """

    keys: tuple[Column, ...]
    values: Array

    def where(self, **wanted: str) -> list[int]:
        """Places of the columns with these fields.

        >>> columns = Columns((Column("m", "pair", "a", "b", "ssim"), Column("m", "answer", "", "", "margin")), None)
        >>> columns.where(kind="answer")
        [1]
        """
        return [at for at, key in enumerate(self.keys) if all(getattr(key, k) == v for k, v in wanted.items())]

    def sample(self, places: Sequence[int]) -> Array:
        """Numbers ``(places, n)`` of evenly spaced images, at most :data:`MOST_SAMPLED`."""
        stride = stride_of(self.values.shape[1])
        sampled: Array = np.stack([np.asarray(self.values[at, ::stride]) for at in places])
        return sampled


def stride_of(images: int) -> int:
    """Every how manyth image figures are drawn from.

    >>> stride_of(20_000), stride_of(20_001)
    (1, 2)
    """
    return max(1, -(-images // MOST_SAMPLED))


def gather(run: Run, scratch: Path) -> Columns:
    """Read all measures of the shards that are done.

    Args:
        run: The run.
        scratch: A file to keep the numbers in.
    """
    found: dict[str, None] = {}
    for _, coded in _coded(run):
        found.update(dict.fromkeys(coded.dictionary.to_pylist()))
    own = [Column(*text.split(_BETWEEN)) for text in found]
    means: dict[Column, list[int]] = {}
    for at, key in enumerate(own):
        if key.kind != "answer":
            means.setdefault(key._replace(subject="", other=""), []).append(at)
    means = {key: members for key, members in means.items() if len(members) > 1}
    values = np.memmap(scratch, np.float32, "w+", shape=(max(1, len(own) + len(means)), max(1, run.total)))
    for start in range(0, values.shape[1], _CHUNK):
        values[:, start : start + _CHUNK] = np.nan
    place = {text: at for at, text in enumerate(found)}
    for table, coded in _coded(run):
        places = np.array([place[text] for text in coded.dictionary.to_pylist()], np.int64)
        items = table["item"].to_numpy()
        values[places[coded.indices.to_numpy(zero_copy_only=False)], items] = table["value"].to_numpy()
    for at, members in enumerate(means.values(), len(own)):
        for start in range(0, values.shape[1], _CHUNK):
            values[at, start : start + _CHUNK] = mean_without_nan(values[members, start : start + _CHUNK])
    return Columns((*own, *means), values)


def mean_without_nan(values: Array) -> Array:
    """The mean over the first axis of what is a number; NaN where nothing is.

    >>> mean_without_nan(np.array([[1.0, np.nan], [2.0, np.nan]])).tolist()
    [1.5, nan]
    """
    there = ~np.isnan(values)
    count = there.sum(0)
    total = np.where(there, values, 0).sum(0)
    mean: Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _coded(run: Run) -> Iterator[tuple[pa.Table, Any]]:
    """Each shard's measures, and what each row is about as a dictionary-encoded text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = list(Column._fields)
    for shard in run.shards:
        table = run.table("measures", shard, ["item", *keys, "value"])
        # Only a join of texts is told apart quickly; the separator is in no name that a file system or a model has.
        joined = pc.binary_join_element_wise(*[table[key].cast(pa.string()) for key in keys], _BETWEEN)
        yield table, joined.combine_chunks().dictionary_encode()

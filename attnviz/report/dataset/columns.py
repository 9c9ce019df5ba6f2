"""Every measure of a run as a column with one number per image, stored in a file instead of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.glossary import is_defined, title
from attnviz.report.dataset.run_folder import Run

if TYPE_CHECKING:
    import pyarrow as pa

MAX_SAMPLED = 20_000
"""Largest number of images, evenly spaced, for figures and intervals."""

_SEPARATOR = "\x1f"
_CHUNK = 1 << 16


class Column(NamedTuple):
    """The key of a column: a measure and its subject.

    Attributes:
        model: Name of the model.
        kind: ``"attention"`` or ``"attribution"`` for a map, ``"site"``, ``"pair"``, ``"answer"`` for a prediction.
        subject: The map or site; empty for a prediction, and for the mean of all subjects of the kind.
        other: The second map of a pair, or the tensor of a site.
        measure: Name of the measure.
    """

    model: str
    kind: str
    subject: str
    other: str
    measure: str

    @property
    def of_all(self) -> bool:
        """Whether the column is the mean of all subjects of its kind."""
        return not self.subject and self.kind != "answer"


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The columns of a run.

    Attributes:
        keys: Keys of the columns; means of a kind come last.
        values: ``(columns, images)`` float32; NaN for a missing number.
    """

    keys: tuple[Column, ...]
    values: Array

    def where(self, **fields: str) -> list[int]:
        """Return the indices of the columns whose keys have these fields.

        >>> columns = Columns((Column("m", "pair", "a", "b", "ssim"), Column("m", "answer", "", "", "margin")), None)
        >>> columns.where(kind="answer")
        [1]
        """
        return [at for at, key in enumerate(self.keys) if all(getattr(key, k) == v for k, v in fields.items())]

    def sample(self, indices: Sequence[int]) -> Array:
        """Return the numbers ``(indices, n)`` of at most :data:`MAX_SAMPLED` evenly spaced images."""
        stride = stride_of(self.values.shape[1])
        sampled: Array = np.stack([np.asarray(self.values[at, ::stride]) for at in indices])
        return sampled


def subject_title(name: str) -> str:
    """Return the title of a map: that of an attribution method, or the name of a site."""
    return title("method", name) if is_defined("method", name) else name


def stride_of(images: int) -> int:
    """Return the stride of the images that are sampled for figures.

    >>> stride_of(20_000), stride_of(20_001)
    (1, 2)
    """
    return max(1, -(-images // MAX_SAMPLED))


def gather(run: Run, scratch: Path) -> Columns:
    """Read all measures of the completed shards; the file ``scratch`` stores the numbers."""
    index: dict[str, int] = {}
    for _, keys in _coded_tables(run):
        for text in keys.dictionary.to_pylist():
            index.setdefault(text, len(index))
    own = [Column(*text.split(_SEPARATOR)) for text in index]
    means = _means(own)
    values = np.memmap(scratch, np.float32, "w+", shape=(max(1, len(own) + len(means)), max(1, run.total)))
    for start in range(0, values.shape[1], _CHUNK):
        values[:, start : start + _CHUNK] = np.nan
    for table, keys in _coded_tables(run):
        columns = np.array([index[text] for text in keys.dictionary.to_pylist()], np.int64)
        items = table["item"].to_numpy()
        values[columns[keys.indices.to_numpy(zero_copy_only=False)], items] = table["value"].to_numpy()
    for at, members in enumerate(means.values(), len(own)):
        for start in range(0, values.shape[1], _CHUNK):
            values[at, start : start + _CHUNK] = mean_without_nan(values[members, start : start + _CHUNK])
    return Columns((*own, *means), values)


def _means(own: Sequence[Column]) -> dict[Column, list[int]]:
    """Return the key of each mean over the subjects of a kind, with its members."""
    means: dict[Column, list[int]] = {}
    for at, key in enumerate(own):
        if key.kind != "answer":
            means.setdefault(key._replace(subject="", other=""), []).append(at)
    return {key: members for key, members in means.items() if len(members) > 1}


def mean_without_nan(values: Array) -> Array:
    """Return the mean over the first axis without NaN; NaN if all values are NaN.

    >>> mean_without_nan(np.array([[1.0, np.nan], [2.0, np.nan]])).tolist()
    [1.5, nan]
    """
    known = ~np.isnan(values)
    count = known.sum(0)
    total = np.where(known, values, 0).sum(0)
    mean: Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _coded_tables(run: Run) -> Iterator[tuple[pa.Table, Any]]:
    """Yield the measures of each shard, and the key of each row as dictionary-encoded text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = list(Column._fields)
    for shard in run.shards:
        table = run.table("measures", shard, ["item", *keys, "value"])
        # One joined text is encoded quickly. The separator does not occur in names of files or models.
        joined = pc.binary_join_element_wise(*[table[key].cast(pa.string()) for key in keys], _SEPARATOR)
        yield table, joined.combine_chunks().dictionary_encode()

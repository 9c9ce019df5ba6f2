"""What a comparison of maps found, as plain data: every format of its report is written from it and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attnviz.core.intervals import Interval
from attnviz.core.json_encoding import to_plain

SCHEMA = "attnviz.comparison"
VERSION = 1

_WRITTEN = {
    "road": "ROAD", "iou": "IoU", "auc": "AUC", "ssim": "SSIM", "topk_iou": "top-k IoU",
    "jensen_shannon": "Jensen–Shannon divergence", "earth_movers": "earth mover's distance",
    "centre_distance": "distance of the centres", "spearman": "Spearman correlation", "pearson": "Pearson correlation",
}  # fmt: skip


def words(name: str) -> str:
    """What people call a metric or a measure of agreement.

    >>> words("average_drop"), words("topk_iou")
    ('average drop', 'top-k IoU')
    """
    return _WRITTEN.get(name, name.replace("_", " "))


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of the matrix.

    Attributes:
        name: As in its registry.
        higher_is: ``"better"`` or ``"worse"``.
        summary: One line that says what it is.
    """

    name: str
    higher_is: str
    summary: str


@dataclass(frozen=True, slots=True)
class Row:
    """A map that was compared.

    Attributes:
        name: Unique: the method or the site, after the model's name where there are several models.
        model: Whose it is.
        kind: ``"attention"``, ``"attribution"`` or ``"baseline"``.
        source: The site or layer that it describes.
        cells: Metric -> its mean.
        insertion: Mean probability at each share of :attr:`Comparison.shares`.
        deletion: The same.
    """

    name: str
    model: str
    kind: str
    source: str
    cells: Mapping[str, Interval]
    insertion: tuple[float, ...] = ()
    deletion: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One image as one model saw it, and the maps of it.

    Attributes:
        image: Its path.
        model: Whose maps these are.
        target: The class that was asked about.
        pixels: The crop, ``(H, W, 3)`` uint8 RGB.
        maps: Name of a row -> values ``(h, w)``.
    """

    image: str
    model: str
    target: str
    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    maps: Mapping[str, np.ndarray[Any, np.dtype[np.float32]]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Maps by metrics, their agreement, and what that says.

    Attributes:
        images: Paths, as they were given.
        targets: For each model, the class that was asked about in each image.
        metrics: Columns.
        rows: Maps; baselines last.
        shares: Which share of the pixels was changed, at each point of the curves.
        agreement: Measure -> matrix in the order of the rows without baselines, means over the images.
        lower_is_alike: Measures of agreement that are distances.
        beside: Measure -> what chance and the middle give: means over pairs.
        summary: What agrees with what and what was best, in sentences.
        caveats: What it does not say.
        settings: How it was made.
        shown: The first images with their maps, for people to look at: not a part of :meth:`as_dict`.
    """

    images: tuple[str, ...]
    targets: Mapping[str, tuple[str, ...]]
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    shares: tuple[float, ...]
    agreement: Mapping[str, tuple[tuple[float, ...], ...]]
    lower_is_alike: tuple[str, ...]
    beside: Mapping[str, Mapping[str, float]]
    summary: tuple[str, ...]
    caveats: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    shown: tuple[Shown, ...] = ()

    @property
    def compared(self) -> tuple[Row, ...]:
        """The rows that are no baselines."""
        return tuple(row for row in self.rows if row.kind != "baseline")

    def as_dict(self) -> dict[str, Any]:
        """What ``json`` can write; a NaN is ``None``."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "shown"}
        return {"schema": SCHEMA, "version": VERSION, **to_plain(content)}

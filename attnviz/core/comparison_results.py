"""Results of a comparison of maps, as plain data; every format of its report is written from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attnviz.core.intervals import Interval
from attnviz.core.json_encoding import to_plain

SCHEMA = "attnviz.comparison"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of the matrix.

    Attributes:
        name: Name of the measure.
        higher_is: ``"better"`` or ``"worse"``.
        summary: One-line description.
    """

    name: str
    higher_is: str
    summary: str


@dataclass(frozen=True, slots=True)
class Row:
    """A map that was compared.

    Attributes:
        name: Unique name: the method or the site, prefixed by the model if there are several models.
        model: Name of the model.
        kind: ``"attention"``, ``"attribution"`` or ``"baseline"``.
        source: The site or layer that it describes.
        cells: Metric -> mean with its interval.
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
class ImageMaps:
    """The input of one model for one image, and its maps.

    Attributes:
        image: Its path.
        model: Name of the model.
        target: The class that is explained.
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
    """Maps by metrics, their agreement, and a summary.

    Attributes:
        images: Paths of the images.
        targets: Model -> the class that is explained for each image.
        metrics: Columns.
        rows: Maps; baselines last.
        shares: Share of changed pixels at each point of the curves.
        agreement: Measure -> matrix in the order of the rows without baselines, means over the images.
        lower_is_alike: Measures of agreement that are distances.
        beside: Measure -> means over pairs: of the maps, with the centre, and with a moved map.
        summary: Sentences: the best map of each metric, and groups of maps that agree.
        caveats: What must not be concluded.
        settings: Options of the run.
        shown: The first images with their maps; not part of :meth:`as_dict`.
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
    shown: tuple[ImageMaps, ...] = ()

    @property
    def compared(self) -> tuple[Row, ...]:
        """The rows without the baselines."""
        return tuple(row for row in self.rows if row.kind != "baseline")

    def as_dict(self) -> dict[str, Any]:
        """The results as what ``json`` can write; NaN becomes ``None``."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "shown"}
        return {"schema": SCHEMA, "version": VERSION, **to_plain(content)}

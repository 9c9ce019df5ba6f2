"""What a report says, as plain data: every format is written from a :class:`Document` and nothing else.

So the JSON file holds everything that the page and the figure show, and a page can be made again from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.explanation_results import Prediction
from attnviz.core.records import Kind, Score
from attnviz.report.core.component import Backdrop, Component
from attnviz.report.core.map_view import MapView

SCHEMA = "attnviz.explanation"
VERSION = 1

STORED_VALUES = 1 << 17
"""A ``g`` of more values than this (131,072) is shown by its map and its numbers alone."""

FRAME_PX = 112
"""Maps of the frames of a clip have at most this many values along a side."""

BOUNDED_BY = frozenset({"sigmoid", "hardsigmoid", "softmax"})
"""What keeps a gate between 0 and 1."""


@dataclass(frozen=True, slots=True, eq=False)
class SiteView:
    """One attention site in one call.

    Attributes:
        name: Unique in the report.
        module: Dotted path.
        type_name: Class of the module.
        kind: What ``g`` weighs.
        operation: The operation that applies ``g``.
        squash: What bounded ``g``; ``None`` for an unbounded one.
        where: ``file:line`` of the operation, without its folder.
        shape: Shape of ``g`` for this image, batch axis included.
        low: Smallest value of ``g``.
        mean: Mean of ``g``.
        high: Largest value of ``g``.
        error: Largest difference between ``f(g, x)`` and what the model computed, relative to the largest output.
        g: ``g`` of this image without its batch axis; ``None`` above :data:`STORED_VALUES` values.
        components: What its kind of attention puts on display, see :mod:`attnviz.report.kinds`.
    """

    name: str
    module: str
    type_name: str
    kind: str
    operation: str
    squash: str | None
    where: str
    shape: tuple[int, ...]
    low: float
    mean: float
    high: float
    error: float
    g: Array | None
    components: tuple[Component, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class FrameMaps(MapView):
    """One map for each frame of a clip, all on one colour scale: ``values`` is ``(T, h, w)`` float16.

    Attributes of :class:`MapView`; ``h`` and ``w`` are at most :data:`FRAME_PX`.
    """

    def of(self, frame: int) -> MapView:
        """The map of one frame."""
        values = self.values[frame].astype(np.float32)
        scale = (self.low, self.high, self.signed, self.clipped)
        return MapView(self.name, self.kind, self.method, self.source, values, *scale)


@dataclass(frozen=True, slots=True, eq=False)
class ClipView:
    """The frames of a clip.

    Attributes:
        frames: ``(T, H, W, 3)`` uint8, as the model saw them.
        seconds: When each is seen.
        total: How many frames the clip has.
        shown: Which of them the rest of the document is about.
        together: Whether the model looked at all of them together.
        weights: ``(T,)``: the temporal weight of each frame, or the probability of the target in each; empty where
            there is neither.
        maps: Attention first, then attributions.
    """

    frames: Array
    seconds: tuple[float, ...]
    total: int
    shown: int
    together: bool
    weights: Array
    maps: tuple[FrameMaps, ...]

    @property
    def weighs(self) -> str:
        """What the weights are."""
        return "temporal weight" if self.together else "probability of the target"

    def best(self) -> FrameMaps | None:
        """The maps that an animation shows: of spatial attention, or else of the first attribution."""
        spatial = [maps for maps in self.maps if maps.method in {"gate", "joint-log-odds"}]
        others = [maps for maps in self.maps if maps.kind == "attribution"]
        return next(iter([*spatial[::-1], *others, *self.maps]), None)


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """Everything that a report shows.

    Attributes:
        image: Path as it was given.
        model: Name of the model.
        target: The class that the attributions explain.
        predictions: Most probable classes, best first.
        pixels: What the model saw, ``(H, W, 3)`` uint8.
        photo: The same part, finer, for people; ``None`` where there is none.
        maps: Attention first, then attributions.
        sites: In the order of the forward pass.
        scores: Every number that was measured.
        notes: What the reader must know.
        settings: How it was made.
        clip: The frames, if it is about a clip.
    """

    image: str
    model: str
    target: Prediction
    predictions: tuple[Prediction, ...]
    pixels: Array
    photo: Array | None
    maps: tuple[MapView, ...]
    sites: tuple[SiteView, ...]
    scores: tuple[Score, ...]
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    clip: ClipView | None = None

    @property
    def file_name(self) -> str:
        """The image's name without its folder; pixels that came from no file have none."""
        return PurePath(self.image).name or "photograph"

    @property
    def picture(self) -> Array:
        """The finest picture there is of what the model saw."""
        return self.pixels if self.photo is None else self.photo

    def of_kind(self, kind: str) -> tuple[MapView, ...]:
        """The maps of one kind."""
        return tuple(view for view in self.maps if view.kind == kind)

    def measures_between_maps(self) -> dict[str, dict[tuple[str, str], Score]]:
        """Measure -> pair of maps -> score, both ways round."""
        names = {view.name for view in self.maps}
        table: dict[str, dict[tuple[str, str], Score]] = {}
        for (a, b), score in self._of_two(names, names):
            table.setdefault(score.measure, {}).update({(a, b): score, (b, a): score})
        return table

    def measures_of_sites(self) -> dict[str, dict[tuple[str, str], Score]]:
        """Measure -> (site, what of it: ``g``, ``x`` or ``y``) -> score."""
        table: dict[str, dict[tuple[str, str], Score]] = {}
        for subject, score in self._of_two({site.name for site in self.sites}, {"g", "x", "y"}):
            table.setdefault(score.measure, {})[subject] = score
        return table

    def _of_two(self, firsts: Set[str], seconds: Set[str]) -> Iterator[tuple[tuple[str, str], Score]]:
        """The scores whose subject is a pair of these."""
        for score in self.scores:
            if len(score.subject) == 2 and score.subject[0] in firsts and score.subject[1] in seconds:
                yield (score.subject[0], score.subject[1]), score


def shows_bounded_gate(view: MapView, site: SiteView | None) -> bool:
    """Whether a map shows a gate itself that lies between 0 and 1, while its colours span what it takes of that."""
    if site is None or view.method != "gate" or site.squash not in BOUNDED_BY:
        return False
    return 0 <= site.low <= site.high <= 1  # a sigmoid may be rescaled before it is applied


def channel_gates(document: Document) -> tuple[SiteView, ...]:
    """The sites whose ``g`` weighs channels and is stored."""
    return tuple(site for site in document.sites if site.kind == Kind.CHANNEL.value and site.g is not None)


def backdrop_of(document: Document) -> Backdrop:
    """What a document's components may be laid over."""
    clip = document.clip
    return Backdrop(document.picture) if clip is None else Backdrop(document.picture, clip.frames, clip.seconds)

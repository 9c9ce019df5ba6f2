"""What a report says, as plain data: every format is written from a :class:`Document` and nothing else.

So the JSON file holds everything that the page and the figure show, and a page can be made again from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from attnviz.records import Kind, Prediction, Score

if TYPE_CHECKING:
    from attnviz.report.exhibits import Exhibit

Array = np.ndarray[Any, np.dtype[Any]]

SCHEMA = "attnviz.explanation"
VERSION = 1

STORED_VALUES = 1 << 17
"""A ``g`` of more values than this (131,072) is shown by its map and its numbers alone."""

FRAME_PX = 112
"""Maps of the frames of a clip have at most this many values along a side."""

BOUNDED_BY = frozenset({"sigmoid", "hardsigmoid", "softmax"})
"""What keeps a gate between 0 and 1."""

CLIP_PERCENTILE = 99
"""Colours of attributions end here: gradients have a few pixels that would leave the rest black."""


@dataclass(frozen=True, slots=True, eq=False)
class MapView:
    """One map on the image plane, and how it is coloured.

    Attributes:
        name: Unique in the report.
        kind: ``"attention"`` or ``"attribution"``.
        method: How it came about.
        source: The site or layer that it describes.
        values: ``(H, W)`` float32, as measured.
        low: Value at the colour scale's low end.
        high: Value at its high end.
        signed: Whether the scale is centred on 0.
        clipped: Whether values beyond the ends exist.
    """

    name: str
    kind: str
    method: str
    source: str
    values: Array
    low: float
    high: float
    signed: bool
    clipped: bool


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
        exhibits: What its kind of attention puts on display, see :mod:`attnviz.report.languages`.
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
    exhibits: tuple[Exhibit, ...] = ()


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


def colour_range(values: Array, *, kind: str) -> tuple[float, float, bool, bool]:
    """Ends of the colour scale, whether it is centred on 0, and whether it clips.

    Attention spans its own smallest to largest value. An attribution ends at the 99th percentile of its absolute
    values. A map with both signs gets a scale centred on 0.

    >>> colour_range(np.array([[0.25, 0.5]]), kind="attention")
    (0.25, 0.5, False, False)
    >>> colour_range(np.array([[-1.0, 2.0]]), kind="attention")
    (-2.0, 2.0, True, False)
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0, False, False
    low, high = float(finite.min()), float(finite.max())
    largest = max(-low, high)
    # A few rounding errors below 0 do not make a map signed.
    signed = low < -1e-3 * largest and high > 0
    top = largest
    if kind == "attribution":
        top = float(np.percentile(np.abs(finite), CLIP_PERCENTILE)) or largest
    if signed:
        return -top, top, True, top < largest
    if high <= 0:
        return low, high, False, False
    return low, max(top, low) if kind == "attribution" else high, False, top < largest


def shows_bounded_gate(view: MapView, site: SiteView | None) -> bool:
    """Whether a map shows a gate itself that lies between 0 and 1, while its colours span what it takes of that."""
    if site is None or view.method != "gate" or site.squash not in BOUNDED_BY:
        return False
    return 0 <= site.low <= site.high <= 1  # a sigmoid may be rescaled before it is applied


def channel_gates(document: Document) -> tuple[SiteView, ...]:
    """The sites whose ``g`` weighs channels and is stored."""
    return tuple(site for site in document.sites if site.kind == Kind.CHANNEL.value and site.g is not None)

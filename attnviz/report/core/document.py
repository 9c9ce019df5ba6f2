"""The content of an explanation's report as plain data.

Every format is written from a :class:`Document` only. The JSON file therefore holds everything that the page and the
figure show, and the page can be rebuilt from it.
"""

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
"""Largest number of values of a stored ``g`` (131,072). A larger ``g`` is represented by its map and statistics."""

FRAME_PX = 112
"""Largest side of the maps of a clip's frames, in values."""

BOUNDING = frozenset({"sigmoid", "hardsigmoid", "softmax"})
"""Functions that bound a gate to [0, 1]."""


@dataclass(frozen=True, slots=True, eq=False)
class SiteView:
    """One attention site in one call.

    Attributes:
        name: Name, unique in the report.
        module: Dotted path of the module.
        type_name: Class of the module.
        kind: Kind of attention.
        operation: The operation that applies ``g``.
        squash: The function that bounds ``g``; ``None`` for an unbounded ``g``.
        where: ``file:line`` of the operation, without its folder.
        shape: Shape of ``g`` for this image, including the batch axis.
        low: Smallest value of ``g``.
        mean: Mean of ``g``.
        high: Largest value of ``g``.
        error: Largest difference between ``f(g, x)`` and the model's output, relative to the largest output.
        g: ``g`` of this image without its batch axis; ``None`` above :data:`STORED_VALUES` values.
        components: Components of its kind of attention, see :mod:`attnviz.report.kinds`.
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
    """One map for each frame of a clip, all on one colour scale.

    Attributes as in :class:`MapView`, except ``values``: ``(T, h, w)`` float16, ``h`` and ``w`` at most
    :data:`FRAME_PX`.
    """

    def of(self, frame: int) -> MapView:
        """Return the map of one frame."""
        values = self.values[frame].astype(np.float32)
        scale = (self.low, self.high, self.signed, self.clipped)
        return MapView(self.name, self.kind, self.method, self.source, values, *scale)


@dataclass(frozen=True, slots=True, eq=False)
class ClipView:
    """The frames of a clip.

    Attributes:
        frames: Sampled frames, cropped and resized for the model, ``(T, H, W, 3)`` uint8.
        seconds: Time of each frame.
        total: Number of frames of the whole clip.
        shown: Index of the frame that the rest of the document describes.
        together: Whether the model takes all frames as one input.
        weights: ``(T,)``: the temporal weight of each frame, or the probability of the target in each frame; empty
            if there is neither.
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
    def weight_name(self) -> str:
        """Name of the weights."""
        return "temporal weight" if self.together else "probability of the target"

    def animated_maps(self) -> FrameMaps | None:
        """Return the maps of the animation: those of the last spatial attention, or else of the first attribution."""
        spatial = [maps for maps in self.maps if maps.method in {"gate", "joint-log-odds"}]
        others = [maps for maps in self.maps if maps.kind == "attribution"]
        return next(iter([*spatial[::-1], *others, *self.maps]), None)


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """The content of a report.

    Attributes:
        image: Path of the image as it was given; empty for pixels that came from no file.
        model: Name of the model.
        target: The class that the attributions explain.
        predictions: Most probable classes, best first.
        pixels: Model input, ``(H, W, 3)`` uint8.
        photo: The same part of the image at a higher resolution, for display; ``None`` if there is none.
        maps: Maps, attention before attributions.
        sites: Attention sites, in the order of the forward pass.
        scores: All measured scores.
        notes: Notes on limits and negative results.
        settings: Settings of the explanation.
        clip: The frames, if the input is a clip.
        answer: What the model predicts, as pictures.
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
    answer: tuple[Component, ...] = ()

    @property
    def file_name(self) -> str:
        """The image's name without its folder; ``"image"`` for pixels that came from no file."""
        return PurePath(self.image).name or "image"

    @property
    def picture(self) -> Array:
        """The model input at the highest available resolution."""
        return self.pixels if self.photo is None else self.photo

    def of_kind(self, kind: str) -> tuple[MapView, ...]:
        """Return the maps of one kind."""
        return tuple(view for view in self.maps if view.kind == kind)

    def measures_between_maps(self) -> dict[str, dict[tuple[str, str], Score]]:
        """Return measure -> pair of maps -> score, with both orders of each pair."""
        names = {view.name for view in self.maps}
        table: dict[str, dict[tuple[str, str], Score]] = {}
        for (a, b), score in self._pair_scores(names, names):
            table.setdefault(score.measure, {}).update({(a, b): score, (b, a): score})
        return table

    def measures_of_sites(self) -> dict[str, dict[tuple[str, str], Score]]:
        """Return measure -> (site, tensor: ``g``, ``x`` or ``y``) -> score."""
        table: dict[str, dict[tuple[str, str], Score]] = {}
        for subject, score in self._pair_scores({site.name for site in self.sites}, {"g", "x", "y"}):
            table.setdefault(score.measure, {})[subject] = score
        return table

    def _pair_scores(self, firsts: Set[str], seconds: Set[str]) -> Iterator[tuple[tuple[str, str], Score]]:
        """Yield the scores whose subject is a pair of a first and a second name."""
        for score in self.scores:
            if len(score.subject) == 2 and score.subject[0] in firsts and score.subject[1] in seconds:
                yield (score.subject[0], score.subject[1]), score


def shows_bounded_gate(view: MapView, site: SiteView | None) -> bool:
    """Return whether a map shows the values of a gate that is bounded to [0, 1]."""
    if site is None or view.method != "gate" or site.squash not in BOUNDING:
        return False
    return 0 <= site.low <= site.high <= 1  # some models rescale a sigmoid before they apply it


def channel_gates(document: Document) -> tuple[SiteView, ...]:
    """Return the channel gates whose ``g`` is stored."""
    return tuple(site for site in document.sites if site.kind == Kind.CHANNEL.value and site.g is not None)


def backdrop_of(document: Document) -> Backdrop:
    """Return the image and frames that a document's components are drawn over."""
    clip = document.clip
    return Backdrop(document.picture) if clip is None else Backdrop(document.picture, clip.frames, clip.seconds)

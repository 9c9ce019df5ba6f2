"""Results of an explanation, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from attnviz.core.records import Heatmap, Record, Score

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Prediction:
    """One thing that a model predicts: a class, a value, an object, or an embedding's norm.

    Attributes:
        index: The class, or the number of the output; ``None`` for a target without one.
        label: Its name.
        score: Its number, in ``unit``.
        unit: ``"probability"``, ``"value"``, ``"score"`` or another unit of the task.
        box: Left, top, right, bottom of an object, in pixels of the input; ``None`` for anything else.
        query: The query of a detector that found the object; ``None`` without queries.
    """

    index: int | None
    label: str
    score: float
    unit: str = "probability"
    box: tuple[float, float, float, float] | None = None
    query: int | None = None

    @property
    def probability(self) -> float | None:
        """The score if it is a probability."""
        return self.score if self.unit == "probability" else None

    @property
    def number(self) -> str:
        """The score with its unit, to three digits."""
        if self.unit == "probability":
            return f"p = {self.score:.3f}" if self.score >= 0.0005 else "p < 0.001"
        return f"{self.unit} {self.score:.3g}"

    def __str__(self) -> str:
        return f"{self.label}, {self.number}"

    def is_of(self, target: Prediction) -> bool:
        """Whether this is what a target is about: the same class or output and, of objects, the same box or query."""
        if self.index is None or self.index != target.index:
            return False
        if self.box is not None and target.box is not None:
            return all(abs(a - b) < 1 for a, b in zip(self.box, target.box, strict=True))
        return self.query == target.query


def bars_of(predictions: Sequence[Prediction]) -> list[float]:
    """The length of a bar for each prediction, in [0, 1]: shares as they are, others relative to the largest."""
    largest = max((abs(one.score) for one in predictions), default=0.0)
    whole = largest if any(not 0 <= one.score <= 1 for one in predictions) else 1.0
    return [abs(one.score) / whole if whole else 0.0 for one in predictions]


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """The sampled frames of a clip.

    Attributes:
        frames: Frames at the input size of the model, ``(T, H, W, 3)`` uint8 RGB.
        photos: The same frames at a higher resolution, for display; ``None`` if there is none.
        seconds: Time of each frame.
        total: Number of frames of the clip.
        shown: Index of the frame that the rest of the explanation describes.
        together: Whether one forward pass takes all frames together, or each frame is a separate input.
        by_frame: Probability of the target in each frame; empty if one pass takes all frames together.
        heatmaps: Maps of every frame, ``N = T``.
    """

    frames: np.ndarray[Any, np.dtype[np.uint8]]
    photos: np.ndarray[Any, np.dtype[np.uint8]] | None
    seconds: tuple[float, ...]
    total: int
    shown: int
    together: bool
    by_frame: tuple[float, ...]
    heatmaps: tuple[Heatmap, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ExplanationData:
    """The data of a report about one image and one model.

    Attributes:
        image: Path of the image, as given.
        pixels: The image at the input size of the model, ``(H, W, 3)`` uint8 RGB.
        photo: The same part of the image at a higher resolution, for display, ``(H', W', 3)`` uint8 RGB; ``None`` if
            there is none.
        model: Name of the model.
        predictions: The most probable classes, best first.
        target: The class that the attributions explain.
        records: Records of all attention sites.
        heatmaps: Attention and attribution maps of one image, ``N = 1``.
        scores: All measured numbers.
        settings: Methods, seed, device, versions.
        notes: Limits and negative results, for the reader.
        errors: Verified relative error of ``f(g, x)``, by name of the record.
        classes: ``(H, W)``: the predicted class of each position, of a segmentation.
        values: ``(H, W)``: the predicted value of each position, of a dense regression.
        region: ``(H, W)`` bool: where the score of the target is read, if that is a region.
        clip: The frames if ``image`` is a clip. The other fields then describe one frame; predictions are those of the
            clip if one forward pass takes all frames together.
    """

    image: str
    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    model: str
    predictions: tuple[Prediction, ...]
    target: Prediction
    records: tuple[Record, ...]
    heatmaps: tuple[Heatmap, ...]
    scores: tuple[Score, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    photo: np.ndarray[Any, np.dtype[np.uint8]] | None = None
    clip: Clip | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    classes: np.ndarray[Any, np.dtype[np.int64]] | None = None
    values: np.ndarray[Any, np.dtype[np.float32]] | None = None
    region: np.ndarray[Any, np.dtype[np.bool_]] | None = None

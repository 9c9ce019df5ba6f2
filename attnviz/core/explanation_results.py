"""What an explanation found, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from attnviz.core.records import Heatmap, Record, Score

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Prediction:
    """A class and its probability."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """The frames of a clip that a model saw.

    Attributes:
        frames: ``(T, H, W, 3)`` uint8 RGB, as the model saw them.
        photos: The same, finer, for people; ``None`` where there is nothing finer.
        seconds: When each is seen.
        total: How many frames the clip has.
        shown: Which of them the rest of the explanation is about.
        together: Whether the model looked at all of them together, or at each by itself.
        by_frame: Probability of the target in each frame; empty where the model looked at all of them together.
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
    """Everything a report shows about one image and one model.

    Attributes:
        image: Path of the image, as it was given.
        pixels: What the model saw, ``(H, W, 3)`` uint8 RGB.
        photo: The same part of the photograph for people, at its own resolution up to some limit,
            ``(H', W', 3)`` uint8 RGB; ``None`` where there is nothing finer than ``pixels``.
        model: Name of the model.
        predictions: The most probable classes, best first.
        target: The class that the attributions explain.
        records: What every attention site did.
        heatmaps: Attention and attribution maps of one image, ``N = 1``.
        scores: Every number that was measured.
        settings: How it was made: methods, seed, device, versions.
        notes: What the reader must know: limits and negative results.
        errors: Name of a record -> relative error of ``f(g, x)``, as verified.
        clip: The frames, where ``image`` is a clip: all the rest is then about one of them, but what the model says of
            all of them together.
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

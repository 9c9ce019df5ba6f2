"""Results of an explanation, as plain data."""

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

"""Measure which part of a picture a transform shows: its functions are only called."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from attnviz.errors import ModelError
from attnviz.media.preprocess import Pixels

if TYPE_CHECKING:
    from torch import Tensor

_TOLERANCE = 0.015  # largest deviation from an affine map, as a part of the picture
_STEADY = 1e-3  # largest difference between two runs of a transform that draws no random numbers
_EDGES = 32
_FEWEST = 8  # pixels from which a part is measured
_CONTRAST = 0.5  # pixels with less than this part of the largest contrast are padding
_REFUSED = "preprocess: it is unknown which part of a picture the transform shows"
_ADVICE = "give a Preprocess(size, resize, mean, std, fit=...) instead"


def applied(transform: Callable[[Any], Any], pixels: Pixels) -> Tensor:
    """The transform of one image, ``(C, H, W)`` float32.

    Raises:
        ModelError: it fails, or returns no such tensor.
    """
    import torch

    is_picture = pixels.dtype == np.uint8 and pixels.shape[2] in (1, 3)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels) if is_picture else pixels
    try:
        with torch.no_grad():
            found = transform(image)
    except Exception as error:
        raise ModelError(f"preprocess: the transform fails: {type(error).__name__}: {error}") from error
    if not isinstance(found, torch.Tensor):
        raise ModelError(f"preprocess: wanted a tensor (C, H, W) from the transform, got a {type(found).__name__}")
    found = found.detach().as_subclass(torch.Tensor)
    if found.ndim == 4 and len(found) == 1:
        found = found[0]
    if found.ndim != 3:
        raise ModelError(f"preprocess: wanted a tensor (C, H, W) from the transform, got {tuple(found.shape)}")
    return found.cpu().float().contiguous()


@lru_cache(maxsize=256)
def shown_part(transform: Callable[[Any], Any], height: int, width: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the part of a picture that a transform shows, measured with a few pictures.

    Raises:
        ModelError: the part is not a rectangle that is upright and not mirrored, or it is another one each time.
    """
    size = (height, width)
    for positions, tolerance in ((_positions_by_ramps, 0.0), (_positions_by_edges, 0.5 / (_EDGES + 1))):
        measured = positions(transform, size)
        spans = (
            [] if measured is None else [_span(one, axis, _TOLERANCE + tolerance) for axis, one in enumerate(measured)]
        )
        if spans and None not in spans:
            (x0, x1), (y0, y1) = spans  # type: ignore[misc]  # checked above
            return (x0 * width, y0 * height, x1 * width, y1 * height)
    raise ModelError(f"{_REFUSED}: it mirrors, rotates or warps it, or shows too little of it; {_ADVICE}")


def _along(values: Pixels, size: tuple[int, int], axis: int) -> Pixels:
    """A grey picture whose values in [0, 1] depend on the column, or on the row for axis 1."""
    plane = np.broadcast_to(values[None] if axis == 0 else values[:, None], size)
    return np.repeat((plane * 255).round().astype(np.uint8)[..., None], 3, 2)


def _steadily_applied(transform: Callable[[Any], Any], pixels: Pixels) -> Tensor:
    """The transform of a picture.

    Raises:
        ModelError: it differs in a second run.
    """
    found, again = (applied(transform, pixels) for _ in range(2))
    if found.shape != again.shape or float((found - again).abs().max()) > _STEADY * float(found.abs().max()):
        raise ModelError(f"{_REFUSED}: it draws random numbers; {_ADVICE}")
    return found


def _positions_by_ramps(transform: Callable[[Any], Any], size: tuple[int, int]) -> list[Pixels] | None:
    """The column and the row of a picture that each pixel of the input shows, as parts of its sides; NaN if unknown.

    Values of two ramps are positions. A black and a white picture give the scale of the values, and the padding, which
    is the same in both; ``None`` if there is no scale.
    """
    black, white = (applied(transform, np.full((*size, 3), value, np.uint8)) for value in (0, 255))
    if black.shape != white.shape or not bool((white - black).isfinite().all()):
        return None
    contrast = (white - black).numpy()
    weakest = np.abs(contrast).min(axis=0)
    inside = weakest > _CONTRAST * np.abs(contrast).max()
    found = []
    for axis in (0, 1):
        ramp = _along((np.arange(size[1 - axis]) + 0.5) / size[1 - axis], size, axis)
        output = _steadily_applied(transform, ramp)
        if output.shape != black.shape:
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            values = ((output - black).numpy() / contrast).mean(axis=0)
        # Filters flatten the ends of a ramp.
        found.append(np.where(inside & (values > 0.02) & (values < 0.98), values, np.nan))
    return found


def _positions_by_edges(transform: Callable[[Any], Any], size: tuple[int, int]) -> list[Pixels] | None:
    """As :func:`_positions_by_ramps`, for a transform that changes values by the picture, such as a standardisation.

    Pictures are black before an edge and white after it. The edges after which a pixel is white determine its position,
    whatever the values of black and white are.
    """
    found = []
    for axis in (0, 1):
        count = size[1 - axis]
        edges = (np.arange(_EDGES) + 1) / (_EDGES + 1)
        white: list[Pixels] = []
        known: list[float] = []
        for edge in edges:
            picture = _along(((np.arange(count) + 0.5) / count > edge).astype(np.float64), size, axis)
            output = (applied if white else _steadily_applied)(transform, picture).mean(0).numpy()
            low, high = output.min(), output.max()
            if np.isfinite(high - low) and high - low > _STEADY * max(abs(high), abs(low)):
                white.append(output > (low + high) / 2)
                known.append(float(edge))
        if len(known) < 3 or len({one.shape for one in white}) > 1:
            return None
        passed = np.sum(white, axis=0)
        middles = np.array([np.nan, *(np.array(known[1:]) + np.array(known[:-1])) / 2, np.nan])
        found.append(middles[passed])
    return found


def _span(positions: Pixels, axis: int, tolerance: float) -> tuple[float, float] | None:
    """Start and end of the input along an axis of the picture, from the positions ``(H, W)`` of its pixels.

    Args:
        positions: Positions as parts of the side; NaN if unknown.
        axis: 0 for columns, 1 for rows.
        tolerance: Largest deviation from a straight line.

    Returns:
        ``None`` if the positions do not increase along the axis in a straight line, and only along it.
    """
    rows, columns = np.nonzero(np.isfinite(positions))
    along, across = (columns, rows) if axis == 0 else (rows, columns)
    if len(along) < _FEWEST or np.ptp(along) < 3:
        return None
    seen = positions[rows, columns]
    design = np.stack([along + 0.5, across + 0.5, np.ones(len(along))], 1)
    (slope, skew, start), *_ = np.linalg.lstsq(design, seen, rcond=None)
    error = float(np.abs(design @ np.array([slope, skew, start]) - seen).max())
    if slope <= 0 or abs(skew) * positions.shape[axis] > tolerance or error > tolerance:
        return None
    return float(start), float(start + slope * positions.shape[1 - axis])

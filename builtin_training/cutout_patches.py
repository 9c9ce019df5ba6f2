"""Cut parts out of photographs and use them as further objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from attnviz.training.scenes import as_input, on_grey
from attnviz.training.sources import Pixels, Source

_SIDE_SHARE = (0.3, 0.8)  # side of a patch, as a share of the photograph's shorter side
_CANDIDATES = 16  # candidate patches per photograph
_WAVES = 5  # waves along the outline
_EDGE = 0.04  # width of the soft edge, as a share of the radius


def cut_patches(
    photographs: Sequence[Source], network: Callable[[Tensor], Tensor], each: int, seed: int, certainty: float = 0.35
) -> tuple[Source, ...]:
    """Return the parts of photographs that a network classifies with the highest probability.

    The candidates of each photograph have a random size, position and outline.

    Args:
        photographs: Photographs that the patches are cut from.
        network: Maps ``(N, 3, 224, 224)`` to logits.
        each: Maximum number of patches per photograph.
        seed: Random seed of positions and outlines; the patches of a photograph depend only on its name and the seed.
        certainty: Probability of the best class that a patch must exceed, on a grey background.
    """
    found: list[Source] = []
    for photograph in photographs:
        random = np.random.default_rng((seed, *photograph.name.encode()))
        cuts = [_cut(photograph.pixels, random) for _ in range(_CANDIDATES)]
        with torch.no_grad():
            best = network(as_input(np.stack([on_grey(cut) for cut in cuts]))).softmax(1).amax(1)
        certain = (index for index in best.argsort(descending=True).tolist() if best[index] > certainty)
        found += [
            Source(f"{photograph.name}#{index}", photograph.group, cuts[index]) for index in islice(certain, each)
        ]
    return tuple(found)


def _cut(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """A square part with a wavy outline, ``(h, h, 4)``."""
    height, width = pixels.shape[:2]
    side = int(min(height, width) * random.uniform(*_SIDE_SHARE))
    top, left = (int(random.integers(0, length - side + 1)) for length in (height, width))
    opacity = (255 * _blob(side, random)).round().astype(np.uint8)
    return np.dstack([pixels[top : top + side, left : left + side], opacity])


def _blob(side: int, random: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """A smooth random region that fills most of a square: 1 inside, 0 outside, ``(side, side)``."""
    down, across = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    angle, order = np.arctan2(down, across), np.arange(1, _WAVES + 1)
    waves = random.normal(size=_WAVES) / order * 0.2
    phases = random.uniform(0, 2 * np.pi, _WAVES)
    outline = 1 + (waves * np.cos(order * angle[..., None] + phases)).sum(-1)
    edge = outline / outline.max() - np.hypot(down, across)
    return np.asarray(np.clip(0.5 + edge / _EDGE, 0, 1))

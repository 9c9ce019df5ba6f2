"""Objects cut out of photographs: more things to look for than there are cut-outs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from attnviz.training.scenes import as_input, on_grey
from attnviz.training.sources import Pixels, Source

_SIDE_SHARE = (0.3, 0.8)  # of a patch, as a share of the photograph's shorter side
_TRIES = 16  # patches that are looked at, for each photograph
_WAVES = 5  # how many waves run round the outline
_SOFT = 0.04  # width of the edge, as a share of the radius


def cut_patches(
    photographs: Sequence[Source],
    network: Callable[[Tensor], Tensor],
    each: int,
    seed: int,
    certainty: float = 0.35,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Source, ...]:
    """The parts of photographs in which a network, shown them alone, sees something.

    Of each photograph some parts of random size, place and outline are looked at, and the surest are kept.

    Args:
        photographs: Where they are cut from.
        network: ``(N, 3, 224, 224)`` to logits.
        each: At most how many of one photograph.
        seed: Of places and outlines; a photograph's patches depend on its name and the seed alone.
        certainty: Least probability of the network's best class.
        progress: Told how many photographs are done, of how many.
    """
    found: list[Source] = []
    for done, photograph in enumerate(photographs, 1):
        random = np.random.default_rng((seed, *photograph.name.encode()))
        cuts = [_cut(photograph.pixels, random) for _ in range(_TRIES)]
        with torch.no_grad():
            best = network(as_input(np.stack([on_grey(cut) for cut in cuts]))).softmax(1).amax(1)
        sure = (place for place in best.argsort(descending=True).tolist() if best[place] > certainty)
        found += [Source(f"{photograph.name}#{place}", photograph.group, cuts[place]) for place in islice(sure, each)]
        progress(done, len(photographs))
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
    return np.asarray(np.clip(0.5 + edge / _SOFT, 0, 1))

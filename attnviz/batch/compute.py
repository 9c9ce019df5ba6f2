"""One shard: a pure function of the plan, the images and the models, whichever engine calls it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from attnviz.batch.eye import Eye, open_eye
from attnviz.batch.items import Item
from attnviz.batch.looking import Looked, look_at
from attnviz.batch.plan import Asked, PlannedModel
from attnviz.batch.reading import Read, Unread, Ways, read_ahead
from attnviz.batch.tables import Builder

if TYPE_CHECKING:
    import pyarrow as pa

_NO_NUMBER = "the model's answer is no number"


def open_eyes(asked: Asked, device: str = "auto", planned: Sequence[PlannedModel] = ()) -> tuple[Eye, ...]:
    """All models of a run, ready to look."""
    known = {one.name: one for one in planned}
    return tuple(open_eye(name, asked, device, known.get(name)) for name in asked.models)


def compute(
    items: Sequence[Item],
    eyes: Sequence[Eye],
    pool: ThreadPoolExecutor | None = None,
    told: Callable[[int], object] = lambda _images: None,
) -> dict[str, pa.Table]:
    """The tables of one shard.

    Batches are those of its images that can be read, in their order: the same wherever and however often a shard is
    computed.

    Args:
        items: The shard's images.
        eyes: The models.
        pool: Threads that read; without them images are read in turn.
        told: Told how many images are done, each time that some are.

    Returns:
        ``measures``, ``maps``, ``thumbnails`` and ``answers``.
    """
    ways = Ways.among([eye.vision.preprocess for eye in eyes])
    size = eyes[0].asked.batch
    builder = Builder([eye.vision for eye in eyes], [eye.planned.name for eye in eyes])

    def readable() -> Iterator[Read]:
        for one in read_ahead(items, ways, pool, 2 * size):
            if isinstance(one, Read):
                yield one
            else:
                builder.failed(one)
                told(1)

    for batch in _batches(readable(), size):
        for one in batch:
            builder.pictured(one, ways.pictured)
        for number, eye in enumerate(eyes):
            for images, found in _look(eye, batch, ways.of[number]):
                if isinstance(found, str):
                    one = images[0]
                    failure = Unread(one.item, found, one.sha256, one.width, one.height)
                    builder.failed(failure, number)
                else:
                    builder.looked(number, images, found)
        told(len(batch))
    return builder.tables()


def _batches(images: Iterable[Read], size: int) -> Iterator[list[Read]]:
    rest = iter(images)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def _look(eye: Eye, images: Sequence[Read], way: int) -> Iterator[tuple[Sequence[Read], Looked | str]]:
    """What a model makes of some images: together; each alone where that fails; or why one cannot be looked at."""
    try:
        found = _looked(eye, images, way)
    except Exception as error:  # noqa: BLE001  # one bad image never stops a run, whatever the model raises
        if len(images) == 1:
            yield images, f"{type(error).__name__}: {' '.join(str(error).split())}"
            return
        for one in images:
            yield from _look(eye, [one], way)
        return
    finite = found.shares.isfinite().all(1).tolist()
    if all(finite):
        yield images, found
        return
    for one, good in zip(images, finite, strict=True):
        if not good:
            yield [one], _NO_NUMBER
    good_ones = [one for one, good in zip(images, finite, strict=True) if good]
    if good_ones:
        yield from _look(eye, good_ones, way)


def _looked(eye: Eye, images: Sequence[Read], way: int) -> Looked:
    pixels = np.stack([one.crops[way] for one in images])
    x = eye.vision.preprocess.normalise(pixels).to(eye.device, eye.dtype)
    asked = torch.tensor([one.masks is not None for one in images])
    if not bool(asked.any()):
        return look_at(eye, x)
    empty = np.zeros(pixels.shape[1:3], np.bool_)
    masks = np.stack([empty if one.masks is None else one.masks[way] for one in images])
    return look_at(eye, x, torch.from_numpy(masks).to(eye.device), asked)

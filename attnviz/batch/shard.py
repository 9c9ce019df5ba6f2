"""One shard: a pure function of the plan, the images and the models, whichever engine calls it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from attnviz.batch.evaluate_batch import Looked, look_at
from attnviz.batch.image_reader import Read, Unread, Ways
from attnviz.batch.plan import Asked, PlannedModel
from attnviz.batch.prepared_model import Eye, open_eye
from attnviz.batch.table_builder import Builder

if TYPE_CHECKING:
    import pyarrow as pa

_NO_NUMBER = "the model's answer is no number"


def open_eyes(asked: Asked, device: str = "auto", planned: Sequence[PlannedModel] = ()) -> tuple[Eye, ...]:
    """All models of a run, ready to look."""
    known = {one.name: one for one in planned}
    return tuple(open_eye(name, asked, device, known.get(name)) for name in asked.models)


def ways_of(eyes: Sequence[Eye]) -> Ways:
    """How images are to be shown to models."""
    return Ways.among([eye.vision.preprocess for eye in eyes])


def compute(
    images: Iterable[Read | Unread], eyes: Sequence[Eye], told: Callable[[int], object] = lambda _images: None
) -> dict[str, pa.Table]:
    """The tables of one shard.

    Batches are those of its images that could be read, in their order: the same wherever and however often a shard is
    computed.

    Args:
        images: The shard's images, read in the :func:`ways_of` the models, as they come.
        eyes: The models.
        told: Told how many images are done, each time that some are.

    Returns:
        ``measures``, ``maps``, ``thumbnails`` and ``answers``.
    """
    ways = ways_of(eyes)
    builder = Builder([eye.vision for eye in eyes], [eye.planned.name for eye in eyes])

    def readable() -> Iterator[Read]:
        for one in images:
            if isinstance(one, Read):
                yield one
            else:
                builder.failed(one)
                told(1)

    for batch in _batches(readable(), eyes[0].asked.batch):
        for one in batch:
            builder.pictured(one, ways.pictured)
        for number, eye in enumerate(eyes):
            for looked, found in _look(eye, batch, ways.of[number]):
                if isinstance(found, str):
                    one = looked[0]
                    failure = Unread(one.item, found, one.sha256, one.width, one.height)
                    builder.failed(failure, number)
                else:
                    builder.looked(number, looked, found)
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

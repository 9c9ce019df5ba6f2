"""Compute one shard: a pure function of the plan, the images and the models."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch

from attnviz.batch.evaluate_batch import BatchResult, evaluate_batch
from attnviz.batch.image_reader import LoadedImage, LoadFailure, Preprocessings
from attnviz.batch.plan import PlannedModel, RunOptions
from attnviz.batch.prepared_model import PreparedModel, prepare_model
from attnviz.batch.table_builder import Builder
from attnviz.media.image_decoding import error_line

_NOT_FINITE = "the output is not finite"


def prepare_models(
    options: RunOptions, device: str = "auto", planned: Sequence[PlannedModel] = ()
) -> tuple[PreparedModel, ...]:
    """Load and prepare all models of a run."""
    known = {one.name: one for one in planned}
    return tuple(prepare_model(name, options, device, known.get(name)) for name in options.models)


def preprocessings_of(prepared_models: Sequence[PreparedModel]) -> Preprocessings:
    """Return the distinct preprocessings of the models."""
    return Preprocessings.among([prepared.vision.preprocess for prepared in prepared_models])


def compute(
    images: Iterable[LoadedImage | LoadFailure],
    prepared_models: Sequence[PreparedModel],
    progress: Callable[[int], object] = lambda _images: None,
) -> dict[str, pa.Table]:
    """Return the tables ``measures``, ``maps``, ``thumbnails`` and ``answers`` of one shard.

    Batches consist of the readable images, read with :func:`preprocessings_of` the models, in their order, so they do
    not depend on the engine.
    """
    preprocessings = preprocessings_of(prepared_models)
    builder = Builder({prepared.planned.name: prepared.vision for prepared in prepared_models})

    def readable() -> Iterator[LoadedImage]:
        for one in images:
            if isinstance(one, LoadedImage):
                yield one
            else:
                builder.failed(one)
                progress(1)

    for batch in _batches(readable(), prepared_models[0].options.batch):
        for one in batch:
            builder.pictured(one, preprocessings.pictured)
        for number, prepared in enumerate(prepared_models):
            for evaluated, found in _evaluate_safely(prepared, batch, preprocessings.of[number]):
                if isinstance(found, str):
                    one = evaluated[0]
                    builder.failed(LoadFailure(one.item, found, one.sha256, one.width, one.height), number)
                else:
                    builder.evaluated(number, evaluated, found)
        progress(len(batch))
    return builder.tables()


def _batches(images: Iterable[LoadedImage], size: int) -> Iterator[list[LoadedImage]]:
    rest = iter(images)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def _evaluate_safely(
    prepared: PreparedModel, images: Sequence[LoadedImage], preprocess: int
) -> Iterator[tuple[Sequence[LoadedImage], BatchResult | str]]:
    """Yield images with their results, or single images with the reason of a failure; after an error, one by one."""
    try:
        found = _evaluated(prepared, images, preprocess)
    except Exception as error:  # noqa: BLE001  # one bad image never stops a run, whatever the model raises
        if len(images) == 1:
            yield images, f"{type(error).__name__}: {error_line(error)}"
            return
        for one in images:
            yield from _evaluate_safely(prepared, [one], preprocess)
        return
    finite = [math.isfinite(one.score) for one in found.explained]
    if all(finite):
        yield images, found
        return
    for one, good in zip(images, finite, strict=True):
        if not good:
            yield [one], _NOT_FINITE
    good_ones = [one for one, good in zip(images, finite, strict=True) if good]
    if good_ones:
        yield from _evaluate_safely(prepared, good_ones, preprocess)


def _evaluated(prepared: PreparedModel, images: Sequence[LoadedImage], preprocess: int) -> BatchResult:
    x = prepared.vision.preprocess.normalise(np.stack([one.prepared[preprocess] for one in images]))
    x = x.to(prepared.device, prepared.dtype)
    requests = [prepared.request_of(one.item.asked, (one.height, one.width)) for one in images]
    options = torch.tensor([one.masks is not None for one in images])
    if not bool(options.any()):
        return evaluate_batch(prepared, x, requests=requests)
    empty = np.zeros(x.shape[2:], np.bool_)
    masks = np.stack([empty if one.masks is None else one.masks[preprocess] for one in images])
    return evaluate_batch(prepared, x, torch.from_numpy(masks).to(prepared.device), options, requests)

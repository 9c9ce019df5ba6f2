"""Read images ahead of the model in threads: hash, crops, thumbnails and masks, in order."""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from attnviz.errors import ImageError
from attnviz.media.bands import picture_for
from attnviz.media.image_decoding import Picture, decode, error_line
from attnviz.media.image_item import Item
from attnviz.media.preprocess import Preprocess, centres
from attnviz.media.remote_files import read_image

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
THUMBNAIL_PX = 224
_QUALITY = 80
_PROPORTIONS = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class LoadedImage:
    """An image that was read and preprocessed.

    Attributes:
        item: Item of the listing.
        sha256: Hash of the file.
        width: Width of the upright image, in pixels.
        height: Height of the upright image, in pixels.
        prepared: For each preprocessing, what its ``normalise`` takes: mostly the crop ``(H, W, C)``.
        thumbnails: JPEG of each stored crop, at most 224 pixels a side, with its width and height.
        masks: Object mask ``(H, W)`` for each preprocessing; ``None`` without boxes and masks.
    """

    item: Item
    sha256: str
    width: int
    height: int
    prepared: tuple[Pixels, ...]
    thumbnails: tuple[tuple[bytes, int, int], ...]
    masks: tuple[Mask, ...] | None


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """An image that could not be read.

    Attributes:
        item: Item of the listing.
        reason: The reason, in one line without the path.
        sha256: Hash of the file; empty if it could not be read.
        width: Width in pixels; 0 if unknown.
        height: Height in pixels; 0 if unknown.
    """

    item: Item
    reason: str
    sha256: str = ""
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class Preprocessings:
    """How images are shown to models.

    Attributes:
        all: Different preprocessings, each once.
        of: For each model, its own among them.
        pictured: For each model, the first preprocessing that shows the same part of a photograph: its thumbnail.
    """

    all: tuple[Preprocess, ...]
    of: tuple[int, ...]
    pictured: tuple[int, ...]

    @classmethod
    def among(cls, preprocesses: Sequence[Preprocess]) -> Preprocessings:
        """The ways of some models."""
        every = tuple(dict.fromkeys(preprocesses))
        parts = [preprocess.part for preprocess in every]
        of = tuple(map(every.index, preprocesses))
        return cls(every, of, tuple(parts.index(parts[preprocess]) for preprocess in of))


def read(item: Item, preprocessings: Preprocessings) -> LoadedImage | LoadFailure:
    """Read one image; an error is returned and not raised."""
    sha256 = ""
    try:
        data = read_image(item.path)
        sha256 = hashlib.sha256(data).hexdigest()
        picture = decode(item.path, max(preprocess.keep_px for preprocess in preprocessings.all), data)
        own = [picture_for(picture, preprocess.channels, data).pixels for preprocess in preprocessings.all]
        prepared = tuple(preprocess.prepare(one) for preprocess, one in zip(preprocessings.all, own, strict=True))
        thumbnails = tuple(
            thumbnail(preprocess.shown(own[number], prepared[number]))
            if number in preprocessings.pictured
            else (b"", 0, 0)
            for number, preprocess in enumerate(preprocessings.all)
        )
        height, width = picture.size
        masks = object_masks(item, picture, preprocessings.all)
        return LoadedImage(item, sha256, width, height, prepared, thumbnails, masks)
    except ImageError as error:
        return LoadFailure(item, " ".join(str(error).removeprefix(f"{item.path}: ").split()), sha256)
    except MemoryError:
        return LoadFailure(item, "needs more memory than is available", sha256)
    except Exception as error:  # noqa: BLE001  # a damaged file must not stop a run, whatever a decoder raises
        return LoadFailure(item, f"cannot be read: {type(error).__name__}: {error_line(error)}", sha256)


def thumbnail(crop: Pixels) -> tuple[bytes, int, int]:
    """Return a crop as JPEG, at most 224 pixels a side, with its width and height."""
    image = Image.fromarray(crop)
    if max(image.size) > THUMBNAIL_PX:
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue(), *image.size


def object_masks(item: Item, picture: Picture, preprocesses: Sequence[Preprocess]) -> tuple[Mask, ...] | None:
    """Return the object mask ``(H, W)`` for each preprocessing, from boxes and mask of an item; ``None`` without both.

    Raises:
        ImageError: the mask cannot be read, or has other proportions than the image.
    """
    if not item.boxes and item.mask is None:
        return None
    shape = None if item.mask is None else _mask_of(item.mask, picture)
    masks = []
    for preprocess in preprocesses:
        seen = _in_boxes(item, preprocess, picture.size)
        masks.append(seen if shape is None else seen | preprocess.mask(shape))
    return tuple(masks)


def _mask_of(path: str, picture: Picture) -> Pixels:
    mask = decode(path, data=read_image(path))
    (height, width), (rows, columns) = picture.size, mask.size
    if abs(columns / rows - width / height) > _PROPORTIONS * width / height:
        raise ImageError(f"the mask {path} is {columns} × {rows}, which are not the proportions of {width} × {height}")
    return mask.pixels


def _in_boxes(item: Item, preprocess: Preprocess, size: tuple[int, int]) -> Mask:
    """Return the pixels of a crop whose centres lie in a box, ``(H, W)`` bool; ``size`` is that of the image."""
    left, top, right, bottom = preprocess.box(*size)
    height, width = preprocess.size
    xs, ys = centres(left, right, width), centres(top, bottom, height)
    seen = np.zeros((height, width), np.bool_)
    for x0, y0, x1, y1 in item.boxes:
        seen |= ((ys >= y0) & (ys < y1))[:, None] & ((xs >= x0) & (xs < x1))[None]
    return seen


def read_ahead(
    items: Iterable[Item], preprocessings: Preprocessings, workers: int = 0, ahead: int = 1
) -> Generator[LoadedImage | LoadFailure, None, None]:
    """Yield all items in order, with at most ``ahead`` of them in memory, read by threads; close it to end these.

    Decoding and resizing release the GIL.
    """
    if workers < 1:
        yield from (read(item, preprocessings) for item in items)
        return
    pool = ThreadPoolExecutor(workers, "attnviz-read")
    waiting: deque[Future[LoadedImage | LoadFailure]] = deque()
    try:
        for item in items:
            if len(waiting) >= max(1, ahead):
                yield waiting.popleft().result()
            waiting.append(pool.submit(read, item, preprocessings))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)

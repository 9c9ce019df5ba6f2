"""What the caller wants explained, in the coordinates of the picture, as a request in those of the model's input."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnviz.analyses.model_run import plain_output
from attnviz.attribution.targets import OneTarget
from attnviz.core.model_outputs import select
from attnviz.errors import ImageError, TargetError
from attnviz.explanation.model_inputs import ModelInput
from attnviz.explanation.prepared_model import PreparedModel
from attnviz.media.image_decoding import Picture, as_picture
from attnviz.media.images import Preprocess, as_images
from attnviz.targets import Request
from attnviz.targets.embeddings import embedding_of
from attnviz.targets.regions import box_mask

_PROPORTIONS = 0.02


def request_of(
    prepared: PreparedModel,
    model_input: ModelInput,
    target: OneTarget | None,
    contrast: int | str | None = None,
    mask: str | os.PathLike[str] | np.ndarray[Any, Any] | None = None,
    box: Sequence[float] | None = None,
    query: int | None = None,
    like: str | os.PathLike[str] | Picture | np.ndarray[Any, np.dtype[np.uint8]] | None = None,
) -> Request:
    """The request; see :func:`attnviz.explain` for the arguments.

    Raises:
        TargetError: the box or the mask holds no pixel of the part of the image that the model is given.
        ImageError: the mask has other proportions than the image, or a file cannot be read.
    """
    if isinstance(target, Request):
        return target
    picture, preprocess = model_input.images.pictures[0], prepared.vision.preprocess
    of_mask = None if mask is None else _mask_of_input(mask, picture, preprocess)
    of_box = None if box is None else box_of_input(box, picture.size, preprocess)
    embedding = None if like is None else _embedding(like, prepared, model_input.inputs[0])
    name = os.fspath(like) if isinstance(like, str | os.PathLike) else "another image"
    where = "" if box is None else f"the box {','.join(f'{value:g}' for value in box)}"
    return Request(target, contrast, of_mask, of_box, query, embedding, Path(name).name, where)


def asked(
    target: OneTarget | None,
    contrast: int | str | None,
    mask: object,
    box: Sequence[float] | None,
    query: int | None,
    like: object,
) -> dict[str, str]:
    """The arguments that were given and can be repeated on the command line, by the name of the option."""
    given = {
        "target": target if isinstance(target, int | str) else None,
        "not": contrast,
        "mask": os.fspath(mask) if isinstance(mask, str | os.PathLike) else None,
        "box": None if box is None else ",".join(f"{value:g}" for value in box),
        "query": query,
        "like": os.fspath(like) if isinstance(like, str | os.PathLike) else None,
    }
    return {name: str(value) for name, value in given.items() if value is not None}


def box_of_input(
    box: Sequence[float], size: tuple[int, int], preprocess: Preprocess
) -> tuple[float, float, float, float]:
    """A box of a picture, ``(H, W)``, in pixels of the input.

    Raises:
        TargetError: it holds no pixel of the part of the picture that the model is given.
    """
    box_mask(box, size)
    left, top, right, bottom = preprocess.box(*size)
    height, width = preprocess.size
    across, down = width / (right - left), height / (bottom - top)
    x0, y0, x1, y1 = box
    moved = ((x0 - left) * across, (y0 - top) * down, (x1 - left) * across, (y1 - top) * down)
    try:
        box_mask(moved, preprocess.size)
    except TargetError:
        raise TargetError(
            f"the box {tuple(box)} lies in the part of the image that the model's preprocessing cuts off; "
            f"the model is given {left:.0f},{top:.0f},{right:.0f},{bottom:.0f}"
        ) from None
    return moved


def _mask_of_input(
    mask: str | os.PathLike[str] | np.ndarray[Any, Any], picture: Picture, preprocess: Preprocess
) -> Tensor:
    """A mask of the picture, at the size of the input, ``(H, W)`` bool."""
    if isinstance(mask, np.ndarray):
        values = mask if mask.ndim == 2 else mask.max(axis=-1)
        mask = np.repeat((values > (0 if values.dtype == bool else values.max() / 2))[..., None], 3, 2)
        pixels = mask.astype(np.uint8) * 255
    else:
        pixels = as_picture(mask).pixels
    (height, width), (rows, columns) = picture.size, pixels.shape[:2]
    if abs(columns / rows - width / height) > _PROPORTIONS * width / height:
        raise ImageError(f"the mask is {columns} × {rows}, which are not the proportions of {width} × {height}")
    found = torch.from_numpy(preprocess.mask(pixels))
    if not bool(found.any()):
        raise TargetError("the mask holds no pixel of the part of the image that the model is given")
    return found


def _embedding(like: Any, prepared: PreparedModel, x: Tensor) -> Tensor:
    """The embedding of another image, ``(D,)``."""
    images = as_images([as_picture(like)], prepared.vision.preprocess)
    output = plain_output(prepared.vision.module, images.x.to(x.device, x.dtype))
    return embedding_of(select(output, prepared.vision.output))[0].detach()

"""Regions of maps as COCO annotations and mask images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attnviz.core.arrays import Array
from attnviz.core.regions import Region
from attnviz.media.atomic_files import write_atomically


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """The regions of one image.

    Attributes:
        file_name: Name of the image file.
        size: Height and width of the maps, in pixels.
        regions: Name of a category, such as a class or a method, -> its regions.
    """

    file_name: str
    size: tuple[int, int]
    regions: Mapping[str, Sequence[Region]]


def coco(images: Sequence[AnnotatedImage], *, description: str = "") -> dict[str, Any]:
    """COCO annotations of object detection, as plain data for JSON.

    An annotation has ``bbox`` ``[left, top, width, height]``, ``area``, ``segmentation`` as uncompressed run lengths,
    ``iscrowd`` 0, and ``score``, the largest value of the map in the region. Coordinates are pixels of the map.

    Source: https://cocodataset.org/#format-data
    """
    names = list(dict.fromkeys(name for image in images for name in image.regions))
    return {
        "info": {"description": description},
        "images": [
            {"id": number, "file_name": image.file_name, "height": image.size[0], "width": image.size[1]}
            for number, image in enumerate(images, 1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
        "annotations": [
            {"id": number, **annotation} for number, annotation in enumerate(_annotations(images, names), 1)
        ],
    }


def write_coco(images: Sequence[AnnotatedImage], path: str | Path, *, description: str = "") -> None:
    """Write COCO annotations to a file; an existing one is replaced.

    Raises:
        OutputError: the file cannot be written.
    """
    text = json.dumps(coco(images, description=description), ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(Path(path), lambda partial: partial.write_text(text, encoding="utf-8"))


def write_mask(mask: Array, path: str | Path) -> None:
    """Write a mask ``(H, W)`` bool as a grey PNG file, with 255 inside and 0 outside; an existing one is replaced.

    Raises:
        OutputError: the file cannot be written.
    """
    image = Image.fromarray(np.where(np.asarray(mask, dtype=bool), 255, 0).astype(np.uint8))
    write_atomically(Path(path), lambda partial: image.save(partial, "PNG"))


def _annotations(images: Sequence[AnnotatedImage], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for number, image in enumerate(images, 1):
        for name, regions in image.regions.items():
            for region in regions:
                left, top, right, bottom = region.box
                yield {
                    "image_id": number,
                    "category_id": names.index(name) + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": region.area,
                    "segmentation": run_lengths(_whole(region, image.size)),
                    "iscrowd": 0,
                    "score": region.peak,
                }


def _whole(region: Region, size: tuple[int, int]) -> Array:
    mask = np.zeros(size, dtype=bool)
    left, top, right, bottom = region.box
    mask[top:bottom, left:right] = region.mask
    return mask


def run_lengths(mask: Array) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths of a mask ``(H, W)``: columns one after another, the first run is of 0.

    >>> run_lengths(np.array([[True, False], [True, True]]))
    {'size': [2, 2], 'counts': [0, 2, 1, 1]}
    """
    runs = [(value, len(list(run))) for value, run in groupby(mask.flatten(order="F").tolist())]
    counts = [length for _, length in runs]
    return {"size": list(mask.shape), "counts": [0, *counts] if runs and runs[0][0] else counts}

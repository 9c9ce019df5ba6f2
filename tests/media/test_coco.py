"""COCO annotations and mask images of regions."""

import json

import numpy as np
import torch
from PIL import Image

from attnviz.core.records import Heatmap
from attnviz.media.coco import AnnotatedImage, coco, run_lengths, write_coco, write_mask

HEATMAP = Heatmap(
    torch.tensor([[[0.0, 4.0, 4.0], [0.0, 0.0, 2.0]], [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]), "m", "s", "attribution"
)


def _images() -> list[AnnotatedImage]:
    first, second = HEATMAP.boxes()
    return [
        AnnotatedImage("a.png", (2, 3), {"cat": first}),
        AnnotatedImage("b.png", (2, 3), {"dog": second, "cat": ()}),
    ]


def _decoded(segmentation: dict[str, list[int]]) -> np.ndarray:
    """By the description of the format: alternating runs of 0 and 1 down the columns."""
    height, width = segmentation["size"]
    pixels: list[int] = []
    for index, count in enumerate(segmentation["counts"]):
        pixels += [index % 2] * count
    return np.array(pixels, dtype=bool).reshape(width, height).T


def test_annotations_by_hand() -> None:
    content = coco(_images(), description="regions")
    assert content["info"] == {"description": "regions"}
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert content["images"][1] == {"id": 2, "file_name": "b.png", "height": 2, "width": 3}
    assert content["annotations"][0] == {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 0, 2, 2], "area": 3, "iscrowd": 0, "score": 4.0,
        "segmentation": {"size": [2, 3], "counts": [2, 1, 1, 2]},
    }  # fmt: skip
    assert [(one["id"], one["image_id"], one["category_id"], one["bbox"]) for one in content["annotations"][1:]] == [
        (2, 2, 2, [0, 0, 1, 1]),
        (3, 2, 2, [2, 1, 1, 1]),
    ]


def test_run_lengths_are_those_of_the_mask() -> None:
    masks = torch.rand(20, 5, 7, generator=torch.Generator().manual_seed(0)) < 0.5
    for mask in [*masks.numpy(), np.ones((2, 3), bool), np.zeros((2, 3), bool)]:
        runs = run_lengths(mask)
        assert sum(runs["counts"]) == mask.size
        np.testing.assert_array_equal(_decoded(runs), mask)


def test_a_file_of_annotations_is_plain_json(tmp_path) -> None:
    write_coco(_images(), tmp_path / "regions.json")
    assert json.loads((tmp_path / "regions.json").read_text()) == coco(_images())


def test_a_mask_image_is_white_inside(tmp_path) -> None:
    write_mask(HEATMAP.mask()[0].numpy(), tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "L"
        assert np.asarray(image).tolist() == [[0, 255, 255], [0, 0, 255]]

"""Synthetic images: coloured discs and noise for scenes, and two classes of different colours."""

import numpy as np
import pytest
from PIL import Image

from attnviz.training.sources import find_sources

COLOURS = {"grün": (20, 160, 40), "red": (200, 30, 30)}


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """A folder with ``objects/`` and ``photographs/``, twelve of each."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:160, :160]
    for kind in ("objects", "photographs"):
        (folder / kind).mkdir()
    for index, letter in enumerate("abcdefghijkl"):
        cut = np.zeros((160, 160, 4), np.uint8)
        cut[..., :3] = random.integers(0, 255, 3)
        cut[..., 3] = 255 * ((rows - 80) ** 2 + (columns - 80) ** 2 < (50 + 2 * index) ** 2)
        Image.fromarray(cut).save(folder / "objects" / f"{letter}-blob.png")
        noise = random.integers(0, 255, (20, 24, 3)).astype(np.uint8)
        Image.fromarray(noise).resize((240, 200)).save(folder / "photographs" / f"{letter}-noise.jpg")
    return folder


@pytest.fixture(scope="session")
def sources(image_folder):
    return find_sources(image_folder / "objects", image_folder / "photographs")


@pytest.fixture(scope="session")
def labelled_folder(tmp_path_factory):
    """Two classes of 15 images that differ in colour, and one damaged image."""
    root = tmp_path_factory.mktemp("labelled")
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name / "deeper").mkdir(parents=True)
        for index in range(15):
            noise = random.integers(-30, 30, (40, 50, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / ("deeper" if index % 2 else ".") / f"{index}.png")
    (root / "red" / "broken.jpg").write_bytes(b"no picture")
    return root

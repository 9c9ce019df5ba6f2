"""Pictures made up for the tests: coloured blobs, and noise with some structure."""

import numpy as np
import pytest
from PIL import Image

from attnviz.training.sources import find_sources

LETTERS = "abcdefghijkl"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder with ``objects/`` and ``photographs/``, twelve of each."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:160, :160]
    for kind in ("objects", "photographs"):
        (folder / kind).mkdir()
    for index, letter in enumerate(LETTERS):
        cut = np.zeros((160, 160, 4), np.uint8)
        cut[..., :3] = random.integers(0, 255, 3)
        cut[..., 3] = 255 * ((rows - 80) ** 2 + (columns - 80) ** 2 < (50 + 2 * index) ** 2)
        Image.fromarray(cut).save(folder / "objects" / f"{letter}-blob.png")
        noise = random.integers(0, 255, (20, 24, 3)).astype(np.uint8)
        Image.fromarray(noise).resize((240, 200)).save(folder / "photographs" / f"{letter}-noise.jpg")
    return folder


@pytest.fixture(scope="session")
def sources(pictures):
    return find_sources(pictures / "objects", pictures / "photographs")

"""A data set of a few pictures, good and bad, and a tiny model that is loaded by name."""

from pathlib import Path

import pytest
from batch_photos import CLI, ODD_NAME, bomb, picture
from PIL import Image


@pytest.fixture(autouse=True)
def _tiny_model_can_be_imported(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(CLI))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six pictures in two classes."""
    for n in range(6):
        path = tmp_path / "photos" / ("rocket" if n % 2 else "tabby cat") / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(n))
    return tmp_path / "photos"


@pytest.fixture
def bad_photos(photos: Path) -> Path:
    """The same with everything that can be wrong with a file."""
    folder = photos / "tabby cat"
    (folder / "truncated.png").write_bytes(picture(9)[:200])
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "text.jpg").write_text("no picture at all")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "again.png").write_bytes(picture(0))
    (folder / "folder.jpg").mkdir()
    Image.new("CMYK", (30, 40)).save(folder / "cmyk.jpg")
    (photos / ODD_NAME).write_bytes(picture(7))
    (photos / "caf\udce9.png").write_bytes(picture(8))
    return photos

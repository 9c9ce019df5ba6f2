"""Objects and photographs are found, and some are held out for good."""

import struct

import numpy as np
import pytest
from PIL import Image

from attnviz.errors import DataError
from attnviz.training import sources as module
from attnviz.training.qt_resources import read_rcc
from attnviz.training.sources import find_sources, is_held_out, split


def test_objects_are_cropped_to_what_is_opaque(sources):
    assert len(sources.objects) == 12
    first = sources.objects[0].pixels
    assert first.shape == (99, 99, 4)  # a disc of radius 50, its rim open
    assert first[49, 49, 3] == 255


def test_what_has_no_transparency_or_is_small_is_no_object(tmp_path, pictures):
    Image.new("RGB", (200, 200)).save(tmp_path / "opaque.png")
    Image.new("RGBA", (200, 200), (9, 9, 9, 255)).save(tmp_path / "full.png")
    Image.new("RGBA", (200, 200), (9, 9, 9, 0)).save(tmp_path / "empty.png")
    Image.fromarray(sources_pixels(pictures)[:80, :80]).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(
        DataError, match=r"need at least 5 objects, found 0 in .*: |need at least 5 objects, found 0 in"
    ):
        find_sources(tmp_path, pictures / "photographs")


def sources_pixels(pictures):
    return np.asarray(Image.open(pictures / "objects" / "a-blob.png"))


def test_where_nothing_is_installed_the_error_names_the_packages(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STAMPS", tmp_path)
    with pytest.raises(DataError, match="found 0 on this machine: apt-get install tuxpaint-stamps-default opencv-doc"):
        find_sources()


def test_what_is_held_out_shares_nothing_with_what_is_trained_on(sources):
    kept, out = (split(sources, 0, held_out=held_out) for held_out in (False, True))
    for field in ("objects", "photographs"):
        groups = [{picture.group for picture in getattr(part, field)} for part in (kept, out)]
        assert not groups[0] & groups[1]
        assert len(getattr(kept, field)) + len(getattr(out, field)) == 12


def test_about_a_fifth_is_held_out_and_another_seed_holds_out_others():
    names = [f"photograph {index}" for index in range(4000)]
    first, second = ([is_held_out(name, seed) for name in names] for seed in (0, 1))
    assert 0.18 < np.mean(first) < 0.22
    assert np.mean(np.array(first) & np.array(second)) < 0.06  # a fifth of a fifth, as chance has it


def test_what_is_held_out_does_not_depend_on_what_else_there_is(sources):
    fewer = module.Sources(sources.objects[::2], sources.photographs)
    out = {picture.name for picture in split(sources, 0, held_out=True).objects}
    try:
        of_fewer = {picture.name for picture in split(fewer, 0, held_out=True).objects}
    except DataError:
        of_fewer = set()
    assert of_fewer == out & {picture.name for picture in fewer.objects}


def test_views_of_one_thing_are_one_group():
    group = module._group
    assert group("data/left07.jpg") == group("data/left11.jpg")
    assert group("data/aloeL.jpg") == group("data/aloeR.jpg")
    assert group("wallpapers/Kay/contents/images/1080x1920.png") == group(
        "wallpapers/Kay/contents/images/5120x2880.png"
    )
    assert group("data/home.jpg") != group("data/building.jpg")
    assert group("a/cat.png") != group("b/cat.png")


def test_too_few_pictures_to_hold_some_out_are_an_error(sources):
    some = split(sources, 0, held_out=False)
    with pytest.raises(DataError, match="too few to hold some out"):
        split(some, 0, held_out=True)


def archive(files):
    """A Qt resource archive of version 3 with one folder, ``pictures``."""
    names, offsets = b"", []
    for name in ("pictures", *files):
        offsets.append(len(names))
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    data, at = b"", []
    for content, _ in files.values():
        at.append(len(data))
        data += struct.pack(">I", len(content)) + content
    date = bytes(8)
    tree = struct.pack(">IHII", 0, 2, 1, 1) + date + struct.pack(">IHII", offsets[0], 2, len(files), 2) + date
    for (_, flags), name_at, data_at in zip(files.values(), offsets[1:], at, strict=True):
        tree += struct.pack(">IHII", name_at, flags, 0, data_at) + date
    head = 20 + 4
    return (
        b"qres"
        + struct.pack(">IIII", 3, head, head + len(tree), head + len(tree) + len(data))
        + bytes(4)
        + tree
        + data
        + names
    )


def test_an_archive_gives_its_files_but_not_the_compressed_ones(tmp_path):
    path = tmp_path / "a.rcc"
    path.write_bytes(archive({"ä.webp": (b"photograph", 0), "b.txt": (b"zipped", 1), "c.webp": (b"", 0)}))
    assert dict(read_rcc(path)) == {"/pictures/ä.webp": b"photograph", "/pictures/c.webp": b""}


@pytest.mark.parametrize(
    ("content", "match"), [(b"PK\3\4", "no Qt resource archive"), (archive({"a": (b"x", 0)})[:30], "a damaged Qt")]
)
def test_what_is_no_archive_is_told(tmp_path, content, match):
    (tmp_path / "a.rcc").write_bytes(content)
    with pytest.raises(DataError, match=match):
        list(read_rcc(tmp_path / "a.rcc"))

"""Objects and photographs of Debian packages, and the Qt resource archives that hold some of them."""

import struct

import pytest

from attnviz.errors import DataError
from builtin_training.debian_sources import Places, find_sources
from builtin_training.qt_resources import read_rcc


def test_without_the_packages_the_error_names_them(tmp_path):
    with pytest.raises(DataError, match="found 0 on this machine: apt-get install tuxpaint-stamps-default opencv-doc"):
        find_sources(places=Places(stamps=tmp_path))


def test_drawings_examples_and_further_sizes_of_a_wallpaper_are_left_out(tmp_path, image_folder):
    stamps, wallpapers = tmp_path / "stamps", tmp_path / "backgrounds"
    for folder, kind in ((stamps, "objects"), (wallpapers, "photographs")):
        folder.mkdir()
        for file in (image_folder / kind).iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    (stamps / "cartoon-cat.png").write_bytes((stamps / "a-blob.png").read_bytes())
    photograph = (wallpapers / "a-noise.jpg").read_bytes()
    (wallpapers / "chelsea.jpg").write_bytes(photograph)
    theme = wallpapers / "Kay" / "contents" / "images"
    theme.mkdir(parents=True)
    for size in ("1080x1920", "5120x2880"):
        (theme / f"{size}.jpg").write_bytes(photograph)
    sources = find_sources(places=Places(stamps, (wallpapers,), (), tmp_path / "none"))
    assert len(sources.objects) == 12
    assert [one.name for one in sources.photographs if "noise" not in one.name] == [
        "backgrounds/Kay/contents/images/1080x1920.jpg"
    ]
    assert len(sources.photographs) == 13


def archive(files):
    """A Qt resource archive of version 3 with one folder, ``pictures``."""
    names, name_offsets = b"", []
    for name in ("pictures", *files):
        name_offsets.append(len(names))
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    data, data_offsets = b"", []
    for content, _ in files.values():
        data_offsets.append(len(data))
        data += struct.pack(">I", len(content)) + content
    date = bytes(8)
    tree = struct.pack(">IHII", 0, 2, 1, 1) + date + struct.pack(">IHII", name_offsets[0], 2, len(files), 2) + date
    for (_, flags), name_offset, data_offset in zip(files.values(), name_offsets[1:], data_offsets, strict=True):
        tree += struct.pack(">IHII", name_offset, flags, 0, data_offset) + date
    head = 20 + 4
    offsets = struct.pack(">IIII", 3, head, head + len(tree), head + len(tree) + len(data))
    return b"qres" + offsets + bytes(4) + tree + data + names


def test_an_archive_yields_its_uncompressed_files(tmp_path):
    path = tmp_path / "a.rcc"
    path.write_bytes(archive({"ä.webp": (b"photograph", 0), "b.txt": (b"zipped", 1), "c.webp": (b"", 0)}))
    assert dict(read_rcc(path)) == {"/pictures/ä.webp": b"photograph", "/pictures/c.webp": b""}


@pytest.mark.parametrize(
    ("content", "match"), [(b"PK\3\4", "not a Qt resource archive"), (archive({"a": (b"x", 0)})[:30], "damaged Qt")]
)
def test_other_files_and_truncated_archives_are_refused(tmp_path, content, match):
    (tmp_path / "a.rcc").write_bytes(content)
    with pytest.raises(DataError, match=match):
        list(read_rcc(tmp_path / "a.rcc"))

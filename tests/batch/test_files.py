"""Files are there whole or not at all, on a disk and behind URLs."""

import pickle
import resource
from pathlib import Path

import pytest

from attnviz.errors import ImageError, OutputError
from attnviz.media.atomic_files import is_partial
from attnviz.media.remote_files import Folder, read_image


@pytest.fixture(params=["local", "file", "memory"])
def folder(request, tmp_path: Path) -> Folder:
    name = tmp_path.name
    return Folder(
        {"local": f"{tmp_path}/run", "file": f"file://{tmp_path}/run", "memory": f"memory://{name}/run"}[request.param]
    )


def test_what_is_written_is_read_listed_replaced_and_removed(folder) -> None:
    folder = pickle.loads(pickle.dumps(folder))
    assert folder.names() == []
    assert not folder.exists("answers/part-0.parquet")
    folder.write("answers/part-0.parquet", b"one")
    folder.write("answers/part-0.parquet", b"two")
    folder.write("plan.json", b"{}")
    assert folder.read("answers/part-0.parquet") == b"two"
    assert folder.names() == ["answers", "plan.json"]
    assert folder.names("answers") == ["part-0.parquet"]
    folder.append("log.jsonl", "1")
    folder.append("log.jsonl", "2")
    assert folder.read("log.jsonl") == b"1\n2\n"
    folder.remove("answers")
    folder.remove("gone")
    assert folder.names() == ["log.jsonl", "plan.json"]


def test_a_full_disk_is_an_error_and_the_earlier_file_is_kept(tmp_path) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))  # a disk that takes no more than that
    try:
        with pytest.raises(OutputError, match=r"a: cannot be written: File too large"):
            folder.write("a", bytes(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert folder.read("a") == b"old"
    assert folder.names() == ["a"]


def test_a_folder_that_is_a_file_is_an_error(tmp_path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        Folder(str(tmp_path / "taken")).write("a", b"")


def test_an_unknown_scheme_is_an_error() -> None:
    with pytest.raises(OutputError, match="nowhere://"):
        Folder("nowhere://bucket/run").write("a", b"")
    with pytest.raises(ImageError, match="nowhere://"):
        read_image("nowhere://bucket/a.jpg")


def test_images_are_read_from_disks_and_urls(folder, tmp_path) -> None:
    folder.write("a.jpg", b"bytes")
    assert read_image(folder.path("a.jpg")) == b"bytes"
    with pytest.raises(ImageError, match=r"b\.jpg: no such file"):
        read_image(folder.path("b.jpg"))


def test_partial_files_are_known_by_their_names() -> None:
    assert is_partial(".part-000001.parquet.0123456789ab.partial")
    assert not is_partial("part-000001.parquet")

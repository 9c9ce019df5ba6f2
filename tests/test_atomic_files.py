"""Files are written completely or not at all, with the permissions of the process's umask."""

import json
import os
import stat
from pathlib import Path

import pytest

from attnviz.errors import OutputError
from attnviz.media.atomic_files import check_files, write_atomically, write_files, write_json


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o077])
def umask(request):
    """Permissions that the umask of the test leaves to files and folders."""
    before = os.umask(request.param)
    yield 0o666 & ~request.param, 0o777 & ~request.param
    os.umask(before)


def write_private(path):
    """Write a file as safetensors does: another one, with permissions only for its owner."""
    path.unlink()
    with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:  # noqa: PTH123
        file.write("new")


def test_permissions_follow_the_umask_which_is_never_changed(tmp_path, umask, monkeypatch):
    def refuse(_):
        raise AssertionError("the umask was changed")

    with monkeypatch.context() as patched:
        patched.setattr(os, "umask", refuse)
        write_atomically(tmp_path / "deep" / "a.bin", write_private)
        write_files(tmp_path / "new" / "out", ["b"], lambda o: (o / "b").write_text("b"), "report", overwrite=False)
    assert mode(tmp_path / "deep" / "a.bin") == umask[0]
    assert mode(tmp_path / "new" / "out" / "b") == umask[0]
    assert mode(tmp_path / "new" / "out") == umask[1]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_keeps_the_old_file_and_leaves_no_partial_one(tmp_path, error):
    (tmp_path / "a.txt").write_text("old")

    def fail(path):
        path.write_text("half")
        raise error

    expected = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match=r"a\.txt: cannot be written: No space" if expected is OutputError else "^$"):
        write_atomically(tmp_path / "a.txt", fail)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_file_below_a_file_is_an_error(tmp_path):
    (tmp_path / "f").touch()
    with pytest.raises(OutputError, match="f/a: cannot be written"):
        write_atomically(tmp_path / "f" / "a", Path.touch)


def test_json_is_written_atomically(tmp_path):
    write_json(tmp_path / "a.json", {"é": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"é": [1, None]}
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(tmp_path / "a.json", {"a": object()})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"é": [1, None]}


def test_existing_files_need_overwrite(tmp_path):
    (tmp_path / "a").touch()
    check_files(tmp_path, ["a"], "report", overwrite=True)
    with pytest.raises(OutputError, match="holds a already; --overwrite replaces it"):
        check_files(tmp_path, ["a", "b"], "report", overwrite=False)


def test_a_failure_removes_the_folders_that_were_created(tmp_path):
    def fail(_):
        raise OSError(5, "Input/output error")

    with pytest.raises(OutputError, match="cannot be written: Input/output error"):
        write_files(tmp_path / "new" / "out", ["a"], fail, "report", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_process_creates_meanwhile_is_used(tmp_path, monkeypatch):
    plain = Path.mkdir

    def mkdir(path, *arguments, **options):
        plain(path, *arguments, **options)
        raise FileExistsError(17, "File exists")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", mkdir)
        write_atomically(tmp_path / "new" / "a", lambda path: path.write_text("a"))
    assert (tmp_path / "new" / "a").read_text() == "a"

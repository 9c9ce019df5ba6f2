"""Saving of an explanation to a file, and of a report to a folder: all files or none."""

from pathlib import Path

import pytest

from attnviz.errors import OutputError, UnknownNameError
from attnviz.media.atomic_files import make_parents, write_files
from attnviz.report import FILE_NAMES, RENDERERS
from attnviz.report.explanation.folder import check_folder, folders_for, write_folder


class TestSaving:
    @pytest.mark.parametrize("name", [name for name in FILE_NAMES.values() if name != "overlay.gif"])
    def test_an_explanation_is_saved_by_its_ending(self, explanation, tmp_path, name):
        path = explanation.save(tmp_path / name)
        assert path.stat().st_size > 10_000
        assert [p.name for p in tmp_path.iterdir()] == [name]

    def test_an_unknown_format_is_an_error(self, explanation, tmp_path):
        with pytest.raises(UnknownNameError, match="unknown report format 'pdf': known are coco, gif, html, json, png"):
            explanation.save(tmp_path / "r.pdf")

    def test_the_case_of_the_ending_does_not_matter(self, explanation, tmp_path):
        assert explanation.save(tmp_path / "E.JSON").read_text().startswith("{")

    def test_a_file_in_place_of_the_folder_is_an_error(self, explanation, tmp_path):
        (tmp_path / "f").touch()
        with pytest.raises(OutputError, match=r"f/r\.json: cannot be written: Not a directory"):
            explanation.save(tmp_path / "f" / "r.json")

    def test_a_missing_folder_is_created(self, explanation, tmp_path):
        assert explanation.save(tmp_path / "missing" / "r.json").is_file()


class TestFolder:
    def test_only_the_given_formats_are_written(self, document, tmp_path):
        files = write_folder(document, tmp_path / "a" / "b", ("json", "html"))
        assert [p.name for p in files] == ["explanation.json", "report.html"]
        assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["explanation.json", "report.html"]
        assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]

    def test_an_earlier_report_is_replaced_only_with_overwrite(self, document, tmp_path):
        write_folder(document, tmp_path, ("json",))
        (tmp_path / "mine.txt").write_text("keep")
        with pytest.raises(OutputError, match=r"holds explanation\.json already; --overwrite replaces it"):
            write_folder(document, tmp_path, ("json", "html"))
        before = (tmp_path / "explanation.json").stat().st_mtime_ns
        write_folder(document, tmp_path, ("json", "html"), overwrite=True)
        assert (tmp_path / "explanation.json").stat().st_mtime_ns > before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["explanation.json", "mine.txt", "report.html"]

    @pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
    def test_an_interruption_leaves_no_partial_files(self, document, tmp_path, monkeypatch, failure):
        def fail(*_args):
            raise failure

        monkeypatch.setitem(RENDERERS._entries, "html", fail)
        wanted = KeyboardInterrupt if failure is KeyboardInterrupt else OutputError
        with pytest.raises(wanted, match="^$" if failure is KeyboardInterrupt else "No space left"):
            write_folder(document, tmp_path / "new" / "deep", ("json", "html"))
        assert list(tmp_path.iterdir()) == []

    def test_an_inaccessible_folder_is_an_error(self, tmp_path, monkeypatch):
        def refuse(_path):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "exists", refuse)
        with pytest.raises(OutputError, match="o: cannot be a folder for the report: Permission denied"):
            check_folder(tmp_path / "o", ("html",), overwrite=False)

    def test_a_file_instead_of_a_folder_is_an_error(self, tmp_path):
        (tmp_path / "f").touch()
        with pytest.raises(OutputError, match="is a file, wanted a folder"):
            check_folder(tmp_path / "f", ("html",), overwrite=True)
        with pytest.raises(OutputError, match=r"cannot be made, .*/f is a file"):
            check_folder(tmp_path / "f" / "g", ("html",), overwrite=True)

    def test_a_folder_that_cannot_be_created_is_an_error(self):
        with pytest.raises(OutputError, match="/proc/attnviz"):
            make_parents(Path("/proc/attnviz"))

    def test_temporary_files_are_on_the_disk_of_the_output_folder(self, tmp_path):
        """An existing output folder can be on another disk than its parent."""
        parents = []

        def fill(partial):
            parents.append(partial.parent)
            (partial / "a").mkdir()
            (partial / "a" / "one").write_text("new")

        (tmp_path / "existing" / "a").mkdir(parents=True)
        write_files(tmp_path / "existing", ["a"], fill, "study", overwrite=True)
        write_files(tmp_path / "new", ["a"], fill, "study", overwrite=False)
        assert parents == [tmp_path / "existing", tmp_path]
        assert (tmp_path / "existing" / "a" / "one").read_text() == "new"
        assert [p.name for p in (tmp_path / "existing").iterdir()] == ["a"]

    def test_folders_are_named_after_images(self):
        names = [str(f) for f in folders_for(["x/cat.png", "y/cat.jpg", "dog.png"], None)]
        assert names == ["cat", "cat-2", "dog"]
        assert [str(f) for f in folders_for(["cat.png"], "out")] == ["out"]

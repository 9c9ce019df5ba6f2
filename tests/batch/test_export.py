"""Other formats of a run, and the PDF that a real Chromium prints."""

import shutil
from pathlib import Path

import pytest

from attnviz.batch.export import BROWSERS, browser, export
from attnviz.batch.image_pages import page_name
from attnviz.batch.store import Store
from attnviz.errors import OutputError

CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_page_is_printed_as_pdf(tmp_path: Path) -> None:
    (tmp_path / "a b & c").mkdir()
    (tmp_path / "a b & c" / "index.html").write_text("<!doctype html><title>é</title><h1>A page</h1>", encoding="utf-8")
    (file,) = export(Store(str(tmp_path / "a b & c")), None, None, ("pdf",))
    assert Path(file).read_bytes().startswith(b"%PDF-")
    assert [path.name for path in sorted((tmp_path / "a b & c").iterdir())] == ["index.html", "report.pdf"]


def test_a_pdf_without_a_page_or_of_another_store_is_refused(tmp_path: Path) -> None:
    for root, message in ((str(tmp_path), "there is no page to print"), ("memory://pdf/run", "copy the run first")):
        with pytest.raises(OutputError, match=message):
            export(Store(root), None, None, ("pdf",))


def test_a_browser_is_found_by_its_names_or_by_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("CHROME", "/opt/chrome")
    assert browser(lambda name: name if name == "/opt/chrome" else None) == "/opt/chrome"
    assert browser(lambda name: name if name == "google-chrome" else None) == "google-chrome"
    monkeypatch.delenv("CHROME")
    with pytest.raises(OutputError, match="environment variable CHROME"):
        browser(lambda _name: None)


def test_a_models_name_becomes_a_files_name() -> None:
    assert page_name(3, "hf:face/../dino <v2>") == "details/000003-hf_face_.._dino__v2_.html"

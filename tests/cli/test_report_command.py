"""``attnviz report``: a folder in, tables, pages and a summary out."""

import json
import shutil
from pathlib import Path

import pytest
from batch_photos import ODD_NAME, TINY, bomb, picture


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for n, name in enumerate(("rocket/1.png", "rocket/2.png", "espresso/3.png", ODD_NAME)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(n))
    return folder


@pytest.fixture
def report(run, photos, monkeypatch, request):
    if not getattr(request, "param", False):  # which is tested by itself
        monkeypatch.setattr("attnviz.report.dataset.write", lambda folder: Path(folder) / "index.html")

    def invoke(*words: str, given: object = photos, pages: int = 0):
        return run("report", given, "--model", TINY, "--out", "out", "--pages", pages, "--batch", 2, *words)

    return invoke


@pytest.mark.parametrize("report", [True], indirect=True, ids=["with its page"])
def test_a_folder_gives_tables_and_a_summary_in_words(report, photos) -> None:
    (photos / "espresso" / "bomb.png").write_bytes(bomb())
    shutil.copy(photos / "rocket" / "1.png", photos / "rocket" / "copy.png")
    result = report()
    assert result.exit_code == 0, result.output
    for text in (
        "6 images in ",
        "failed, 30000 × 30000 pixels, at most 536,870,912 can be read",
        "Files that are identical to an earlier one: 1",
        "maps disagree: ",
        "confident but wrong: ",
        "is taken for",
        "out/measures",
    ):
        assert text in " ".join(result.output.split())
    assert Path("out/index.html").is_file()
    assert ODD_NAME not in Path("out/index.html").read_text(encoding="utf-8")
    assert ODD_NAME not in result.output  # a line break in a name breaks no line
    again = report()
    assert "All 6 images were done before." in again.output


def test_json_is_for_machines(report) -> None:
    result = report("--json", "--quiet", "--export", "csv,json", "--metrics", "deletion", "--methods", "saliency")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["schema"], found["total"], found["computed"], found["before"]) == ("attnviz.batch", 4, 4, 0)
    (model,) = found["summary"]["models"]
    assert {one["measure"] for one in model["means"] if one["subject"] == "saliency"} == {"deletion", "gini"}
    assert {"out/measures.csv", "out/answers.csv", "out/report.json"} <= set(found["files"])
    whole = json.loads(Path("out/report.json").read_text())
    assert [image["item"] for image in whole["images"]] == [0, 1, 2, 3]
    assert ODD_NAME in whole["images"][0]["image"]
    assert whole["images"][1]["models"][0]["measures"][0]["kind"] == "answer"
    import pandas as pd

    table = pd.read_csv("out/measures.csv")
    assert len(table) == len(pd.read_parquet("out/measures"))
    assert set(table.item) == {0, 1, 2, 3}


def test_the_most_surprising_images_have_a_page_of_their_own(report) -> None:
    assert report("-q", pages=2).exit_code == 0
    pages = sorted(path.name for path in Path("out/details").iterdir())
    assert len(pages) == 2
    assert all(name.endswith("-tiny_model_build.html") for name in pages)
    text = (Path("out/details") / pages[0]).read_text(encoding="utf-8")
    assert "<img src=x" not in text
    before = {path: path.stat().st_mtime_ns for path in Path("out/details").iterdir()}
    assert report("-q", pages=2).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in Path("out/details").iterdir()} == before


def test_the_same_command_continues_an_interrupted_run(report, monkeypatch) -> None:
    from attnviz.batch import local_engine

    plain, calls = local_engine.compute, []

    def compute(*words):
        calls.append(words)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(*words)

    with monkeypatch.context() as patch:
        patch.setattr(local_engine, "compute", compute)
        stopped = report("--shard-size", 2)
    assert stopped.exit_code == 130
    assert "Interrupted: 1 of 2 shards are kept; the same command continues the run." in stopped.output
    result = report("--shard-size", 2)
    assert "2 images in " in result.output
    assert "2 were done before" in result.output


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--methods", "gradcan"], 1, "did you mean gradcam"),
        (["--metrics", "gini"], 1, "unknown faithfulness test 'gini'"),
        (["--sites", "nowhere"], 1, "nowhere"),
        (["--device", "tpu"], 1, "tpu"),
        (["--actors", "2"], 2, "need --engine ray"),
        (["--export", "xml"], 2, "'xml' is not one of csv, json, pdf"),
        (["--batch", "0"], 2, "0 is not in the range"),
        (["--weights", ""], 2, "wanted default, none or a file"),
    ],
)
def test_a_wrong_option_gives_one_line(report, words, code, message) -> None:
    result = report("-q", *words)
    assert result.exit_code == code
    assert message in result.output
    assert not Path("out").exists()


def test_a_mistake_in_a_list_is_an_error_with_its_line(report, tmp_path) -> None:
    (tmp_path / "list.csv").write_text("path,label\na.png\n")
    result = report("-q", given=tmp_path / "list.csv")
    assert (result.exit_code, result.output.strip()) == (
        1,
        f"Error: {tmp_path}/list.csv, line 2: has no cell for label",
    )


def test_a_changed_configuration_is_refused_by_its_keys(report) -> None:
    assert report("-q").exit_code == 0
    result = report("-q", "--seed", "3")
    assert result.exit_code == 1
    assert "settings.seed was 0 and is 3" in result.output
    assert report("-q", "--seed", "3", "--overwrite").exit_code == 0


def test_a_pdf_without_chromium_is_an_error_before_the_work(report, monkeypatch) -> None:
    monkeypatch.delenv("CHROME", raising=False)
    monkeypatch.setenv("PATH", "")
    result = report("-q", "--export", "pdf")
    assert result.exit_code == 1
    assert "printed by Chromium, which is not installed" in result.output
    assert not Path("out").exists()


def test_ray_that_is_not_installed_is_an_error(report, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    result = report("-q", "--engine", "ray")
    assert result.exit_code == 1
    assert "pip install 'attnviz[ray]'" in result.output

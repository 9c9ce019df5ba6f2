"""``attnviz sparsity``: tables, files, several models, clear errors."""

import json
import re
from pathlib import Path

import pytest

from attnviz.cli.sparsity import chunked

SAMPLES = Path(__file__).parents[2] / "sample_data"
TINY = "tiny_model:build"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("rocket.jpg", "chelsea.png"):
        (folder / name).write_bytes((SAMPLES / name).read_bytes())
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def sparsity(run, photos):
    def invoke(*words: str, image: object = photos, formats: str = "json"):
        return run("sparsity", image, "--model", TINY, "--out", "out", "--format", formats, *words)

    return invoke


def test_a_folder_gives_tables_a_page_figures_and_a_file_for_machines(sparsity) -> None:
    result = sparsity("--causal", "--activations", formats="html,png,json")
    assert result.exit_code == 0, result.output
    for text in (
        "Sparsity of g",
        "Share of g that is needed",
        "Effect of replacing g",
        "relu 01",
        "all sites",
        "2 images",
    ):
        assert text in result.output
    study = json.loads(Path("out/sparsity.json").read_text())
    assert (study["schema"], study["version"]) == ("attnviz.sparsity", 1)
    (model,) = study["models"]
    assert [site["kind"] for site in model["sites"]] == ["channel", "spatial"]
    assert model["causal"][0]["curves"]["strongest.probability"]["mean"][-1] == 1
    assert {path.name for path in Path("out/figures").iterdir()} == {
        "answers.png",
        "distributions.png",
        "lorenz.png",
        "pruning.png",
    }
    page = Path("out/sparsity.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert not re.findall(r"https?://", page)
    assert {path.name for path in Path("out").iterdir()} == {"sparsity.html", "sparsity.json", "figures"}


def test_a_model_that_cannot_be_loaded_is_an_error_and_nothing_is_written(sparsity) -> None:
    result = sparsity("--model", "tiny_model:build", "--model", "tiny_model:again", formats="png,json")
    assert result.exit_code == 1
    assert "again" in result.output
    assert not Path("out/sparsity.json").exists()


def test_several_models_are_shown_side_by_side(sparsity) -> None:
    assert sparsity("-q", "--model", "tiny_model:interrupted").exit_code == 130
    result = sparsity("--causal", "--model", "tiny_model:attending", formats="png,json")
    assert result.exit_code == 0, result.output
    names = {path.name for path in Path("out/figures").iterdir()}
    assert {"models.png", "lorenz-tiny-model-build.png", "heads-tiny-model-attending.png"} <= names
    assert "sinks-tiny-model-attending.png" in names


def test_json_is_for_machines(sparsity) -> None:
    result = sparsity("--json", "--quiet", "--measures", "gini,kurtosis", "--sites", "spatial")
    assert result.exit_code == 0, result.output
    study = json.loads(result.stdout)
    assert list(study["models"][0]["sites"][0]["measures"]) == ["g.gini", "g.kurtosis"]
    assert study["files"] == ["out/sparsity.json"]


def test_an_earlier_study_is_not_replaced_unasked(sparsity) -> None:
    assert sparsity("-q").exit_code == 0
    again = sparsity("-q")
    assert again.exit_code == 1
    assert "holds sparsity.json already; --overwrite replaces it" in again.output
    assert sparsity("-q", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--measures", "ginni"], "unknown sparsity measure 'ginni': did you mean gini?"),
        (["--sites", "nowhere"], "no attention site matches 'nowhere'; the sites are (root), (root)#1"),
        (["--model", "tiny_model:plain"], "has no attention"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_a_mistake_is_an_error_of_one_line(sparsity, words: list[str], message: str) -> None:
    result = sparsity("-q", *words)
    assert result.exit_code == 1
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_missing_paths_and_folders_without_images_are_errors(sparsity, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for image, message in ((tmp_path / "empty", "no image in this folder"), ("gone.jpg", "gone.jpg: no such file")):
        result = sparsity("-q", image=image)
        assert result.exit_code == 1
        assert message in result.output


def test_an_interruption_leaves_what_is_needed_to_go_on(sparsity, monkeypatch) -> None:
    from attnviz.analyses import sparsity_study as module

    with monkeypatch.context() as patch:

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(module, "_intervene", stop)
        assert sparsity("-q", "--causal").exit_code == 130
    assert [path.suffix for path in Path("out").iterdir()] == [".resume"]
    monkeypatch.setattr(module, "_measure", None)  # finished batches are not measured again
    result = sparsity("-q", "--causal")
    assert result.exit_code == 0, result.output
    assert [path.name for path in Path("out").iterdir()] == ["sparsity.json"]


def test_no_batch_is_of_one_image_where_it_can_be_helped() -> None:
    paths = [Path(str(i)) for i in range(7)]
    assert [len(chunk) for chunk in chunked(paths, 3)] == [3, 4]
    assert [len(chunk) for chunk in chunked(paths[:1], 3)] == [1]
    assert [len(chunk) for chunk in chunked(paths[:2], 1)] == [1, 1]


def test_a_url_is_refused_since_files_are_read_locally(run) -> None:
    import fsspec

    with fsspec.open("memory://photos/a.png", "wb") as file:
        file.write((SAMPLES / "chelsea.png").read_bytes())
    for command in ("explain", "compare", "sparsity"):
        result = run(command, "memory://photos/a.png", "--model", TINY)
        assert result.exit_code == 2
        assert "wanted local files, got memory://photos/a.png; attnviz report also takes URLs" in result.stderr

"""``attnviz explain`` of a clip: what it prints and writes, and what it refuses."""

import json
from pathlib import Path

import pytest
from PIL import Image

CLIP = str(Path(__file__).parents[2] / "sample_data" / "clip.mp4")


@pytest.fixture
def explain(run):
    def invoke(*words: str, image: str = CLIP, model: str = "tiny_model:clips"):
        return run("explain", image, "--model", model, "--methods", "saliency", *words)

    return invoke


def refused(result) -> str:
    assert result.exit_code == 1, result.output
    assert result.output.count("\n") == 1
    return result.output


def test_a_clip_gets_an_animation_and_the_usual_files(explain):
    result = explain()
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in Path("clip").iterdir()) == [
        "explanation.json", "overlay.gif", "panel.png", "report.html",
    ]  # fmt: skip
    with Image.open("clip/overlay.gif") as image:
        assert image.n_frames == 4
    assert "Frames: temporal weight" in result.stdout
    for second in ("0.50 s", "1.50 s", "2.50 s", "3.50 s"):
        assert second in result.stdout


def test_a_model_of_single_images_has_a_prediction_for_each_frame(explain):
    result = explain("--frames", "3", "--format", "json", model="tiny_model:build")
    assert result.exit_code == 0, result.output
    assert "Frames: probability of the target" in result.stdout
    assert "processed one by one" in " ".join(result.stdout.split())


def test_frames_can_be_chosen(explain):
    result = explain("--frames", "6", "--format", "json", "--json")
    summary = json.loads(result.stdout)
    assert len(summary["clip"]["weights"]) == summary["settings"]["frames"] == 6
    assert sum(summary["clip"]["weights"]) == pytest.approx(1, abs=1e-5)
    assert summary["files"] == ["clip/explanation.json"]


@pytest.mark.parametrize("count", ["0", "65", "many"])
def test_frames_that_cannot_be_are_a_usage_error(explain, count):
    result = explain("--frames", count)
    assert result.exit_code == 2
    assert "--frames" in result.output


def test_a_photograph_gets_no_animation(explain, photo):
    result = explain("--format", "json,gif", image=photo, model="tiny_model:build")
    assert result.exit_code == 0, result.output
    assert [p.name for p in Path("rocket").iterdir()] == ["explanation.json"]
    message = refused(explain("--format", "gif", "--out", "o", "--quiet", image=photo, model="tiny_model:build"))
    assert "rocket.jpg: an image has no frames to animate" in message
    assert not Path("o").exists()


def test_a_photograph_is_refused_by_a_model_of_clips(explain, photo):
    assert "takes 4 frames of a clip, wanted a video" in refused(explain("--quiet", image=photo))


def test_a_clip_that_cannot_be_read_is_refused_before_a_model_is_loaded(explain):
    Path("bad.mp4").write_bytes(b"no video")
    message = refused(explain(image="bad.mp4", model="timm:no_such_model"))
    assert message.startswith("Error: bad.mp4: not a video that can be decoded")
    assert refused(explain(image="none.mp4")) == "Error: none.mp4: no such file or folder\n"

"""``attnviz compare``: its files, its output, and its errors."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnviz.analyses.comparison_summary import summary_of
from attnviz.core.comparison_results import Metric, Row
from attnviz.core.intervals import Interval

QUICK = ("--methods", "gradcam,saliency", "--metrics", "insertion,average_drop")


@pytest.fixture
def compare(run, photo):
    def invoke(*words: str, images=(photo,), models=("tiny_model:build",), formats: str = "json"):
        named = [word for model in models for word in ("--model", model)]
        return run("compare", *images, *named, "--format", formats, "--out", "o", *words)

    return invoke


def read() -> dict:
    return json.loads(Path("o/comparison.json").read_text(encoding="utf-8"))


def test_it_writes_a_page_figures_and_json(compare):
    result = compare(*QUICK, formats="html,png,json")
    assert result.exit_code == 0, result.output
    drawn = ["agreement.png", "curves.png", "maps.png", "matrix.png"]
    assert sorted(path.name for path in Path("o/figures").iterdir()) == drawn
    page = Path("o/comparison.html").read_text(encoding="utf-8")
    assert '<h1 id="title">Comparison of maps</h1>' in page
    assert 'src="http' not in page
    found = read()
    kinds = [row["kind"] for row in found["rows"]]
    assert kinds[-2:] == ["baseline", "baseline"]
    assert {"attention", "attribution"} == set(kinds[:-2])
    assert len(found["agreement"]) == 8
    inserted = [row["cells"]["insertion"] for row in found["rows"]]
    assert all(0 <= cell["value"] <= 1 for cell in inserted if cell["n"])
    assert (
        sum(cell["n"] for cell in inserted) >= len(inserted) - 1
    )  # a map of zeros, as of Grad-CAM here, ranks nothing
    assert "Insertion" in result.stdout
    assert "note: Agreement is not truth" in result.stdout


def test_rows_name_their_model_and_masks_allow_localisation(compare, tmp_path):
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 15:45] = 255
    Image.fromarray(mask).save("mask.png")
    photo = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(photo).save("photo.png")
    result = compare(
        "--methods", "saliency", "--mask", "mask.png", "--metrics", "pointing,energy,auc", images=("photo.png",),
        models=("tiny_model:build", "tiny_model:plain"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    names = [row["name"] for row in read()["rows"]]
    assert "tiny_model:build: saliency" in names
    assert "tiny_model:plain: saliency" in names
    assert any("Different models have different predictions" in text for text in read()["caveats"])


def test_a_method_that_does_not_apply_is_left_out_with_a_note(compare):
    result = compare("--methods", "gradcam,saliency", "--metrics", "insertion", models=("tiny_model:tokens",))
    assert result.exit_code == 0, result.output
    assert any("Left out of tiny_model:tokens: gradcam: " in text for text in read()["caveats"])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--methods", "gradcma"), 1, "unknown attribution method 'gradcma'"),
        (("--metrics", "insertoin"), 1, "unknown faithfulness test 'insertoin': did you mean insertion"),
        (("--metrics", "pointing"), 1, "pointing compares maps with the object: give a mask or boxes for each image"),
        (("--mask", "a.png", "--mask", "b.png"), 2, "wanted one --mask for each of 1 images, got 2"),
    ],
)
def test_a_wrong_option_gives_one_line(compare, words, code, message):
    result = compare(*words)
    assert result.exit_code == code
    assert message in result.stderr


def test_an_earlier_comparison_is_only_overwritten_with_the_option(compare):
    assert compare(*QUICK).exit_code == 0
    result = compare(*QUICK)
    assert result.exit_code == 1
    assert "holds comparison.json already; --overwrite replaces it" in result.stderr
    assert compare(*QUICK, "--overwrite").exit_code == 0


def row(name: str, kind: str, low: float, value: float, high: float) -> Row:
    return Row(name, "m", kind, "", {"insertion": Interval(value, low, high, 9)})


METRIC = (Metric("insertion", "better", ""),)


@pytest.mark.parametrize(
    ("best", "wanted"),
    [
        ((0.7, 0.8, 0.9), "gradcam is best with 0.800 [0.700, 0.900], clearly better than the centre of the image"),
        ((0.5, 0.8, 0.9), "but its interval overlaps with that of a baseline"),
        ((0.4, 0.5, 0.6), "no better than centre: by this test no map can be trusted"),
    ],
)
def test_the_summary_claims_no_more_than_the_intervals_allow(best, wanted):
    rows = [row("gradcam", "attribution", *best), row("centre", "baseline", 0.5, 0.6, 0.65),
            row("random", "baseline", 0.1, 0.2, 0.3)]  # fmt: skip
    text = " ".join(summary_of(rows, METRIC, ["gradcam"], [[1.0]], {}, 9))
    assert wanted in text


def test_groups_of_maps_that_rank_alike_are_named():
    rows = [row(name, "attribution", math.nan, 0.5, math.nan) for name in "abc"]
    text = " ".join(summary_of(rows, METRIC, list("abc"), [[1, 0.7, 0], [0.7, 1, 0], [0, 0, 1]], {}, 1))
    assert "a with b; on their own are c." in text
    assert "One image is not enough for a claim." in text

"""The page of a run as files: numbers, unusual names, unfinished runs and damaged files."""

import json
import math
import re
import sys

import numpy as np
import pytest
from runs import LABELS, MAPS, UNUSUAL_NAMES, make_run, share_of, state_of, value_of

from attnviz.batch import Store
from attnviz.batch.summary import summarise
from attnviz.core.intervals import mean_intervals
from attnviz.errors import DataError, OutputError
from attnviz.report.core.formatting import visible
from attnviz.report.dataset import write
from attnviz.report.dataset.columns import Column, gather
from attnviz.report.dataset.figures import boxes
from attnviz.report.dataset.js_data import call
from attnviz.report.dataset.outliers import MAX_OUTLIERS, outlier_lists
from attnviz.report.dataset.overview import agreement, model_rows, wilson
from attnviz.report.dataset.predictions import read_predictions
from attnviz.report.dataset.run_folder import open_run

IMAGES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("run"), IMAGES)
    write(run)
    return run


@pytest.fixture(scope="module")
def run(folder):
    return open_run(folder)


@pytest.fixture(scope="module")
def columns(run, tmp_path_factory):
    return gather(run, tmp_path_factory.mktemp("scratch") / "columns")


@pytest.fixture(scope="module")
def predictions(run, tmp_path_factory):
    return read_predictions(run, tmp_path_factory.mktemp("page"))[0]


def ok(item):
    return state_of(item, 0)[0] == "ok"


def arguments(text, name):
    """Return the arguments of a data script's call."""
    found = re.fullmatch(rf"attnviz\.{name}\((.*)\);\n", text)
    return json.loads(f"[{found[1]}]")


class TestColumns:
    def test_every_number_is_at_the_index_of_its_image(self, columns):
        at = columns.keys.index(Column("timm:m2", "site", "gate.2", "g", "hoyer"))
        wanted = [value_of(item, 1, 2) if ok(item) else math.nan for item in range(IMAGES)]
        assert columns.values[at] == pytest.approx(wanted, nan_ok=True)

    def test_the_mean_of_a_kind_is_also_a_column(self, columns):
        at = columns.keys.index(Column("m1", "site", "", "", "hoyer"))
        assert columns.values[at, 8] == pytest.approx((value_of(8, 0, 1) + value_of(8, 0, 2)) / 2)
        assert columns.keys[at].of_all
        assert math.isnan(columns.values[at, 5])

    def test_a_kind_with_one_subject_has_no_mean(self, columns):
        assert len(columns.where(model="m1", kind="attention", measure="insertion")) == 1


class TestIntervals:
    def test_the_interval_of_a_mean_shrinks_with_the_number_of_images(self):
        generator = np.random.default_rng(0)
        small, large = (mean_intervals(generator.normal(5, 1, (1, n)))[0] for n in (25, 2500))
        assert small[1] < small[0] < small[2]
        assert large[2] - large[1] == pytest.approx(2 * 1.96 / 50, rel=0.15)
        assert small[2] - small[1] > 5 * (large[2] - large[1])

    def test_missing_values_of_a_row_are_not_resampled(self):
        values = np.array([[0.0, 1.0] * 50, [0.0, np.nan] * 50])
        found = mean_intervals(values)
        assert found[1].tolist() == [0, 0, 0]
        assert found[0, 0] == 0.5

    def test_the_same_seed_gives_the_same_interval(self):
        values = np.random.default_rng(1).random((3, 30))
        assert np.array_equal(mean_intervals(values), mean_intervals(values))

    def test_the_wilson_interval_is_within_0_and_1(self):
        assert wilson(0, 10)[0] == 0
        assert wilson(10, 10) == pytest.approx((0.722, 1.0), abs=1e-3)


class TestOverview:
    def test_the_row_of_a_model_counts_its_images(self, run, columns, predictions):
        row = model_rows(run, columns, predictions)[0]
        states = [state_of(item, 0) for item in range(IMAGES)]
        right, wrong = (sum(one == ("ok", flag) for one in states) for flag in (True, False))
        assert (row["ok"], row["failed"]) == (sum(map(ok, range(IMAGES))), sum(not ok(item) for item in range(IMAGES)))
        assert row["labelled"] == right + wrong
        assert row["accuracy"] == f"{right / (right + wrong):.0%}"

    def test_the_first_outlier_is_the_most_confident_error(self, run, columns, predictions):
        title, _, members = outlier_lists(run, columns, predictions)[0]
        wrong = [item for item in range(IMAGES) if state_of(item, 0) == ("ok", False)]
        assert title == "Confident errors"
        assert [one.item for one in members] == sorted(wrong, key=lambda item: -share_of(item, 0))[:8]
        assert members[0].what == f"p = {share_of(members[0].item, 0):.2f}, and wrong"

    def test_other_outliers_have_disagreeing_maps_or_unfaithful_attributions(self, run, columns, predictions):
        (_, _, disagreeing), (title, text, unfaithful) = outlier_lists(run, columns, predictions)[1:]
        mean = columns.values[columns.where(kind="pair", measure="spearman", subject="")].min(0)
        assert disagreeing[0].item == int(np.nanargmin(mean))
        assert title == "Unfaithful attributions"
        assert text.startswith("Lowest Insertion")
        assert all(predictions.probability[run.models.index(one.model), one.item] >= 0.5 for one in unfaithful)

    def test_the_summary_of_the_command_has_the_same_outliers(self, folder, run, columns, predictions):
        summary = summarise(Store(str(folder)), list(run.models), MAX_OUTLIERS)
        errors, disagreeing, _ = outlier_lists(run, columns, predictions)
        for mine, others in ((errors, summary.wrong), (disagreeing, summary.disagreements)):
            assert [(one.item, one.model) for one in mine.members] == [(one.item, one.model) for one in others]
            assert len({one.item for one in others}) == MAX_OUTLIERS

    def test_the_matrix_contains_means_with_intervals(self, run, columns):
        matrix = next(iter(agreement(columns, run)))
        at = columns.keys.index(Column("m1", "pair", "gate.1", "gradcam", "spearman"))
        mean, low, high = mean_intervals(columns.values[[at]])[0]
        cell = matrix["rows"][0][1]
        assert (cell["text"], cell["range"]) == (f"{mean:.2f}", f"{low:.2f} to {high:.2f}")
        assert matrix["rows"][1][0] == cell
        assert matrix["rows"][0][0] is None
        assert matrix["names"] == ["gate.1", "Grad-CAM", "Saliency"]

    def test_every_measure_has_box_plots_over_maps_and_over_classes(self, run, columns, predictions):
        found = {one.name: one for one in boxes(run, columns, predictions)}
        assert list(found) == [
            f"{name}{classes}"
            for name in ("answer-margin", "maps-insertion", "site-hoyer", "pair-spearman", "pair-ssim")
            for classes in ("", "-classes")
        ]
        assert [row[0] for row in found["maps-insertion"].panels["m1"]] == ["gate.1", "Grad-CAM", "Saliency"]
        assert {row[0] for row in found["site-hoyer-classes"].panels["m1"]} == set(LABELS)
        line = found["answer-margin"].table[0]
        values = [value_of(item, 0, 0) for item in range(1, IMAGES) if ok(item)]
        assert (line["images"], line["median"]) == (str(len(values)), f"{np.median(values):.3g}")
        assert "Medians: prediction (m1)" in found["answer-margin"].alt_text

    def test_a_failure_of_all_models_counts_once(self, run, predictions):
        failures = [item for item in range(IMAGES) if not ok(item)]
        assert predictions.reasons == {"broken <b>file</b>": len(failures)}
        assert [one["item"] for one in predictions.failures] == failures
        assert predictions.failures[0]["models"] == list(run.models)


class TestFiles:
    def test_the_folder_contains_a_page_and_its_data(self, folder):
        assert (folder / "index.html").is_file()
        parts = {one.parent.name: [*one.parent.iterdir()] for one in (folder / "page").rglob("*.js")}
        assert {name: len(parts[name]) for name in ("data", "thumbs", "index")} == {"data": 3, "thumbs": 3, "index": 1}
        assert not [*folder.glob(".*.partial")]

    def test_maps_and_numbers_of_an_image_are_in_the_script_of_its_shard(self, folder):
        shard, items = arguments((folder / "page/data/part-000001.js").read_text(), "data")
        assert (shard, sorted(map(int, items))) == (1, list(range(16, 32)))
        known = items["17"]["models"]["m1"]
        assert [one["key"] for one in known["maps"]] == [f"{kind}/{name}" for name, kind, _ in MAPS]
        assert known["maps"][0]["to"] == 2.0  # stored as fractions of the largest absolute value
        assert known["values"][0] == [0, pytest.approx(value_of(17, 0, 0), rel=1e-4)]
        assert items["19"]["models"]["m1"]["reason"] == "broken <b>file</b>"

    def test_a_missing_number_has_a_reason(self, folder):
        _, items = arguments((folder / "page/data/part-000000.js").read_text(), "data")
        assert items["0"]["models"]["m1"]["values"][0] == [0, None, "the map is constant"]

    def test_data_cannot_end_a_script(self):
        text = call("take", {"</script>": "\u2028\u2029<!--"})
        assert "<" not in text
        assert text.isascii()
        assert len(text.splitlines()) == 1

    def test_markup_in_names_is_escaped(self, folder):
        text = (folder / "index.html").read_text()
        assert "<script>alert(1)" not in text
        assert "<img src=x" not in text
        assert "<b>鳥" not in text
        assert "49.png" not in text
        index = (folder / "page/index/part-000000.js").read_text()
        (data,) = arguments(index, "index")
        assert data["names"][: len(UNUSUAL_NAMES)] == [f"photos/{visible(name)}" for name in UNUSUAL_NAMES]
        assert "<" not in index

    def test_the_policy_allows_only_scripts_from_files(self, folder):
        text = (folder / "index.html").read_text()
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
        assert "default-src 'none'" in policy
        assert "script-src 'self' file:" in policy
        assert not re.findall(r"<script(?![^>]*(?:src=|application/json))", text)
        assert not re.findall(r"\son\w+=", text)

    def test_writing_again_replaces_only_the_page(self, tmp_path):
        make_run(tmp_path, 8, shard=8)
        write(tmp_path)
        (tmp_path / "page" / "data" / "part-000099.js").write_text("old")
        (tmp_path / "mine.txt").write_text("keep")
        write(tmp_path)
        assert not (tmp_path / "page" / "data" / "part-000099.js").exists()
        assert (tmp_path / "mine.txt").read_text() == "keep"

    def test_the_earlier_page_is_kept_after_an_error(self, tmp_path, monkeypatch):
        make_run(tmp_path, 8, shard=8)
        before = write(tmp_path).read_text()

        def fail(*_args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(sys.modules["attnviz.report.dataset.write"], "write_parts", fail)
        with pytest.raises(OutputError, match="cannot be written: No space left"):
            write(tmp_path)
        assert (tmp_path / "index.html").read_text() == before
        assert (tmp_path / "page" / "data").is_dir()
        assert not [*tmp_path.glob(".*.partial")]

    def test_the_page_of_an_unfinished_run_has_a_note(self, tmp_path):
        make_run(tmp_path, 8, shard=8, total=100)
        assert "of 100; the run is not finished" in write(tmp_path).read_text()

    def test_a_run_without_shards_has_a_page(self, tmp_path):
        make_run(tmp_path, 0, total=100)
        text = write(tmp_path).read_text()
        assert "0 images" in text

    def test_a_folder_without_a_run_is_an_error(self, tmp_path):
        with pytest.raises(DataError, match=r"plan\.json: cannot be read as the plan of a run"):
            write(tmp_path)

    def test_the_error_names_a_damaged_table(self, tmp_path):
        make_run(tmp_path, 4, shard=4)
        (tmp_path / "measures" / "part-000000.parquet").write_bytes(b"no")
        with pytest.raises(DataError, match=r"part-000000\.parquet: cannot be read as a table"):
            write(tmp_path)

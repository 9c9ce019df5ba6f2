"""A run: measurements equal those of explain, compare and sparsity; errors are reported; finished shards are kept."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from batch_photos import ODD_NAME, TINY, parquet, picture, rows

import attnviz
from attnviz.batch import RunOptions, run
from attnviz.batch.evaluate_batch import evaluate_batch
from attnviz.batch.image_reader import read_ahead
from attnviz.batch.shard import compute, prepare_models, preprocessings_of
from attnviz.batch.summary import summarise
from attnviz.errors import AttributionError, DataError, OutputError, UnknownNameError
from attnviz.media.image_item import Item
from attnviz.metrics.faithfulness import FAITHFULNESS
from attnviz.metrics.localisation import LOCALISATION
from attnviz.metrics.perturbation_curves import TargetProbe
from attnviz.targets import ClassLogit

SMALL = RunOptions(models=(TINY,), batch=2, shard_size=4)


def evaluated(items, prepared):
    return compute(read_ahead(items, preprocessings_of([prepared])), [prepared])


def value(found: list[dict], **keys) -> float:
    (row,) = [row for row in found if all(row[key] == wanted for key, wanted in keys.items())]
    return row["value"]


def test_the_numbers_are_those_of_explain(photos, tmp_path) -> None:
    run([str(photos)], str(tmp_path / "out"), replace(SMALL, sites="*"))
    measures, image = rows(tmp_path / "out", "measures"), photos / "rocket" / "3.png"
    explained = attnviz.explain(str(image), TINY, methods=["gradcam", "saliency"])
    pairs = [score for score in explained.scores if score.measure == "spearman"]
    assert len(pairs) == 6  # four maps: of two sites and two methods
    for score in pairs:
        found = value(
            measures,
            image=str(image),
            kind="pair",
            subject=score.subject[0],
            other=score.subject[1],
            measure="spearman",
        )
        assert found == pytest.approx(score.value, abs=1e-4, nan_ok=True)
    (answer,) = [row for row in rows(tmp_path / "out", "answers") if row["image"] == str(image)]
    assert (answer["target"], answer["target_label"]) == (explained.target.index, explained.target.label)
    assert answer["probability"] == pytest.approx(explained.target.probability, abs=1e-6)
    for row in rows(tmp_path / "out", "maps"):
        (heatmap,) = [one for one in explained.heatmaps if one.name == row["name"]]
        if row["item"] == answer["item"]:
            stored = np.frombuffer(row["values"], "<f2").reshape(row["height"], row["width"]).astype(float)
            scale = max(abs(row["low"]), abs(row["high"]))
            np.testing.assert_allclose(stored * scale, heatmap.values[0].numpy(), atol=1e-3 * scale + 1e-12)
            assert row["method"] == heatmap.method


def test_the_sparsity_of_g_is_that_of_the_study(photos, tmp_path) -> None:
    from attnviz.analyses.sparsity_study import StudyConfig, study

    for model in (TINY, "tiny_model:attending"):
        run([str(photos)], str(tmp_path / model), replace(SMALL, models=(model,)))
        vision = attnviz.load_model(model)
        images = attnviz.load_images(sorted(photos.rglob("*.png")), vision.preprocess)
        found = study(vision.module, [lambda images=images: images.x], StudyConfig())
        measures = rows(tmp_path / model, "measures")
        for site in found.sites:
            for name in ("gini", "top_mass"):
                wanted = site.measures[f"g.{name}"]
                got = [
                    row["value"]
                    for row in measures
                    if (row["kind"], row["subject"], row["measure"]) == ("site", site.name, name)
                ]
                assert np.mean(got) == pytest.approx(wanted.value, abs=1e-5)
                assert len(got) == wanted.n == 6


def test_metrics_and_localisation_are_those_of_compare(photos, tmp_path) -> None:
    table = photos.parent / "list.csv"
    table.write_text("path,label,boxes\nphotos/rocket/1.png,rocket,0 0 20 48\nphotos/rocket/3.png,rocket,\n")
    names = ("deletion", "average_drop")
    run([str(table)], str(tmp_path / "out"), replace(SMALL, metrics=names))
    (prepared,) = prepare_models(SMALL)
    images = attnviz.load_images([photos / "rocket" / "1.png", photos / "rocket" / "3.png"], prepared.vision.preprocess)
    found = evaluate_batch(prepared, images.x)
    targets = [ClassLogit(one.index) for one in found.explained]
    probe = TargetProbe(prepared.vision, images.x, targets)
    saliency = attnviz.attribute(prepared.vision, images.x, targets, "saliency").values
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    left, _, right, _ = prepared.vision.preprocess.box(48, 40)
    mask[:, :, [left + (i + 0.5) / 32 * (right - left) < 20 for i in range(32)]] = True
    measures = rows(tmp_path / "out", "measures")
    for name in names:
        wanted = FAITHFULNESS[name](probe, saliency)
        got = [value(measures, item=n, subject="saliency", measure=name) for n in (0, 1)]
        torch.testing.assert_close(torch.tensor(got, dtype=torch.float64), wanted.double(), atol=1e-6, rtol=0)
    for name in LOCALISATION:
        assert value(measures, subject="saliency", measure=name) == pytest.approx(
            float(LOCALISATION[name](saliency[:1], mask)), abs=1e-6
        )  # one row: the image without boxes has none
    assert [row["correct"] for row in rows(tmp_path / "out", "answers")] == [False, False]


def test_a_mask_and_boxes_are_joined_and_another_shape_is_refused(photos, tmp_path) -> None:
    from PIL import Image

    white = np.zeros((48, 40), np.uint8)
    white[:24] = 255
    Image.fromarray(white).save(photos / "m.png")
    Image.fromarray(white[:, :10]).save(photos / "narrow.png")
    (prepared,) = prepare_models(SMALL)
    items = [
        Item(0, str(photos / "rocket/1.png"), mask=str(photos / "m.png"), boxes=((0, 24, 40, 48),)),
        Item(1, str(photos / "rocket/3.png"), mask=str(photos / "narrow.png")),
        Item(2, str(photos / "rocket/5.png"), mask=str(photos / "gone.png")),
    ]
    tables = evaluated(items, prepared)
    found = tables["measures"].to_pylist()
    assert math.isnan(value(found, item=0, subject="saliency", measure="iou"))  # the mask is full
    reasons = [row["reason"] for row in tables["answers"].to_pylist()]
    assert "not the proportions of 40 × 48" in reasons[1]
    assert "gone.png: no such file" in reasons[2]


@pytest.mark.parametrize("workers", [0, 3])
def test_one_bad_image_never_stops_a_run(bad_photos, tmp_path, workers) -> None:
    outcome = run([str(bad_photos)], str(tmp_path / "out"), SMALL, workers=workers)
    answers = {Path(row["image"]).name: row for row in rows(tmp_path / "out", "answers")}
    assert len(answers) == 14
    failed = {name: row["reason"] for name, row in answers.items() if row["status"] == "failed"}
    assert failed.pop("truncated.png").startswith("damaged or truncated")
    assert failed.pop("bomb.png") == "30000 × 30000 pixels, at most 536,870,912 can be read"
    assert failed.pop("text.jpg").startswith("not an image that can be read")
    assert failed.pop("empty.jpg") == "the file is empty"
    assert failed == {}
    assert answers["cmyk.jpg"]["status"] == "ok"
    assert (answers["text.jpg"]["target"], answers["text.jpg"]["top"]) == (-1, [])
    assert math.isnan(answers["text.jpg"]["probability"])
    seen = {row["item"] for row in rows(tmp_path / "out", "measures")}
    assert seen == {row["item"] for row in answers.values() if row["status"] == "ok"}
    summary = summarise(outcome.store, [TINY])
    assert (summary.images, summary.models[0].failed, summary.copies) == (14, 4, 1)
    assert [[Path(path).name for path in group] for group in summary.duplicates] == [["0.png", "again.png"]]
    assert {failure.reason for failure in summary.failures} == set(summary.reasons)


def test_names_are_kept_as_they_are_and_bytes_that_are_no_text_are_reported(bad_photos, tmp_path) -> None:
    run([str(bad_photos)], str(tmp_path / "out"), SMALL)
    names = {Path(row["image"]).name: row["status"] for row in rows(tmp_path / "out", "answers")}
    assert names[ODD_NAME] == "ok"
    assert names["caf\ufffd.png"] == "ok"


def test_an_image_that_a_model_or_a_method_cannot_take_is_reported_for_that_image(
    photos, tmp_path, monkeypatch
) -> None:
    (prepared,) = prepare_models(SMALL)
    calls = type(prepared.vision.module).forward

    def forward(self, x):
        answer = calls(self, x)
        if len(x) > 1:
            raise RuntimeError("out of memory\nfor two")
        return answer * float("nan") if float(x.mean()) > 1e-2 else answer

    monkeypatch.setattr(type(prepared.vision.module), "forward", forward)
    items = [Item(n, str(path)) for n, path in enumerate(sorted(photos.rglob("*.png")))]
    answers = evaluated(items, prepared)["answers"].to_pylist()
    assert {row["reason"] for row in answers} == {"", "the output is not finite"}


def test_a_method_without_a_map_of_one_image_leaves_the_others(photos, monkeypatch) -> None:
    from attnviz.attribution import METHODS

    (prepared,) = prepare_models(SMALL)
    plain = type(METHODS["saliency"]).__call__

    def call(self, vision, x, target, **options):
        found = plain(self, vision, x, target, **options)
        if self.name == "saliency" and bool((x[:, 0].mean((1, 2)) > 0).any()):
            raise AttributionError("saliency: 3 values are NaN")
        return found

    monkeypatch.setattr(type(METHODS["saliency"]), "__call__", call)
    items = [Item(n, str(path)) for n, path in enumerate(sorted(photos.rglob("*.png")))]
    tables = evaluated(items, prepared)
    found = [row for row in tables["measures"].to_pylist() if row["subject"] == "saliency" and row["measure"] == "gini"]
    without = {row["item"] for row in found if row["why"] == "saliency: 3 values are NaN" and math.isnan(row["value"])}
    assert 0 < len(without) < 6
    mapped = {row["item"] for row in tables["maps"].to_pylist() if row["name"] == "saliency"}
    assert mapped == set(range(6)) - without
    assert {row["status"] for row in tables["answers"].to_pylist()} == {"ok"}


def test_several_models_are_side_by_side_image_by_image(photos, tmp_path) -> None:
    run([str(photos)], str(tmp_path / "out"), replace(SMALL, models=(TINY, "tiny_model:attending", "tiny_model:plain")))
    answers = [(row["item"], row["model"]) for row in rows(tmp_path / "out", "answers")]
    assert answers == [(n, f"tiny_model:{name}") for n in range(6) for name in ("build", "attending", "plain")]
    order = [(row["item"], row["model"]) for row in rows(tmp_path / "out", "measures")]
    assert list(dict.fromkeys(order)) == answers
    assert {row["model"] for row in rows(tmp_path / "out", "thumbnails")} == {""}  # all see the same part


def test_a_model_with_another_crop_has_thumbnails_of_its_own(photos, tmp_path) -> None:
    import io

    from PIL import Image

    run([str(photos)], str(tmp_path / "out"), replace(SMALL, models=(TINY, "tiny_model:narrow", "tiny_model:plain")))
    found = rows(tmp_path / "out", "thumbnails")
    assert [(row["item"], row["model"]) for row in found] == [
        (n, m) for n in range(6) for m in ("", "tiny_model:narrow")
    ]
    seen = [np.asarray(Image.open(io.BytesIO(row["jpeg"]))) for row in found[:2]]
    assert {one.shape for one in seen} == {(found[0]["height"], found[0]["width"], 3)} == {(32, 32, 3)}
    assert np.abs(seen[0].astype(int) - seen[1]).mean() > 5


def test_a_run_that_is_complete_or_begun_goes_on_and_its_files_stay(photos, tmp_path) -> None:
    out = tmp_path / "out"
    run([str(photos)], str(out), SMALL)
    whole = parquet(out)
    assert len(whole) == 1 + 4 * 2
    for name in ("answers/part-000001.parquet", "maps/part-000001.parquet", "items/part-000000.parquet"):
        (out / name).unlink()
    (out / "measures" / "part-000001.parquet").write_bytes(b"half")
    (out / "measures" / ".part-000001.parquet.0123.partial").write_bytes(b"half")
    again = run([f"{photos}/"], str(out), SMALL)
    assert (again.before, again.computed) == (4, 2)
    assert parquet(out) == whole
    assert not list(out.rglob(".*"))
    assert run([str(photos)], str(out), SMALL).computed == 0


def test_another_question_is_refused_with_the_keys_that_differ(photos, tmp_path) -> None:
    out = str(tmp_path / "out")
    run([str(photos)], out, SMALL)
    before = parquet(tmp_path / "out")
    other = replace(SMALL, methods=("saliency",), batch=3, seed=1, models=(TINY, "tiny_model:plain"))
    with pytest.raises(OutputError) as caught:
        run([str(photos)], out, other)
    for message in (
        "settings.batch was 2 and is 3", "settings.seed was 0 and is 1",
        "methods was gradcam,saliency and is saliency", "names was tiny_model:build and is",
        "--overwrite to replace it",
    ):  # fmt: skip
        assert message in str(caught.value)
    (photos / "rocket" / "9.png").write_bytes(picture(9))
    with pytest.raises(OutputError, match=r"total was 6 and is 7.*|settings.images: not the same files"):
        run([str(photos)], out, SMALL)
    assert parquet(tmp_path / "out") == before
    (tmp_path / "out" / "mine.txt").write_text("stays")
    assert run([str(photos)], out, other, overwrite=True).computed == 7
    assert (tmp_path / "out" / "mine.txt").exists()


def test_mistakes_are_errors_before_any_work_and_nothing_is_written(photos, tmp_path) -> None:
    out = str(tmp_path / "out")
    for options, error, message in (
        (replace(SMALL, methods=("gradcan",)), UnknownNameError, "did you mean gradcam"),
        (replace(SMALL, metrics=("deletions",)), UnknownNameError, "deletion"),
        (replace(SMALL, sites="nowhere"), UnknownNameError, "nowhere"),
        (replace(SMALL, models=("tiny_model:clips",)), attnviz.AttnvizError, "takes 4 frames of a clip"),
        (replace(SMALL, models=("tiny_model:tokens",), methods=("gradcam",)), AttributionError, "gradcam"),
        (replace(SMALL, models=("tiny_model:plain",), methods=()), DataError, "nothing to report"),
    ):
        with pytest.raises(error, match=message):
            run([str(photos)], out, options)
    assert not Path(out).exists()
    with pytest.raises(DataError, match="wanted a batch of at least 1, got 0"):
        replace(SMALL, batch=0)


def test_a_default_method_that_does_not_apply_is_left_out_with_a_note(photos, tmp_path) -> None:
    outcome = run([str(photos)], str(tmp_path / "out"), replace(SMALL, models=("tiny_model:tokens",)))
    (planned,) = outcome.plan.models
    assert planned.methods == ("saliency",)
    assert any("Left out, since it does not apply: gradcam" in note for note in planned.notes)


def test_a_folder_that_is_a_file_or_holds_something_else_is_an_error(photos, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "index.html").write_text("mine")
    for name, message in (("file", "is a file"), ("file/below", "is a file"), ("else", "holds index.html and no plan")):
        with pytest.raises(OutputError, match=message):
            run([str(photos)], str(tmp_path / name), SMALL)
    (tmp_path / "broken").mkdir()
    for text in ("{", '{"schema": "other"}'):
        (tmp_path / "broken" / "plan.json").write_text(text)
        with pytest.raises(OutputError, match="--overwrite replaces it"):
            run([str(photos)], str(tmp_path / "broken"), SMALL)


def test_a_folder_that_cannot_be_written_is_an_error_before_the_work(photos, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        "attnviz.media.atomic_files.os.access", lambda path, _mode: Path(path) != tmp_path
    )  # root may write
    with pytest.raises(OutputError, match=f"out/run: cannot be written, no permission in {tmp_path}"):
        run([str(photos)], str(tmp_path / "out" / "run"), SMALL)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_loses_no_finished_shard(photos, tmp_path, monkeypatch) -> None:
    from attnviz.media import remote_files

    out, plain, written = tmp_path / "out", remote_files.write_atomically, []

    def write(path, write_content):
        written.append(path)
        if len(written) == 8:
            raise OSError(28, "No space left on device")
        plain(path, write_content)

    with monkeypatch.context() as patch:
        patch.setattr(remote_files, "write_atomically", write)
        with pytest.raises(OutputError, match=r"No space left on device; 4 of 6 images are kept; the same command"):
            run([str(photos)], str(out), SMALL)
    run([str(photos)], str(out), SMALL)
    run([str(photos)], str(tmp_path / "other"), SMALL)
    assert parquet(out) == parquet(tmp_path / "other")


def test_a_run_may_lie_behind_a_url(photos, tmp_path) -> None:
    from attnviz.media.remote_files import Folder

    root = f"memory://{tmp_path.name}/run"
    outcome = run([str(photos)], root, SMALL)
    run([str(photos)], str(tmp_path / "out"), SMALL)
    for name, data in parquet(tmp_path / "out").items():
        assert Folder(root).read(name) == data
    assert run([str(photos)], root, SMALL).computed == 0
    assert outcome.store.folder.read("log.jsonl").count(b"\n") == 4


def test_the_tables_are_read_by_pandas_and_duckdb(photos, tmp_path) -> None:
    import duckdb
    import pandas as pd

    out = tmp_path / "out"
    run([str(photos)], str(out), SMALL)
    frame = pd.read_parquet(out / "measures")
    pair = frame[(frame.kind == "pair") & (frame.measure == "spearman")]
    table = duckdb.read_parquet(f"{out}/measures/*.parquet")
    of_pairs = table.filter("kind = 'pair' and measure = 'spearman' and not isnan(value)")
    assert of_pairs.aggregate("avg(value)").fetchall()[0][0] == pytest.approx(pair.value.mean())
    answers = duckdb.read_parquet(f"{out}/answers/*.parquet")
    assert answers.project("top[1].label = target_label").fetchall() == [(True,)] * 6
    plan = json.loads((out / "plan.json").read_text())
    assert (plan["total"], plan["shard_size"], plan["models"][0]["methods"]) == (6, 4, ["gradcam", "saliency"])


def test_a_model_is_left_as_it_was_found(photos) -> None:
    from model_state import state_of

    (prepared,) = prepare_models(replace(SMALL, metrics=("deletion",)))
    before = state_of(prepared.vision.module)
    evaluated([Item(0, str(photos / "rocket" / "1.png"))], prepared)
    assert state_of(prepared.vision.module) == before


def test_names_are_defined_in_a_process_that_computed_no_shard() -> None:
    code = (
        "from attnviz.batch.run import fill_glossary; from attnviz.core.glossary import is_defined; fill_glossary()\n"
        "names = [('measure', n) for n in ('gini', 'spearman', 'insertion', 'iou', 'margin')]\n"
        "print(all(is_defined(*name) for name in (*names, ('map', 'gate'), ('method', 'gradcam'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout == "True\n"

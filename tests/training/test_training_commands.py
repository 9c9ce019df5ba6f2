"""``attnviz train``, ``evaluate`` and ``models``, and the scripts of ``builtin_training/``."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import builtin_training.evaluate
import builtin_training.train
from attnviz.cli.main import cli
from attnviz.models.card import read_card

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run ``attnviz``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    logging.disable(logging.NOTSET)

    def invoke(*words, program=cli):
        return CliRunner().invoke(program, [str(word) for word in words], prog_name="attnviz")

    return invoke


@pytest.fixture
def folders(image_folder):
    return ("--objects", image_folder / "objects", "--backgrounds", image_folder / "photographs")


@pytest.fixture
def train(run, folders):
    """Run ``builtin_training/train.py`` on a few views."""
    sizes = ("--views", 6, "--epochs", 1, "--batch", 3, "--held-out-views", 6, "--cache", "cache")

    def invoke(model, *words):
        return run(model, *sizes, *folders, *words, program=builtin_training.train.command)

    return invoke


def test_evaluate_reproduces_the_figures_of_the_card(train, run, folders, tmp_path):
    done = train("senet", "--out", "out", "--seed", 0)
    assert done.exit_code == 0, done.output
    weights, card = tmp_path / "out/weights/senet.safetensors", tmp_path / "out/cards/senet.json"
    facts = json.loads(card.read_text())
    assert facts["made"]["data"]["trained_on"]["objects"] + facts["made"]["data"]["held_out"]["objects"] == 12
    assert facts["made"]["command"].startswith("python builtin_training/train.py senet ")
    assert "--seed 0" in facts["made"]["command"]
    assert "cache" not in facts["made"]["command"]
    assert "# senet" in card.with_suffix(".md").read_text()
    assert all(f"wrote {path}" in done.stdout for path in ("out/weights/senet.safetensors", "out/cards/senet.md"))
    again = run("evaluate", "senet", "--weights", weights, "--views", 6, "--json", *folders)
    assert again.exit_code == 0, again.output
    (measured,) = json.loads(again.stdout)
    assert measured["kl"]["value"] == pytest.approx(facts["figures"]["kl"]["value"], abs=1e-4)
    assert not list(tmp_path.rglob("*.partial"))


def test_an_interrupted_run_leaves_no_weights_without_a_card_and_is_resumed(train, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("builtin_training.run.evaluate_models", stop)
        assert train("senet", "--out", "out").exit_code == 130
    assert not (tmp_path / "out").exists()
    assert train("senet", "--out", "out").exit_code == 0
    assert (tmp_path / "out/cards/senet.md").is_file()


def test_a_seed_that_holds_out_training_images_is_refused(run, folders):
    done = run("evaluate", "cbam", "--seed", 2, "--views", 4, *folders)
    assert done.exit_code == 2
    assert "trained were cbam with seed 1; got --seed 2" in done.stderr


def test_evaluate_prints_one_row_per_model(run, folders):
    done = run("evaluate", "none", "cbam", "--views", 4, *folders)
    assert done.exit_code == 0, done.output
    for text in ("none", "cbam", "feature norm", "top-1", "pointing", "plain"):
        assert text in done.stdout


def test_existing_results_are_kept_without_overwrite(train, tmp_path):
    (tmp_path / "out/cards").mkdir(parents=True)
    (tmp_path / "out/cards/none.json").write_text("mine")
    done = train("none", "--out", "out")
    assert done.exit_code == 1
    assert "out: holds cards/none.json already; --overwrite replaces it" in done.stderr
    assert (tmp_path / "out/cards/none.json").read_text() == "mine"
    assert train("none", "--out", "out", "--overwrite").exit_code == 0
    assert (tmp_path / "out/cards/none.json").read_text() != "mine"


def test_the_control_has_a_card_but_no_weights(train, tmp_path):
    done = train("none", "--out", "out")
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "out/weights").exists()
    assert "It was not trained" in (tmp_path / "out/cards/none.md").read_text()


def test_train_without_data_is_a_usage_error(run):
    done = run("train", "cbam")
    assert done.exit_code == 2
    assert "attnviz train needs --data FOLDER, a folder of images with one subfolder per class" in done.stderr
    assert "builtin_training/train.py in the repository" in done.stderr


@pytest.mark.parametrize("kept", [slice(0, 0), slice(0, 2), slice(2, 4)])
def test_evaluate_without_a_folder_is_a_usage_error(run, folders, kept):
    done = run("evaluate", "cbam", *folders[kept])
    assert done.exit_code == 2
    assert "attnviz evaluate needs --objects FOLDER and --backgrounds FOLDER" in done.stderr
    assert "builtin_training/evaluate.py in the repository" in done.stderr


@pytest.mark.parametrize("program", ["train", "evaluate"])
def test_an_unknown_model_is_reported_before_any_work(run, folders, labelled_folder, program):
    script = {"train": builtin_training.train, "evaluate": builtin_training.evaluate}[program].command
    options = ("--data", labelled_folder) if program == "train" else folders
    for done in (run(program, "cbm", *options), run("cbm", *folders, program=script)):
        assert done.exit_code == 1
        assert "unknown model 'cbm': did you mean cbam?" in done.stderr


def test_folders_without_images_are_an_error(run, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run("evaluate", "none", "--objects", "empty", "--backgrounds", "empty")
    assert done.exit_code == 1
    assert "scenes need at least 5 objects, found 0 in empty" in done.stderr


def test_weights_for_several_models_are_a_usage_error(run, folders):
    done = run("evaluate", "cbam", "senet", "--weights", "w.safetensors", *folders)
    assert done.exit_code == 2
    assert "--weights is for one model: name it" in done.stderr


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_the_scripts_run_from_any_folder(name, tmp_path):
    command = [sys.executable, ROOT / "builtin_training" / f"{name}.py", "--help"]
    done = subprocess.run(  # noqa: S603  # our own file
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}
    )
    assert done.returncode == 0, done.stderr
    assert "--backgrounds" in done.stdout


def test_the_models_are_listed_with_the_figures_of_their_cards(run):
    done = run("models")
    assert done.exit_code == 0, done.output
    for name in ("cbam", "senet", "none"):
        assert name in done.stdout
        assert f"{read_card(name).value('pointing'):.2f}" in done.stdout
    assert "timm:NAME" in done.stdout


def test_the_models_are_listed_as_json(run):
    content = json.loads(run("models", "--json").stdout)
    by_name = {row["model"]: row for row in content["models"]}
    assert by_name["cbam"]["figures"]["kl"]["value"] == read_card("cbam").value("kl")
    assert {"timm:", "torchvision:", "hf:"} <= set(content["libraries"])


def test_an_unknown_optimizer_is_reported_before_any_work(run, train, labelled_folder):
    for done in (
        run("train", "cbam", "--optimizer", "adam", "--data", labelled_folder),
        train("cbam", "--optimizer", "adam"),
    ):
        assert done.exit_code == 1
        assert "unknown optimizer 'adam'" in done.output
        assert "features" not in done.output

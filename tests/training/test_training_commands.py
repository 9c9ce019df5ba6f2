"""``attnviz train``, ``evaluate`` and ``models``, as one types them."""

import json
import logging

import pytest
from click.testing import CliRunner

from attnviz.cli.main import cli
from attnviz.models.card import read_card


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("attnviz.training.run._CHOICE_VIEWS", 4)
    logging.disable(logging.NOTSET)

    def invoke(*words):
        return CliRunner().invoke(cli, [str(word) for word in words], prog_name="attnviz")

    return invoke


@pytest.fixture
def folders(pictures):
    return ("--objects", pictures / "objects", "--backgrounds", pictures / "photographs")


@pytest.fixture
def train(run, folders):
    sizes = ("--views", 6, "--epochs", 1, "--batch", 3, "--held-out-views", 6, "--cache", "cache")

    def invoke(model, *words):
        return run("train", model, *sizes, *folders, *words)

    return invoke


def test_training_writes_weights_and_a_card_that_evaluate_and_the_loader_understand(train, run, folders, tmp_path):
    done = train("senet", "--out", "out", "--seed", 0)
    assert done.exit_code == 0, done.output
    weights, card = tmp_path / "out/weights/senet.safetensors", tmp_path / "out/cards/senet.json"
    facts = json.loads(card.read_text())
    assert facts["made"]["data"]["trained_on"]["objects"] + facts["made"]["data"]["held_out"]["objects"] == 12
    assert "--seed 0" in facts["made"]["command"]
    assert "cache" not in facts["made"]["command"]
    assert "# senet" in card.with_suffix(".md").read_text()
    assert all(f"wrote {path}" in done.stdout for path in ("out/weights/senet.safetensors", "out/cards/senet.md"))
    again = run("evaluate", "senet", "--weights", weights, "--views", 6, "--json", *folders)
    assert again.exit_code == 0, again.output
    (measured,) = json.loads(again.stdout)
    assert measured["kl"]["value"] == pytest.approx(facts["figures"]["kl"]["value"], abs=1e-4)
    assert not list(tmp_path.rglob("*.part"))


def test_an_interrupted_evaluation_leaves_no_weights_without_a_card_and_can_go_on(train, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("attnviz.training.run.measure", stop)
        assert train("senet", "--out", "out").exit_code == 130
    assert not (tmp_path / "out").exists()
    assert train("senet", "--out", "out").exit_code == 0
    assert (tmp_path / "out/cards/senet.md").is_file()


def test_a_seed_that_holds_out_what_was_trained_on_is_refused(run, folders):
    done = run("evaluate", "cbam", "--seed", 2, "--views", 4, *folders)
    assert done.exit_code == 2
    assert "trained were cbam with 1; --seed 2 was asked for" in done.stderr


def test_evaluating_prints_one_row_for_each_model(run, folders):
    done = run("evaluate", "none", "cbam", "--views", 4, *folders)
    assert done.exit_code == 0, done.output
    for text in ("none", "cbam", "feature norm", "top-1", "pointing", "plain"):
        assert text in done.stdout


def test_existing_results_are_not_overwritten_unless_told(train, tmp_path):
    (tmp_path / "out/cards").mkdir(parents=True)
    (tmp_path / "out/cards/none.json").write_text("mine")
    done = train("none", "--out", "out")
    assert done.exit_code == 1
    assert "out/cards/none.json exists: give another --out, or --overwrite" in done.stderr
    assert (tmp_path / "out/cards/none.json").read_text() == "mine"
    assert train("none", "--out", "out", "--overwrite").exit_code == 0
    assert (tmp_path / "out/cards/none.json").read_text() != "mine"


def test_the_control_has_a_card_but_no_weights(train, tmp_path):
    done = train("none", "--out", "out")
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "out/weights").exists()
    assert "It was not trained" in (tmp_path / "out/cards/none.md").read_text()


def test_an_unknown_model_is_told_before_any_work(run):
    for command in ("train", "evaluate"):
        done = run(command, "cbm")
        assert done.exit_code == 1
        assert "unknown model 'cbm': did you mean cbam?" in done.stderr


def test_folders_without_pictures_are_told(run, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run("evaluate", "none", "--objects", "empty", "--backgrounds", "empty")
    assert done.exit_code == 1
    assert "scenes need at least 5 objects, found 0 in empty" in done.stderr


def test_weights_for_several_models_are_wrong_usage(run):
    done = run("evaluate", "cbam", "senet", "--weights", "w.safetensors")
    assert done.exit_code == 2
    assert "--weights is for one model: name it" in done.stderr


def test_the_models_are_listed_with_the_figures_of_their_cards(run):
    done = run("models")
    assert done.exit_code == 0, done.output
    for name in ("cbam", "senet", "none"):
        assert name in done.stdout
        assert f"{read_card(name).value('pointing'):.2f}" in done.stdout
    assert "timm:NAME" in done.stdout


def test_the_list_is_there_for_machines_too(run):
    content = json.loads(run("models", "--json").stdout)
    by_name = {row["model"]: row for row in content["models"]}
    assert by_name["cbam"]["figures"]["kl"]["value"] == read_card("cbam").value("kl")
    assert {"timm:", "torchvision:", "hf:"} <= set(content["libraries"])


def test_an_unknown_optimizer_is_told_before_the_work(run, folders):
    done = run("train", "cbam", "--optimizer", "adam", *folders)
    assert done.exit_code == 1
    assert "unknown optimizer 'adam'" in done.output
    assert "features" not in done.output

"""Training on a folder of one's own, by its labels."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from attnviz import load_model
from attnviz.cli.main import cli
from attnviz.errors import DataError, WeightsError
from attnviz.models.trunk import pretrained_trunk
from attnviz.models.weights_file import read_labels
from attnviz.training.labelled import find_labelled, label_features, wanted_answers
from attnviz.training.trainer import divergence

COLOURS = {"grün": (20, 160, 40), "red": (200, 30, 30)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes that colour alone tells apart, 15 photographs each; and one file that is none."""
    root = tmp_path_factory.mktemp("labelled")
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name / "deeper").mkdir(parents=True)
        for index in range(15):
            noise = random.integers(-30, 30, (40, 50, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / ("deeper" if index % 2 else ".") / f"{index}.png")
    (root / "red" / "broken.jpg").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def trunk():
    return pretrained_trunk()


def test_a_tree_of_classes_is_read_as_it_lies(folder):
    found = find_labelled(folder)
    assert found.classes == ("grün", "red")
    assert len(found.files) == 31
    assert all(
        found.classes[label] == file.split("/")[0] for file, label in zip(found.files, found.labels, strict=True)
    )
    learned, held_out = (found.part(0, held_out=which) for which in (False, True))
    assert {*learned.files, *held_out.files} == {*found.files}
    assert not {*learned.files} & {*held_out.files}


def test_too_little_is_said_before_the_work(tmp_path):
    (tmp_path / "cats").mkdir()
    with pytest.raises(DataError, match="two classes or more"):
        find_labelled(tmp_path)
    (tmp_path / "dogs").mkdir()
    with pytest.raises(DataError, match=r"cats: no photographs"):
        find_labelled(tmp_path)
    for name in ("cats", "dogs"):
        (tmp_path / name / "one.png").write_bytes(b"")
    found = find_labelled(tmp_path)
    with pytest.raises(DataError, match="too few photographs"):
        [found.part(0, held_out=held_out) for held_out in (False, True)]


def test_what_cannot_be_read_is_left_out_and_said_where_nothing_can(folder, tmp_path, trunk):
    found = find_labelled(folder)
    features = label_features(found, 40, 0, trunk, 6, lambda *_: None)
    assert len(features) == 40
    wanted = torch.from_numpy(features.answers).argmax(1)
    assert 15 <= int((wanted == 0).sum()) <= 25  # each photograph about equally often
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of 2 photographs can be read"):
        label_features(find_labelled(tmp_path), 4, 0, trunk, 6, lambda *_: None)


def test_learning_smoothed_answers_is_cross_entropy_with_label_smoothing():
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 7), torch.tensor([0, 6, 3, 3, 1])
    answers = wanted_answers(labels, 7)
    smoothed = 0.1 * 7 / 6  # PyTorch spreads it over all classes, the wanted one included
    theirs = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=smoothed, reduction="none")
    entropy = -(answers.exp() * answers).sum(1)
    torch.testing.assert_close(divergence(answers, logits) + entropy, theirs)


def test_train_explain_with_classes_of_ones_own(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "senet", "--data", folder, "--views", 64, "--epochs", 4, "--batch", 16, "--cache", "cache",
             "--learning-rate", "0.01", "--out", "out"]  # fmt: skip
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert "top-1 less none's" in done.stdout
    facts = json.loads((tmp_path / "out/cards/senet.json").read_text())
    figures = {figure["model"]: figure for figure in facts["figures"]}
    assert figures["senet"]["top1"]["value"] == 1.0  # red and green are told apart
    assert figures["none"]["parameters"] == 2 * 1280 + 2
    weights = tmp_path / "out/weights/senet.safetensors"
    assert read_labels(weights) == ("grün", "red")
    vision = load_model("senet", weights=weights)
    assert vision.labels == ("grün", "red")
    with torch.no_grad():
        logits = vision.module(vision.preprocess(np.full((60, 60, 3), COLOURS["grün"], np.uint8))[None])
    assert logits.shape == (1, 2)
    assert vision.labels[int(logits.argmax())] == "grün"


def test_scenes_and_labels_are_two_ways_to_teach_and_clips_have_none(folder, tmp_path):
    def run(*words):
        return CliRunner().invoke(cli, ["train", *map(str, words), "--data", str(folder), "--out", str(tmp_path / "o")])

    assert "take one of them" in run("cbam", "--objects", folder).output
    done = run("temporal")
    assert isinstance(done.exception, DataError) or "looks at clips" in done.output


def test_damaged_labels_are_told(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"labels": "7"})
    with pytest.raises(WeightsError, match="list of names"):
        read_labels(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="damaged"):
        read_labels(tmp_path / "b.safetensors")
    assert read_labels(tmp_path / "c.safetensors") is None

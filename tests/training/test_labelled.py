"""Training on a folder of labelled images."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from attnviz import load_model
from attnviz.cli.main import cli
from attnviz.errors import DataError
from attnviz.models.checkpoint import read_checkpoint
from attnviz.models.label_files import labels_in
from attnviz.models.trunk import pretrained_trunk
from attnviz.training.labelled_images import find_labelled, label_features, smoothed_targets
from attnviz.training.trainer import divergence


@pytest.fixture(scope="module")
def trunk():
    return pretrained_trunk()


def test_subfolders_are_classes_and_their_files_images(labelled_folder):
    data = find_labelled(labelled_folder)
    assert data.classes == ("grün", "red")
    assert len(data.files) == 31
    assert all(data.classes[label] == file.split("/")[0] for file, label in zip(data.files, data.labels, strict=True))
    training, held_out = (data.part(0, held_out=which) for which in (False, True))
    assert {*training.files, *held_out.files} == {*data.files}
    assert not {*training.files} & {*held_out.files}


def test_too_few_classes_or_images_are_an_error(tmp_path):
    (tmp_path / "cats").mkdir()
    with pytest.raises(DataError, match="two classes or more"):
        find_labelled(tmp_path)
    (tmp_path / "dogs").mkdir()
    with pytest.raises(DataError, match=r"cats: no images"):
        find_labelled(tmp_path)
    for name in ("cats", "dogs"):
        (tmp_path / name / "one.png").write_bytes(b"")
    data = find_labelled(tmp_path)
    with pytest.raises(DataError, match="too few images"):
        [data.part(0, held_out=held_out) for held_out in (False, True)]


def test_damaged_images_are_skipped_and_an_error_if_there_are_no_others(labelled_folder, tmp_path, trunk):
    features = label_features(find_labelled(labelled_folder), 40, 0, trunk, 6, lambda *_: None)
    assert len(features) == 40
    labels = torch.from_numpy(features.targets).argmax(1)
    assert 15 <= int((labels == 0).sum()) <= 25  # each image is used about equally often
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of 2 images can be decoded"):
        label_features(find_labelled(tmp_path), 4, 0, trunk, 6, lambda *_: None)


def test_the_divergence_from_smoothed_targets_is_cross_entropy_with_label_smoothing():
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 7), torch.tensor([0, 6, 3, 3, 1])
    targets = smoothed_targets(labels, 7)
    smoothing = 0.1 * 7 / 6  # PyTorch spreads it over all classes, including the label
    theirs = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    entropy = -(targets.exp() * targets).sum(1)
    torch.testing.assert_close(divergence(targets, logits) + entropy, theirs)


def test_trained_weights_load_with_their_own_classes(labelled_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "senet", "--data", labelled_folder, "--views", 64, "--epochs", 4, "--batch", 16,
             "--cache", "cache", "--learning-rate", "0.01", "--out", "out"]  # fmt: skip
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert "top-1 minus none's" in done.stdout
    facts = json.loads((tmp_path / "out/cards/senet.json").read_text())
    assert facts["made"]["command"].startswith(f"attnviz train senet --data {labelled_folder} --views 64")
    figures = {figure["model"]: figure for figure in facts["figures"]}
    assert figures["senet"]["top1"]["value"] == 1.0  # the classes differ in colour
    assert figures["none"]["parameters"] == 2 * 1280 + 2
    weights = tmp_path / "out/weights/senet.safetensors"
    assert labels_in(read_checkpoint(weights).facts) == ("grün", "red")
    vision = load_model("senet", weights=weights)
    assert vision.labels == ("grün", "red")
    with torch.no_grad():
        logits = vision.module(vision.preprocess(np.full((60, 60, 3), (20, 160, 40), np.uint8))[None])
    assert logits.shape == (1, 2)
    assert vision.labels[int(logits.argmax())] == "grün"


def test_a_model_of_clips_is_refused(labelled_folder, tmp_path):
    words = ["train", "temporal", "--data", str(labelled_folder), "--out", str(tmp_path / "o")]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 1
    assert "temporal is a model of clips" in done.output

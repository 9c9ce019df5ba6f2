"""A mechanism without parameters: its classifier is trained, and its attention is evaluated."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from attnviz import load_model
from attnviz.cli.main import cli
from attnviz.errors import ModelError
from attnviz.models import MODELS, Mechanism, attend
from attnviz.models.mechanism import in_slots
from attnviz.models.trunk import pretrained_trunk
from attnviz.models.weights_file import read_weights
from attnviz.training.evaluation import evaluate
from attnviz.training.features import DataRecipe, Features
from attnviz.training.trainer import Trainer, TrainRecipe
from builtin_training.train import command


class SimAM(nn.Module):
    """SimAM (Yang et al., ICML 2021), equation 5."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        squared = (x - x.mean((2, 3), keepdim=True)).square()
        variance = squared.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
        return x * torch.sigmoid(squared / (4 * (variance + 1e-4)) + 0.5)


@pytest.fixture(autouse=True)
def simam(monkeypatch):
    mechanism = Mechanism("parameter-free gate", "Yang et al., ICML 2021", in_slots(SimAM), first_stage=3)
    MODELS.entries()  # filled before it is patched, so that nothing else is removed with the patch
    monkeypatch.setitem(MODELS._entries, "simam", mechanism)


def test_without_a_classifier_there_is_nothing_to_train(tmp_path):
    features = Features(np.zeros((4, 80, 14, 14), np.float16), np.zeros((4, 1000), np.float16), np.ones(4, np.bool_))
    with pytest.raises(ModelError, match="simam: the mechanism has no parameters to train"):
        Trainer("simam", TrainRecipe(batch=4), features, tmp_path / "c.pt")


def test_training_on_labels_trains_the_classifier(labelled_folder, tmp_path):
    words = ("train", "simam", "--data", labelled_folder, "--views", 32, "--batch", 16, "--out", tmp_path / "out",
             "--cache", tmp_path / "cache")  # fmt: skip
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    weights = tmp_path / "out/weights/simam.safetensors"
    assert set(read_weights(weights)) == {"classifier.weight", "classifier.bias"}
    vision = load_model("simam", weights=weights)
    assert isinstance(vision.module.blocks[6][0].attention, SimAM)


def test_evaluation_uses_its_attention_and_not_the_feature_norms(sources):
    views = list(DataRecipe(6, held_out=True).make(sources))
    models = {name: attend(name, pretrained_trunk()) for name in ("simam", "none")}
    simam, none = evaluate(models, pretrained_trunk(), views, lambda _: None, full=False)
    assert none.map_of.startswith("feature norm")
    assert simam.map_of.startswith("blocks.")
    assert "kl" in simam.gains
    assert simam.parameters == 0


def test_a_built_in_run_evaluates_it_and_writes_a_card(image_folder, tmp_path):
    words = ("simam", "--objects", image_folder / "objects", "--backgrounds", image_folder / "photographs",
             "--views", 4, "--held-out-views", 4, "--out", tmp_path / "out",
             "--cache", tmp_path / "cache")  # fmt: skip
    done = CliRunner().invoke(command, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "out/weights").exists()
    assert json.loads((tmp_path / "out/cards/simam.json").read_text())["figures"]["parameters"] == 0
    assert "It was not trained: the mechanism has no parameters." in (tmp_path / "out/cards/simam.md").read_text()

"""Training: its steps, its interruptions and its checkpoints."""

import dataclasses

import numpy as np
import pytest
import torch

from attnviz.errors import DataError
from attnviz.models import MODELS, attend
from attnviz.models.trunk import pretrained_trunk
from attnviz.training.features import Features
from attnviz.training.trainer import Trainer, TrainRecipe, divergence, student

ATTENDING = [name for name in MODELS if MODELS[name].attends]
SHAPES = {-1: (3, 64, 64), 3: (80, 14, 14), 7: (8, 1280)}  # shape of the features, by first stage


class Stop(BaseException):
    """An interruption like Ctrl-C: not an ``Exception``."""


def random_features(name):
    """Random features and targets for a model."""
    random = np.random.default_rng(0)
    targets = torch.from_numpy(random.normal(size=(12, 1000))).log_softmax(1).numpy()
    shape = SHAPES[MODELS[name].first_stage]
    scene = np.arange(12) % 2 == 0
    return Features(random.normal(size=(12, *shape)).astype(np.float16), targets.astype(np.float16), scene)


@pytest.fixture
def features():
    return random_features("cbam")


def test_divergence_is_kullback_and_leiblers():
    p, q = torch.tensor([[0.25, 0.75]]), torch.tensor([[0.5, 0.5]])
    expected = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)
    assert float(divergence(p.log(), q.log() + 3)) == pytest.approx(expected, abs=1e-6)  # invariant to a shift


@pytest.mark.parametrize("name", ATTENDING)
def test_only_the_attention_is_trained(name, tmp_path):
    trainer = Trainer(name, TrainRecipe(epochs=1, batch=4), random_features(name), tmp_path / "c.pt")
    before = {key: value.clone() for key, value in trainer.attended.network.state_dict().items()}
    trainer.run()
    after = trainer.attended.network.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed
    assert changed <= set(trainer.attended.attention)
    assert {name for name, p in trainer.attended.network.named_parameters() if p.requires_grad} <= set(
        trainer.attended.attention
    )
    assert not trainer.attended.network.training


def test_a_student_computes_the_same_as_the_model_with_the_same_weights():
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = attend("cbam", pretrained_trunk(), seed=3).network(x)
        torch.testing.assert_close(student("cbam", seed=3).network(x), expected, atol=1e-4, rtol=1e-4)


def test_training_lowers_the_loss(features, tmp_path):
    losses = []
    recipe = TrainRecipe(epochs=4, batch=12, learning_rate=1e-2)
    Trainer("senet", recipe, features, tmp_path / "c.pt").run(lambda step, steps, loss: losses.append(loss))
    assert losses[-1] < losses[0]


def trained(features, path, seed=0):
    trainer = Trainer("cbam", TrainRecipe(epochs=2, batch=4, seed=seed), features, path)
    trainer.run()
    return {key: value.clone() for key, value in trainer.attended.state().items()}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(features, tmp_path):
    one, same, other = (trained(features, tmp_path / f"{i}.pt", seed) for i, seed in enumerate((0, 0, 1)))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(features, tmp_path, stop_at):
    def stop(step, steps, loss):
        if step == stop_at:
            raise Stop

    first = Trainer("cbam", TrainRecipe(epochs=2, batch=4), features, tmp_path / "c.pt")
    with pytest.raises(Stop):
        first.run(stop)
    assert not first.attended.network.training
    second = Trainer("cbam", TrainRecipe(epochs=2, batch=4), features, tmp_path / "c.pt")
    assert second.step == stop_at
    second.run()
    uninterrupted = trained(features, tmp_path / "whole.pt")
    resumed = second.attended.state()
    assert all(torch.equal(uninterrupted[key], resumed[key]) for key in uninterrupted)


def test_the_checkpoint_of_another_recipe_is_not_resumed(features, tmp_path):
    trained(features, tmp_path / "c.pt")
    assert Trainer("cbam", TrainRecipe(epochs=2, batch=4, seed=1), features, tmp_path / "c.pt").step == 0
    assert Trainer("cbam", TrainRecipe(epochs=2, batch=4, seed=0), features, tmp_path / "c.pt").step == 6


def test_the_checkpoint_of_other_data_is_not_resumed(features, tmp_path):
    trained(features, tmp_path / "c.pt")
    other = dataclasses.replace(features, key="another share of plain photographs")
    assert Trainer("cbam", TrainRecipe(epochs=2, batch=4), other, tmp_path / "c.pt").step == 0


def test_a_damaged_checkpoint_is_reported(features, tmp_path):
    (tmp_path / "c.pt").write_bytes(b"PK\3\4 no")
    with pytest.raises(DataError, match=r"c\.pt: damaged checkpoint; delete it to restart the training"):
        Trainer("cbam", TrainRecipe(batch=4), features, tmp_path / "c.pt")


def test_fewer_views_than_a_batch_are_refused(features, tmp_path):
    with pytest.raises(DataError, match="12 views are fewer than one batch of 32"):
        Trainer("cbam", TrainRecipe(), features, tmp_path / "c.pt")

"""Training: the features it starts from, its steps, its interruptions."""

import dataclasses

import numpy as np
import pytest
import torch

from attnviz.errors import DataError
from attnviz.models import MODELS, attend
from attnviz.models.trunk import pretrained_trunk
from attnviz.training.features import DataRecipe, Features, Teacher, prepare
from attnviz.training.scenes import alone, as_input
from attnviz.training.trainer import Trainer, TrainRecipe, divergence, student

ATTENDING = [name for name in MODELS if MODELS[name].attends]


class Stop(BaseException):
    """As Ctrl-C: no ``Exception``."""


def quiet(*_):
    """Tell nobody."""


@pytest.fixture(scope="module")
def trunk():
    return pretrained_trunk()


@pytest.fixture(scope="module")
def features(sources, trunk, tmp_path_factory):
    return prepare(DataRecipe(8), sources, trunk, 5, tmp_path_factory.mktemp("cache"), quiet)


SHAPES = {-1: (3, 64, 64), 3: (80, 14, 14), 7: (8, 1280)}  # what a model is trained on, by its first stage


def made_up_for(name):
    """Features that need no trunk."""
    random = np.random.default_rng(0)
    answers = torch.from_numpy(random.normal(size=(12, 1000))).log_softmax(1).numpy()
    shape = SHAPES[MODELS[name].first_stage]
    scene = np.arange(12) % 2 == 0
    return Features(random.normal(size=(12, *shape)).astype(np.float16), answers.astype(np.float16), scene)


@pytest.fixture
def made_up():
    return made_up_for("cbam")


def test_features_are_the_trunks_and_answers_the_teachers(sources, trunk, features):
    teacher = Teacher(trunk)
    with torch.no_grad():
        for index, view in enumerate(DataRecipe(8).make(sources)):
            expected = trunk.before(as_input(view.pixels[None]), 5)[0]
            torch.testing.assert_close(
                torch.from_numpy(features.features[index]).float(), expected, atol=2e-2, rtol=2e-3
            )
            answer = teacher(view) if view.kind == "scene" else trunk(as_input(view.pixels[None])).log_softmax(1)[0]
            torch.testing.assert_close(torch.from_numpy(features.answers[index]).float(), answer, atol=2e-2, rtol=5e-3)
            assert features.scene[index] == (view.kind == "scene")


def test_the_teacher_answers_with_the_mean_probability_over_three_sizes(sources, trunk):
    view = next(view for view in DataRecipe(8).make(sources) if view.kind == "scene")
    with torch.no_grad():
        sizes = [trunk(as_input(picture[None])).softmax(1)[0] for picture in alone(view.cut)]
    torch.testing.assert_close(Teacher(trunk)(view).exp(), sum(sizes) / 3, atol=1e-5, rtol=1e-4)


def test_a_plain_photograph_has_no_object_to_look_at(sources, trunk):
    view = next(view for view in DataRecipe(8).make(sources) if view.kind == "plain")
    with pytest.raises(ValueError, match="a plain photograph shows no object alone"):
        Teacher(trunk)(view)


def test_features_that_were_interrupted_are_taken_up_again(sources, trunk, features, tmp_path, monkeypatch):
    monkeypatch.setattr("attnviz.training.features.BATCH", 3)

    def stop_after_three(done, total):
        if done == 3:
            raise Stop

    monkeypatch.setattr("attnviz.training.features.chunks.__defaults__", (3,))
    with pytest.raises(Stop):
        prepare(DataRecipe(8), sources, trunk, 5, tmp_path, stop_after_three)
    told = []
    again = prepare(DataRecipe(8), sources, trunk, 5, tmp_path, lambda done, total: told.append((done, total)))
    assert told == [(3, 8), (6, 8), (8, 8)]
    np.testing.assert_allclose(again.features, features.features, atol=2e-2)
    np.testing.assert_allclose(again.answers, features.answers, atol=2e-2)


def test_features_are_computed_once(sources, trunk, tmp_path):
    for told in ([(0, 2), (2, 2)], [(2, 2)]):
        seen = []
        prepare(DataRecipe(2), sources, trunk, 6, tmp_path, lambda done, total, seen=seen: seen.append((done, total)))
        assert seen == told


def test_divergence_is_kullback_and_leiblers():
    p, q = torch.tensor([[0.25, 0.75]]), torch.tensor([[0.5, 0.5]])
    expected = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)
    assert float(divergence(p.log(), q.log() + 3)) == pytest.approx(expected, abs=1e-6)  # logits may be shifted


@pytest.mark.parametrize("name", ATTENDING)
def test_only_the_attention_learns(name, tmp_path):
    trainer = Trainer(name, TrainRecipe(epochs=1, batch=4), made_up_for(name), tmp_path / "c.pt")
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


def test_a_student_computes_what_the_model_with_the_same_weights_computes():
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = attend("cbam", pretrained_trunk(), seed=3).network(x)
        torch.testing.assert_close(student("cbam", seed=3).network(x), expected, atol=1e-4, rtol=1e-4)


def test_training_lowers_the_loss(made_up, tmp_path):
    losses = []
    recipe = TrainRecipe(epochs=4, batch=12, learning_rate=1e-2)
    Trainer("senet", recipe, made_up, tmp_path / "c.pt").run(lambda step, steps, loss: losses.append(loss))
    assert losses[-1] < losses[0]


def trained(made_up, path, seed=0):
    trainer = Trainer("cbam", TrainRecipe(epochs=2, batch=4, seed=seed), made_up, path)
    trainer.run()
    return {key: value.clone() for key, value in trainer.attended.state().items()}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(made_up, tmp_path):
    one, same, other = (trained(made_up, tmp_path / f"{i}.pt", seed) for i, seed in enumerate((0, 0, 1)))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(made_up, tmp_path, stop_at):
    def stop(step, steps, loss):
        if step == stop_at:
            raise Stop

    first = Trainer("cbam", TrainRecipe(epochs=2, batch=4), made_up, tmp_path / "c.pt")
    with pytest.raises(Stop):
        first.run(stop)
    assert not first.attended.network.training
    second = Trainer("cbam", TrainRecipe(epochs=2, batch=4), made_up, tmp_path / "c.pt")
    assert second.step == stop_at
    second.run()
    whole = trained(made_up, tmp_path / "whole.pt")
    resumed = second.attended.state()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_the_checkpoint_of_another_recipe_is_not_taken_up(made_up, tmp_path):
    trained(made_up, tmp_path / "c.pt")
    assert Trainer("cbam", TrainRecipe(epochs=2, batch=4, seed=1), made_up, tmp_path / "c.pt").step == 0
    assert Trainer("cbam", TrainRecipe(epochs=2, batch=4, seed=0), made_up, tmp_path / "c.pt").step == 6


def test_the_checkpoint_of_other_data_is_not_taken_up(made_up, tmp_path):
    trained(made_up, tmp_path / "c.pt")
    other = dataclasses.replace(made_up, key="another share of plain photographs")
    assert Trainer("cbam", TrainRecipe(epochs=2, batch=4), other, tmp_path / "c.pt").step == 0


def test_features_of_other_views_have_another_key(sources, trunk, tmp_path):
    keys = {
        prepare(recipe, sources, trunk, 4, tmp_path, quiet).key
        for recipe in (DataRecipe(2), DataRecipe(2, plain_share=0.0), DataRecipe(2, seed=1))
    }
    assert len(keys) == 3


def test_a_damaged_checkpoint_is_told(made_up, tmp_path):
    (tmp_path / "c.pt").write_bytes(b"PK\3\4 no")
    with pytest.raises(DataError, match=r"c\.pt: a damaged checkpoint; delete it to start anew"):
        Trainer("cbam", TrainRecipe(batch=4), made_up, tmp_path / "c.pt")


def test_fewer_views_than_a_batch_are_refused(made_up, tmp_path):
    with pytest.raises(DataError, match="12 views are fewer than one batch of 32"):
        Trainer("cbam", TrainRecipe(), made_up, tmp_path / "c.pt")

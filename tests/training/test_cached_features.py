"""The teacher, and the features that are computed once and kept on disk."""

import numpy as np
import pytest
import torch

from attnviz.models.trunk import pretrained_trunk
from attnviz.training.features import DataRecipe, Teacher
from attnviz.training.scenes import as_input, teacher_views
from builtin_training.cached_features import prepare


class Stop(BaseException):
    """An interruption like Ctrl-C: not an ``Exception``."""


def ignore(*_):
    """A progress callback without effect."""


@pytest.fixture(scope="module")
def trunk():
    return pretrained_trunk()


@pytest.fixture(scope="module")
def features(sources, trunk, tmp_path_factory):
    return prepare(DataRecipe(8), sources, trunk, 5, tmp_path_factory.mktemp("cache"), ignore)


def test_features_are_the_trunks_and_targets_the_teachers(sources, trunk, features):
    teacher = Teacher(trunk)
    with torch.no_grad():
        for index, view in enumerate(DataRecipe(8).make(sources)):
            expected = trunk.before(as_input(view.pixels[None]), 5)[0]
            torch.testing.assert_close(
                torch.from_numpy(features.features[index]).float(), expected, atol=2e-2, rtol=2e-3
            )
            target = teacher(view) if view.kind == "scene" else trunk(as_input(view.pixels[None])).log_softmax(1)[0]
            torch.testing.assert_close(torch.from_numpy(features.targets[index]).float(), target, atol=2e-2, rtol=5e-3)
            assert features.scene[index] == (view.kind == "scene")


def test_the_teacher_predicts_the_mean_probability_over_three_sizes(sources, trunk):
    view = next(view for view in DataRecipe(8).make(sources) if view.kind == "scene")
    with torch.no_grad():
        sizes = [trunk(as_input(image[None])).softmax(1)[0] for image in teacher_views(view.cut)]
    torch.testing.assert_close(Teacher(trunk)(view).exp(), sum(sizes) / 3, atol=1e-5, rtol=1e-4)


def test_the_teacher_refuses_a_plain_photograph(sources, trunk):
    view = next(view for view in DataRecipe(8).make(sources) if view.kind == "plain")
    with pytest.raises(ValueError, match="a plain photograph has no object"):
        Teacher(trunk)(view)


def test_an_interrupted_computation_is_resumed(sources, trunk, features, tmp_path):
    def stop_after_three(done, total):
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        prepare(DataRecipe(8), sources, trunk, 5, tmp_path, stop_after_three, chunk=3)
    progress = []
    resumed = prepare(DataRecipe(8), sources, trunk, 5, tmp_path, lambda *call: progress.append(call), chunk=3)
    assert progress == [(3, 8), (6, 8), (8, 8)]
    np.testing.assert_allclose(resumed.features, features.features, atol=2e-2)
    np.testing.assert_allclose(resumed.targets, features.targets, atol=2e-2)


def test_features_are_computed_once(sources, trunk, tmp_path):
    for expected in ([(0, 2), (2, 2)], [(2, 2)]):
        calls = []
        prepare(DataRecipe(2), sources, trunk, 6, tmp_path, lambda *call, calls=calls: calls.append(call))
        assert calls == expected


def test_the_key_depends_on_the_recipe(sources, trunk, tmp_path):
    keys = {
        prepare(recipe, sources, trunk, 4, tmp_path, ignore).key
        for recipe in (DataRecipe(2), DataRecipe(2, plain_share=0.0), DataRecipe(2, seed=1))
    }
    assert len(keys) == 3

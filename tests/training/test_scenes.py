"""Composed scenes: the object is at the mask, and the same seed gives the same scenes."""

import numpy as np
import pytest

from attnviz.training.features import DataRecipe
from attnviz.training.scenes import compose, make_views, teacher_views
from attnviz.training.sources import Source


def source(pixels):
    return Source("x", "x", pixels)


@pytest.fixture
def red_on_black():
    cut = np.zeros((100, 50, 4), np.uint8)
    cut[..., 0], cut[..., 3] = 255, 255
    return compose(source(cut), source(np.zeros((300, 400, 3), np.uint8)), np.random.default_rng(3))


def test_the_mask_covers_the_object(red_on_black):
    red = red_on_black.pixels[..., 0] > 100
    assert np.array_equal(red, red_on_black.mask)
    assert not red_on_black.pixels[..., 1:].any()


def test_the_object_keeps_its_aspect_ratio_and_is_small(red_on_black):
    rows, columns = (np.ptp(axis) + 1 for axis in np.nonzero(red_on_black.mask))
    assert 0.2 * 224 - 1 <= rows <= 0.6 * 224 + 1
    assert columns == pytest.approx(rows / 2, abs=1)


def test_object_share_is_the_range_of_object_sizes(sources):
    sizes = []
    for view in make_views(sources, ["scene"] * 6, 0, object_share=(0.7, 0.8)):
        rows, columns = (np.ptp(axis) + 1 for axis in np.nonzero(view.mask))
        sizes.append(max(rows, columns) / 224)
    assert 0.69 <= min(sizes) < max(sizes) <= 0.81


def test_the_teacher_views_show_the_object_centred_on_grey(red_on_black):
    for view in teacher_views(red_on_black.cut):
        assert np.all(view[0] == 127)
        rows, columns = np.nonzero(view[..., 1] < 60)
        assert (rows.min() + rows.max()) / 2 == pytest.approx(111.5, abs=1)
        assert (columns.min() + columns.max()) / 2 == pytest.approx(111.5, abs=1)


def test_a_mirrored_object_is_mirrored_in_the_teacher_views_too():
    cut = np.zeros((60, 60, 4), np.uint8)
    cut[..., 3] = 255
    cut[:, :30, 0] = 255  # red on the left
    photograph = source(np.full((200, 200, 3), 90, np.uint8))
    seeds = {compose(source(cut), photograph, np.random.default_rng(seed)).mirrored: seed for seed in range(20)}
    for mirrored, seed in seeds.items():
        view = compose(source(cut), photograph, np.random.default_rng(seed))
        assert (view.cut[30, 10, 0] == 255) is not mirrored
        columns = np.nonzero(view.mask.any(0))[0]
        row = np.nonzero(view.mask.any(1))[0].mean().astype(int)
        assert (view.pixels[row, columns[3], 0] > 150) is not mirrored
    assert set(seeds) == {True, False}


def test_a_plain_view_has_no_object(sources):
    (view,) = make_views(sources, ["plain"], 0)
    assert not view.mask.any()
    assert view.cut is None
    assert view.pixels.shape == (224, 224, 3)


def test_views_depend_only_on_seed_and_index(sources):
    kinds = ["scene", "plain"] * 8
    views, later, others = (list(make_views(sources, kinds, seed, start)) for seed, start in ((0, 0), (0, 5), (1, 0)))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(views[5:], later, strict=True))
    assert not any(np.array_equal(a.pixels, b.pixels) for a, b in zip(views, others, strict=True))


def test_every_object_is_used_once_per_cycle(sources):
    views = list(make_views(sources, ["scene"] * 12, 0))
    assert {view.subject for view in views} == {thing.name for thing in sources.objects}


def test_held_out_views_share_no_subject_with_training_views(sources):
    subjects = [
        {view.subject for view in DataRecipe(60, seed=0, held_out=held_out).make(sources)} for held_out in (False, True)
    ]
    assert not subjects[0] & subjects[1]
    assert all(subjects)


def test_plain_share_is_the_share_of_plain_views():
    kinds = DataRecipe(2000, plain_share=0.25).kinds()
    assert kinds.count("plain") == pytest.approx(500, abs=60)

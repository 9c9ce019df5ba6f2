"""Means with bootstrap intervals."""

import math

import numpy as np
import pytest

from attnviz.core.intervals import mean_interval, mean_intervals


def test_the_interval_contains_the_mean_and_narrows_with_the_number_of_images() -> None:
    generator = np.random.default_rng(0)
    few, many = (mean_interval(generator.standard_normal(n)) for n in (10, 1000))
    for one in (few, many):
        assert one.low < one.value < one.high
    assert many.high - many.low == pytest.approx(2 * 1.96 / math.sqrt(1000), rel=0.15)
    assert few.high - few.low > many.high - many.low


def test_equal_values_have_an_interval_of_width_zero_for_every_seed() -> None:
    assert mean_interval([2.0] * 5) == mean_interval([2.0] * 5, seed=1)


def test_one_value_or_none_has_no_interval() -> None:
    one, none = mean_interval([3.0]), mean_interval([math.nan])
    assert (one.value, one.n, math.isnan(one.low)) == (3.0, 1, True)
    assert (math.isnan(none.value), none.n) == (True, 0)
    assert mean_interval([]).n == 0


def test_values_with_two_axes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"wanted values \(N,\), got shape \(2, 2\)"):
        mean_interval(np.zeros((2, 2)))


def test_groups_are_resampled_and_not_images() -> None:
    values = np.repeat([0.0, 1.0], 500)
    two, each = mean_interval(values, np.repeat(["a", "b"], 500)), mean_interval(values, np.arange(1000))
    assert (two.value, two.low, two.high, two.n) == (0.5, 0.0, 1.0, 1000)
    assert 0.46 < each.low < 0.5 < each.high < 0.54


def test_a_group_with_more_images_weighs_more() -> None:
    assert mean_interval([0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "b"]).value == 0.25


def test_rows_are_resampled_together() -> None:
    rows = np.random.default_rng(0).standard_normal((1, 40))
    found = mean_intervals(np.concatenate([rows, rows + 1]))
    assert found[1] - found[0] == pytest.approx([1, 1, 1])

"""Accumulators: equal to all at once, whatever the parts and their order; hand-worked numbers; what is left out."""

import math
from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from attnviz.metrics.streaming import Extremes, Histogram, Moments, Quantiles

EDGES = torch.linspace(-2, 2, 9)


def parts(seed: int, n: int, cuts: int) -> tuple[Tensor, list[Tensor]]:
    """Samples ``(n, 3)`` with a NaN among them, and the same in a shuffled list of chunks, some empty."""
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(n, 3, generator=generator, dtype=torch.float64) * 10 + 1000
    data[n // 2, 1] = math.nan
    at = torch.randint(0, n + 1, (cuts,), generator=generator).sort().values.tolist()
    chunks = [data[a:b] for a, b in zip([0, *at], [*at, n], strict=True)]
    return data, [chunks[i] for i in torch.randperm(len(chunks), generator=generator).tolist()]


sampled = given(seed=st.integers(0, 9999), n=st.integers(2, 40), cuts=st.integers(0, 6))


@settings(deadline=None, max_examples=40)
@sampled
def test_moments_of_parts_in_any_order_are_those_of_all(seed: int, n: int, cuts: int) -> None:
    data, chunks = parts(seed, n, cuts)
    total, once = reduce(add, map(Moments.of, chunks)), Moments.of(data)
    for unit in range(3):
        column = data[:, unit][data[:, unit].isfinite()].numpy()
        assert total.count[unit] == once.count[unit] == len(column)
        if len(column):
            assert total.mean[unit] == pytest.approx(np.mean(column), rel=1e-12)
        if len(column) > 1:
            assert total.variance[unit] == pytest.approx(np.var(column, ddof=1), rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=40)
@sampled
def test_counts_and_extremes_of_parts_in_any_order_are_exactly_those_of_all(seed: int, n: int, cuts: int) -> None:
    data, chunks = parts(seed, n, cuts)
    extremes, all_extremes = reduce(add, map(Extremes.of, chunks)), Extremes.of(data)
    assert torch.equal(extremes.low, all_extremes.low)
    assert torch.equal(extremes.high, all_extremes.high)
    assert torch.equal(reduce(add, map(Quantiles.of, chunks)).counts, Quantiles.of(data).counts)
    centred = [chunk - 1000 for chunk in chunks]
    histogram = reduce(add, (Histogram.of(chunk, EDGES) for chunk in centred))
    whole = Histogram.of(data - 1000, EDGES)
    assert torch.equal(histogram.counts, whole.counts)
    assert torch.equal(histogram.outside, whole.outside)
    assert int(whole.counts.sum() + whole.outside.sum()) == data.numel()


def test_moments_worked_by_hand() -> None:
    moments = Moments.of(torch.tensor([[1.0, math.nan], [3.0, 5.0], [5.0, math.inf]]))
    assert moments.count.tolist() == [3, 1]
    assert moments.mean.tolist() == [3, 5]
    assert moments.variance[0] == 4
    assert moments.variance[1].isnan()


def test_the_interval_is_students() -> None:
    data = [2.0, 4.0, 4.0, 7.0]
    low, high = Moments.of(torch.tensor(data)).interval()
    wanted = stats.t.interval(0.95, 3, loc=np.mean(data), scale=stats.sem(data))
    assert (low.item(), high.item()) == pytest.approx(wanted)
    assert all(end.isnan() for end in Moments.of(torch.tensor([1.0])).interval())


def test_the_histogram_is_numpys() -> None:
    data = torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data[:3] = torch.tensor([-2.0, 0.0, 2.0])
    histogram = Histogram.of(data, EDGES)
    assert histogram.counts.tolist() == np.histogram(data.numpy(), EDGES.double().numpy())[0].tolist()
    below, above, odd = histogram.outside.tolist()
    assert (below, above, odd) == (int((data < -2).sum()), int((data > 2).sum()), 0)
    assert Histogram.of(torch.tensor([math.nan, math.inf]), EDGES).outside.tolist() == [0, 1, 1]


@settings(deadline=None, max_examples=60)
@given(
    data=st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6), st.floats(-1e6, -1e-6)), min_size=1), q=st.floats(0, 1)
)
def test_a_quantile_is_within_a_thousandth_of_the_value_with_that_rank(data: list[float], q: float) -> None:
    wanted = sorted(data)[math.floor(q * (len(data) - 1))]
    assert Quantiles.of(torch.tensor(data, dtype=torch.float64)).at(q).item() == pytest.approx(wanted, rel=0.00101)


def test_a_sketch_leaves_out_what_is_not_finite_and_bounds_what_is_extreme() -> None:
    sketch = Quantiles.of(torch.tensor([math.nan, math.inf, 1e-12, 1e300], dtype=torch.float64))
    assert sketch.counts.sum() == 2
    assert sketch.at(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist() == [0.0, pytest.approx(1e7, rel=0.002)]
    assert sketch.counts.numel() == Quantiles.of(torch.randn(10_000)).counts.numel()
    assert Quantiles.of(torch.tensor([])).at(0.5).isnan()


def test_what_cannot_be_added_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"one shape .*got \(3,\) and \(2,\)"):
        Moments.of(torch.ones(2, 3)) + Moments.of(torch.ones(2, 2))
    with pytest.raises(ValueError, match="one shape"):
        Extremes.of(torch.ones(2, 3)) + Extremes.of(torch.ones(2, 2))
    with pytest.raises(ValueError, match="same edges"):
        Histogram.of(torch.ones(2), EDGES) + Histogram.of(torch.ones(2), EDGES * 2)
    with pytest.raises(ValueError, match="rising edges"):
        Histogram.of(torch.ones(2), torch.tensor([1.0, 1.0]))
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 1.5"):
        Quantiles.of(torch.ones(2)).at(1.5)

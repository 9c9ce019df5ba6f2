"""Concentration: numbers worked by hand, slow twins, and which of Hurley and Rickard's properties each measure has."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnviz.metrics.concentration import (
    effective_rank,
    kurtosis,
    l0,
    lifetime_sparsity,
    lorenz,
    participation_ratio,
    population_sparsity,
    top_mass,
)
from attnviz.metrics.sparsity import SPARSITY, gini, near_zero_share

STUDY_MEASURES = [name for name in SPARSITY if not SPARSITY[name].quick]
every_measure = pytest.mark.parametrize("name", STUDY_MEASURES)
SPARSER = {"top_mass": 1, "population_sparsity": 1, "participation_ratio": -1}
"""Which way each measure goes as a map gets sparser, for those that have to go one way."""


def slow_top_mass(v: list[float]) -> float:
    """The strongest tenth: whole entries, and a part of the next."""
    left, held = 0.1 * len(v), 0.0
    for x in sorted(map(abs, v), reverse=True):
        held += min(left, 1.0) * x
        left = max(0.0, left - 1.0)
    return held / sum(map(abs, v))


def slow_participation(v: list[float]) -> float:
    return sum(x * x for x in v) ** 2 / sum(x**4 for x in v) / len(v)


def slow_treves_rolls(v: list[float]) -> float:
    n = len(v)
    a = (sum(map(abs, v)) / n) ** 2 / (sum(x * x for x in v) / n)
    return (1 - a) / (1 - 1 / n)


def slow_kurtosis(v: list[float]) -> float:
    n, mean = len(v), sum(v) / len(v)
    return (sum((x - mean) ** 4 for x in v) / n) / (sum((x - mean) ** 2 for x in v) / n) ** 2 - 3


def slow_l0(v: list[float]) -> float:
    return sum(abs(x) > 0.01 * max(map(abs, v)) for x in v)


TWINS: dict[str, Callable[[list[float]], float]] = {
    "kurtosis": slow_kurtosis,
    "l0": slow_l0,
    "participation_ratio": slow_participation,
    "population_sparsity": slow_treves_rolls,
    "top_mass": slow_top_mass,
}

values = st.lists(
    st.one_of(st.just(0.0), st.floats(1e-3, 1e3), st.floats(-1e3, -1e-3)), min_size=2, max_size=30
).filter(any)


def of(name: str, v: list[float]) -> float:
    return SPARSITY[name](torch.tensor([v], dtype=torch.float64)).item()


@pytest.mark.parametrize(
    ("measure", "flat", "half", "spike", "ramp"),
    [
        (lambda g: top_mass(g, p=0.25), 0.25, 0.5, 1.0, 0.4),
        (participation_ratio, 1.0, 0.5, 0.25, 900 / (4 * 354)),
        (population_sparsity, 0.0, 2 / 3, 1.0, (1 - 6.25 / 7.5) / 0.75),
        (l0, 4.0, 2.0, 1.0, 4.0),
        (kurtosis, math.nan, -1.0, 3.25 - 3 - 11 / 12, 1.64 - 3),
    ],
    ids=["top_mass", "participation_ratio", "population_sparsity", "l0", "kurtosis"],
)
def test_four_maps_worked_by_hand(
    measure: Callable[..., Tensor], flat: float, half: float, spike: float, ramp: float
) -> None:
    """Kurtosis of ±3, 0, 0: 40.5 / 4.5² - 3 = -1. Of the spike: (3.75⁴ + 3·1.25⁴)/4 over 4.6875², less 3 = -0.667."""
    g = torch.tensor([[2.0, 2.0, 2.0, 2.0], [3.0, 0.0, 0.0, -3.0], [0.0, 5.0, 0.0, 0.0], [4.0, 1.0, 3.0, 2.0]])
    assert measure(g).tolist() == pytest.approx([flat, half, spike, ramp], abs=1e-9, nan_ok=True)


@every_measure
@settings(deadline=None, max_examples=60)
@given(v=values)
def test_a_measure_is_its_slow_twin_and_in_range(name: str, v: list[float]) -> None:
    assume(name != "kurtosis" or max(v) - min(v) > 1e-3 * max(map(abs, v)))
    value = of(name, v)
    assert value == pytest.approx(TWINS[name](v), rel=1e-6, abs=1e-9)
    assert SPARSITY[name].low - 1e-9 <= value <= SPARSITY[name].high


@every_measure
@settings(deadline=None, max_examples=40)
@given(v=values, scale=st.sampled_from([1e-200, 1e-5, -3.0, 1e200]), seed=st.integers(0, 99))
def test_scale_and_order_play_no_part(name: str, v: list[float], scale: float, seed: int) -> None:
    order = torch.randperm(len(v), generator=torch.Generator().manual_seed(seed)).tolist()
    strongest = max(map(abs, v))
    assume(name != "l0" or all(abs(abs(x) / strongest - 0.01) > 1e-9 for x in v))
    assume(name != "kurtosis" or max(v) - min(v) > 1e-3 * strongest)
    assert of(name, [v[i] * scale for i in order]) == pytest.approx(of(name, v), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in TWINS if name not in {"kurtosis"}])
def test_signs_play_no_part_but_for_kurtosis(name: str) -> None:
    assert of(name, [1.0, -2.0, 3.0, 0.5]) == of(name, [-1.0, 2.0, 3.0, -0.5])
    assert of("kurtosis", [1.0, -2.0, 3.0, 0.5]) != of("kurtosis", [-1.0, 2.0, 3.0, -0.5])


@pytest.mark.parametrize("name", list(SPARSER))
@settings(deadline=None, max_examples=60)
@given(v=values, part=st.floats(0.05, 0.45), seed=st.integers(0, 99))
def test_taking_from_the_strong_to_give_to_the_weak_never_makes_a_map_sparser(
    name: str, v: list[float], part: float, seed: int
) -> None:
    """Robin Hood, D1 of Hurley and Rickard; participation is compared for two values, see below."""
    v = [abs(x) for x in v][: 2 if name == "participation_ratio" else None]
    i, j = torch.randperm(len(v), generator=torch.Generator().manual_seed(seed))[:2].tolist()
    rich, poor = (i, j) if v[i] > v[j] else (j, i)
    assume(v[rich] - v[poor] > 1e-3 * sum(v))
    after, gift = list(v), part * (v[rich] - v[poor])
    after[rich] -= gift
    after[poor] += gift
    assert SPARSER[name] * (of(name, after) - of(name, v)) <= 1e-12


def test_participation_can_rise_and_fall_under_robin_hood() -> None:
    """Documented: it measures energies, whose sum changes when strength moves from one value to another."""
    assert of("participation_ratio", [9.0, 2.0, 0.0]) > of("participation_ratio", [10.0, 1.0, 0.0])
    assert of("participation_ratio", [10.0, 0.5, 0.5]) < of("participation_ratio", [10.0, 1.0, 0.0])


@pytest.mark.parametrize("name", ["top_mass", "participation_ratio", "kurtosis"])
@settings(deadline=None, max_examples=25)
@given(v=values)
def test_two_copies_of_a_map_are_as_concentrated_as_one(name: str, v: list[float]) -> None:
    """Cloning, D4."""
    assume(max(v) - min(v) > 1e-3 * max(map(abs, v)))
    assert of(name, v + v) == pytest.approx(of(name, v), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", list(SPARSER))
@settings(deadline=None, max_examples=25)
@given(v=values, lift=st.floats(0.01, 10.0))
def test_raising_all_values_never_makes_a_map_sparser(name: str, v: list[float], lift: float) -> None:
    """Rising tide, D3."""
    v = [abs(x) for x in v]
    raised = [x + lift * max(v) for x in v]
    assert SPARSER[name] * (of(name, raised) - of(name, v)) <= 1e-12


@every_measure
def test_what_is_undefined_is_not_a_number(name: str) -> None:
    g = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [1.0, math.nan, 0.0], [math.inf, 1.0, 0.0]])
    assert SPARSITY[name](g).isnan().tolist() == [False, True, True, True]
    assert SPARSITY[name](g[:0]).shape == (0,)
    assert SPARSITY[name](g[:1].half().requires_grad_()).item() == pytest.approx(SPARSITY[name](g[:1]).item())


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 0)])
@every_measure
def test_fewer_than_two_values_have_no_concentration(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"2 values or more each, got shape \(3"):
        SPARSITY[name](torch.ones(shape))


def test_l0_is_the_number_behind_the_share_near_zero() -> None:
    g = torch.tensor([[1.0, 0.0, 0.01, 0.5], [3.0, 3.0, 1.0, 0.02]])
    torch.testing.assert_close(1 - l0(g) / 4, near_zero_share(g))
    torch.testing.assert_close(1 - l0(g, threshold=0.3) / 4, near_zero_share(g, threshold=0.3))


def test_thresholds_and_shares_outside_their_range_are_refused() -> None:
    g = torch.ones(1, 3)
    for threshold in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="at least 0 and below 1"):
            l0(g, threshold=threshold)
    for p in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            top_mass(g, p=p)


def test_lifetime_sparsity_is_population_sparsity_along_images() -> None:
    """Unit 0 answers one image of three: 1. Unit 1 all alike: 0. Unit 2: a = (6/3)²/(14/3) = 6/7, so 3/14."""
    responses = torch.tensor([[0.0, 2.0, 1.0], [0.0, 2.0, 2.0], [5.0, 2.0, -3.0]])
    assert lifetime_sparsity(responses).tolist() == pytest.approx([1.0, 0.0, 3 / 14])
    torch.testing.assert_close(lifetime_sparsity(responses), population_sparsity(responses.T))
    assert lifetime_sparsity(torch.rand(4, 2, 5)).shape == (2, 5)
    assert lifetime_sparsity(torch.tensor([1.0, 1.0])).item() == 0
    assert lifetime_sparsity(torch.tensor([[0.0, math.inf], [0.0, 1.0]])).isnan().all()
    with pytest.raises(ValueError, match="2 images or more"):
        lifetime_sparsity(torch.ones(1, 3))


def test_effective_rank_worked_by_hand() -> None:
    """Singular values 3 and 1: shares 3/4 and 1/4, entropy 0.5623, rank 1.7548; the mean with a rank of 1 is 1.3774."""
    two = torch.stack([torch.diag(torch.tensor([3.0, 1.0])), torch.tensor([[1.0, 1.0], [1.0, 1.0]])])
    assert effective_rank(two).tolist() == pytest.approx([1.754765, 1.0], abs=1e-6)
    assert effective_rank(two[None]).tolist() == pytest.approx([1.377383], abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 999), q=st.integers(1, 5), k=st.integers(1, 5), scale=st.sampled_from([1e-30, 3.0, 1e30]))
def test_effective_rank_is_its_slow_twin_and_ignores_scale_and_order(seed: int, q: int, k: int, scale: float) -> None:
    g = torch.rand(q, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.01
    sigma = torch.linalg.eigvalsh(g @ g.T).clamp_min(0).sqrt()
    shares = [float(s / sigma.sum()) for s in sigma]
    twin = math.exp(-sum(p * math.log(p) for p in shares if p > 0))
    moved = scale * g[torch.randperm(q)][:, torch.randperm(k)]
    assert effective_rank(moved[None]).item() == pytest.approx(twin, rel=1e-5)
    assert 1 - 1e-9 <= effective_rank(g[None]).item() <= min(q, k) + 1e-9


def test_effective_rank_of_nothing_is_undefined_and_of_no_matrix_an_error() -> None:
    odd = torch.stack([torch.zeros(2, 2), torch.full((2, 2), math.nan), torch.eye(2)])
    assert effective_rank(odd).isnan().tolist() == [True, True, False]
    with pytest.raises(ValueError, match="matrices"):
        effective_rank(torch.ones(2, 2))
    with pytest.raises(ValueError, match="matrices"):
        effective_rank(torch.ones(1, 0, 2))


@settings(deadline=None, max_examples=40)
@given(v=values)
def test_twice_the_area_above_a_lorenz_curve_is_the_gini_index(v: list[float]) -> None:
    g = torch.tensor([v], dtype=torch.float64)
    curve = lorenz(g, len(v) + 1)[0]
    assert 1 - 2 * torch.trapezoid(curve, dx=1 / len(v)).item() == pytest.approx(gini(g).item(), abs=1e-9)
    assert (curve[0].item(), curve[-1].item()) == (0.0, pytest.approx(1.0))
    assert bool((curve.diff() >= -1e-12).all())


def test_a_lorenz_curve_is_straight_between_entries() -> None:
    assert lorenz(torch.tensor([[1.0, 3.0]]), 5)[0].tolist() == pytest.approx([0, 0.125, 0.25, 0.625, 1])
    with pytest.raises(ValueError, match="2 points"):
        lorenz(torch.ones(1, 2), 1)

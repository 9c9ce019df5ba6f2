"""Sparsity: numbers worked by hand, slow twins, and the properties that Hurley and Rickard ask of a measure."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnviz.metrics.sparsity import SPARSITY, gini, hoyer, near_zero_share, normalised_entropy, quick_measures

every_measure = pytest.mark.parametrize("name", [measure.name for measure in quick_measures()])


def slow_hoyer(v: list[float]) -> float:
    root = math.sqrt(len(v))
    return (root - sum(map(abs, v)) / math.sqrt(sum(x * x for x in v))) / (root - 1)


def slow_gini(v: list[float]) -> float:
    """Half the mean difference of all pairs, relative to the mean."""
    n, total = len(v), sum(map(abs, v))
    return sum(abs(abs(x) - abs(y)) for x in v for y in v) / (2 * n * total)


def slow_entropy(v: list[float]) -> float:
    shares = [abs(x) / sum(map(abs, v)) for x in v]
    return -sum(p * math.log(p) for p in shares if p > 0) / math.log(len(v))


def slow_near_zero(v: list[float]) -> float:
    return sum(abs(x) <= 0.01 * max(map(abs, v)) for x in v) / len(v)


TWINS: dict[str, Callable[[list[float]], float]] = {
    "gini": slow_gini,
    "hoyer": slow_hoyer,
    "near_zero_share": slow_near_zero,
    "normalised_entropy": slow_entropy,
}

values = st.lists(
    st.one_of(st.just(0.0), st.floats(1e-3, 1e3), st.floats(-1e3, -1e-3)), min_size=2, max_size=30
).filter(any)


def of(name: str, v: list[float]) -> float:
    return SPARSITY[name](torch.tensor([v], dtype=torch.float64)).item()


@pytest.mark.parametrize(
    ("measure", "flat", "half", "spike", "ramp"),
    [
        (hoyer, 0.0, 2 - math.sqrt(2), 1.0, 2 - 10 / math.sqrt(30)),
        (gini, 0.0, 0.5, 0.75, 0.25),
        (normalised_entropy, 1.0, 0.5, 0.0, 0.923220),
        (near_zero_share, 0.0, 0.5, 0.75, 0.0),
    ],
)
def test_four_maps_worked_by_hand(
    measure: Callable[..., Tensor], flat: float, half: float, spike: float, ramp: float
) -> None:
    g = torch.tensor([[-2.0, 2.0, 2.0, 2.0], [3.0, 0.0, 0.0, -3.0], [0.0, 5.0, 0.0, 0.0], [4.0, 1.0, 3.0, 2.0]])
    assert measure(g).tolist() == pytest.approx([flat, half, spike, ramp], abs=1e-6)


@every_measure
@settings(deadline=None, max_examples=60)
@given(v=values)
def test_a_measure_is_its_slow_twin_and_in_range(name: str, v: list[float]) -> None:
    value = of(name, v)
    assert value == pytest.approx(TWINS[name](v), abs=1e-9)
    assert SPARSITY[name].low <= value <= SPARSITY[name].high


@every_measure
@settings(deadline=None, max_examples=40)
@given(v=values, scale=st.sampled_from([1e-200, 1e-5, -3.0, 1e200]), seed=st.integers(0, 99))
def test_scale_sign_and_order_play_no_part(name: str, v: list[float], scale: float, seed: int) -> None:
    order = torch.randperm(len(v), generator=torch.Generator().manual_seed(seed)).tolist()
    moved = [v[i] * (scale if i % 2 else -scale) for i in order]
    strongest = max(map(abs, v))
    assume(name != "near_zero_share" or all(abs(abs(x) / strongest - 0.01) > 1e-9 for x in v))
    assert of(name, moved) == pytest.approx(of(name, v), abs=1e-9)


@pytest.mark.parametrize("name", ["gini", "hoyer", "normalised_entropy"])
@settings(deadline=None, max_examples=60)
@given(v=values, part=st.floats(0.05, 0.45), seed=st.integers(0, 99))
def test_taking_from_the_strong_to_give_to_the_weak_makes_a_map_less_sparse(
    name: str, v: list[float], part: float, seed: int
) -> None:
    """Robin Hood, D1 of Hurley and Rickard."""
    v = [abs(x) for x in v]
    generator = torch.Generator().manual_seed(seed)
    i, j = torch.randperm(len(v), generator=generator)[:2].tolist()
    rich, poor = (i, j) if v[i] > v[j] else (j, i)
    assume(v[rich] - v[poor] > 1e-3 * sum(v))
    gift = part * (v[rich] - v[poor])
    after = list(v)
    after[rich] -= gift
    after[poor] += gift
    less_sparse = of(name, after) - of(name, v)
    assert less_sparse > 0 if name == "normalised_entropy" else less_sparse < 0


def test_near_zero_share_is_no_friend_of_robin_hood() -> None:
    """Documented: it counts, and a gift can push the giver and not the taker across the threshold."""
    before, after = [1.0, 0.0105, 0.0], [1.0, 0.00525, 0.00525]
    assert of("near_zero_share", after) > of("near_zero_share", before)


@pytest.mark.parametrize("name", ["gini", "near_zero_share"])
@settings(deadline=None, max_examples=25)
@given(v=values)
def test_two_copies_of_a_map_are_as_sparse_as_one(name: str, v: list[float]) -> None:
    """Cloning, D4: holds for Gini and for counting, not for Hoyer, whose scale depends on n."""
    assert of(name, v + v) == pytest.approx(of(name, v), abs=1e-9)


@pytest.mark.parametrize("name", ["gini", "hoyer"])
@settings(deadline=None, max_examples=25)
@given(v=values, lift=st.floats(0.01, 10.0))
def test_raising_all_values_makes_a_map_less_sparse(name: str, v: list[float], lift: float) -> None:
    """Rising tide, D3."""
    v = [abs(x) for x in v]
    assume(max(v) - min(v) > 1e-3 * max(v))
    assert of(name, [x + lift * max(v) for x in v]) < of(name, v)


@pytest.mark.parametrize("name", ["gini", "hoyer"])
@settings(deadline=None, max_examples=25)
@given(v=values)
def test_adding_a_zero_makes_a_map_sparser(name: str, v: list[float]) -> None:
    """Babies, P2."""
    assume(of(name, v) < 1 - 1e-6)
    assert of(name, [*v, 0.0]) > of(name, v)


@every_measure
def test_a_map_of_zeros_or_with_a_value_that_is_not_finite_is_undefined(name: str) -> None:
    g = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [1.0, math.nan, 0.0], [math.inf, 1.0, 0.0]])
    assert SPARSITY[name](g).isnan().tolist() == [False, True, True, True]
    assert "zero" in SPARSITY[name].nan_when


@every_measure
def test_any_shape_dtype_and_gradient_is_accepted_and_the_input_is_unchanged(name: str) -> None:
    g = torch.randint(-3, 9, (2, 3, 4, 5), generator=torch.Generator().manual_seed(0)).float()
    kept, wanted = g.clone(), SPARSITY[name](g)
    assert wanted.shape == (2,)
    for other in (g.int(), g.half(), g.clone().requires_grad_(), g.flatten(1), g.permute(0, 3, 1, 2)):
        value = SPARSITY[name](other)
        torch.testing.assert_close(value, wanted)
        assert not value.requires_grad
    assert torch.equal(g, kept)
    assert SPARSITY[name](g[:0]).shape == (0,)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 0)])
@every_measure
def test_fewer_than_two_values_have_no_sparsity(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"2 values or more each, got shape \(3"):
        SPARSITY[name](torch.ones(shape))


@pytest.mark.parametrize("threshold", [-0.1, 1.0, math.nan])
def test_a_threshold_that_counts_all_or_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="at least 0 and below 1, got"):
        near_zero_share(torch.ones(1, 3), threshold=threshold)


@every_measure
def test_every_measure_has_a_meaning_and_a_direction(name: str) -> None:
    measure = SPARSITY[name]
    assert measure.higher_is == ("more spread out" if name == "normalised_entropy" else "sparser")
    assert (measure.name, measure.low, measure.high) == (name, 0.0, 1.0)
    assert measure.meaning.means.endswith(".")

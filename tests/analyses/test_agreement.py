"""Agreement of two maps: parity with SciPy and scikit-image, ties, properties, and where a number is undefined."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from scipy.spatial import distance
from torch import Tensor

from attnviz.metrics.agreement import AGREEMENT, spearman, ssim, topk_iou
from attnviz.metrics.agreement_baselines import centre_prior, with_baselines
from attnviz.metrics.map_distances import centre_distance, cosine, earth_movers, jensen_shannon, pearson

every_measure = pytest.mark.parametrize("name", list(AGREEMENT))


def maps(count: int = 3, *, seed: int = 0, levels: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if levels is not None:
        return torch.randint(levels, (count, 14, 17), generator=generator).float()
    return torch.randn(count, 14, 17, generator=generator)


@pytest.mark.parametrize("levels", [None, 4])
def test_spearman_is_scipys_with_and_without_ties(levels: int | None) -> None:
    a, b = maps(levels=levels), maps(seed=1, levels=levels) + maps(levels=levels)
    wanted = [stats.spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    torch.testing.assert_close(spearman(a, b), torch.tensor(wanted, dtype=torch.float64), atol=1e-12, rtol=0)


def test_spearman_with_ties_worked_by_hand() -> None:
    """Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)."""
    a, b = torch.tensor([[[1.0, 2.0], [2.0, 3.0]]]), torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert spearman(a, b).item() == pytest.approx(4.5 / math.sqrt(4.5 * 5))


@pytest.mark.parametrize("levels", [None, 4])
def test_ssim_is_scikit_images(levels: int | None) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    a, b = maps(levels=levels), maps(seed=1, levels=levels) + maps(levels=levels)
    wanted = []
    for pair in zip(a.double().numpy(), b.double().numpy(), strict=True):
        x, y = ((m - m.min()) / (m.max() - m.min()) for m in pair)
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
        wanted.append(metrics.structural_similarity(x, y, **options))
    torch.testing.assert_close(ssim(a, b), torch.tensor(wanted, dtype=torch.float64), atol=1e-12, rtol=0)


def test_topk_iou_of_maps_without_ties_is_that_of_two_sets() -> None:
    a, b = maps(), maps(seed=1) + maps()
    k = round(0.2 * a[0].numel())
    for x, y, iou in zip(a, b, topk_iou(a, b), strict=True):
        s, t = (set(m.flatten().argsort(descending=True)[:k].tolist()) for m in (x, y))
        assert iou.item() == pytest.approx(len(s & t) / len(s | t))


def test_pixels_that_tie_for_the_top_share_its_places() -> None:
    """The top 2 of 10: one is clear in ``a``, and nine share one place; ``b`` has its two apart from them."""
    a = torch.zeros(1, 2, 5)
    a[0, 0, 0] = 1
    b = torch.zeros(1, 2, 5)
    b[0, 0, :2] = torch.tensor([2.0, 1.0])
    shared = 1 + 1 / 9
    assert topk_iou(a, b).item() == pytest.approx(shared / (4 - shared))
    assert topk_iou(a, a).item() == pytest.approx(1)


def test_two_random_maps_overlap_by_chance_as_documented() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 20, 60, 60, generator=generator)
    assert topk_iou(a, b).mean().item() == pytest.approx(0.2 / 1.8, abs=0.01)


@pytest.mark.parametrize("share", [0.0, -0.2, 1.1, math.nan])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"wanted a share in \(0, 1\], got"):
        topk_iou(maps(), maps(), share=share)


@every_measure
def test_a_map_agrees_fully_with_itself_and_equally_both_ways(name: str) -> None:
    a, b = maps(), maps(seed=1) + maps()
    measure = AGREEMENT[name]
    best = torch.full((3,), measure.high if measure.higher_is == "more alike" else measure.low, dtype=torch.float64)
    torch.testing.assert_close(measure(a, a), best, atol=1e-7, rtol=0)
    torch.testing.assert_close(measure(a, b), measure(b, a))
    assert ((measure(a, b) - best).abs() > 1e-4).all()


@every_measure
@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**16), scale=st.sampled_from([1e-30, 1e-3, 7.0, 1e30]), levels=st.sampled_from([None, 2, 5])
)
def test_scaling_a_map_changes_nothing_and_the_value_is_in_range(
    name: str, seed: int, scale: float, levels: int | None
) -> None:
    a, b = maps(2, seed=seed, levels=levels), maps(2, seed=seed + 1, levels=levels)
    measure = AGREEMENT[name]
    value = measure(a, b)
    torch.testing.assert_close(measure(a.double() * scale, b), value, atol=1e-6, rtol=1e-6)
    assert ((value >= measure.low) & (value <= measure.high)).all()


@pytest.mark.parametrize("name", ["spearman", "topk_iou", "pearson", "cosine", "jensen_shannon"])
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**16), levels=st.sampled_from([None, 2, 5]))
def test_the_order_of_the_pixels_plays_no_part(name: str, seed: int, levels: int | None) -> None:
    a, b = maps(2, seed=seed, levels=levels), maps(2, seed=seed + 1, levels=levels)
    order = torch.randperm(14 * 17, generator=torch.Generator().manual_seed(seed))
    shuffled = [m.flatten(1)[:, order].reshape(m.shape) for m in (a, b)]
    torch.testing.assert_close(AGREEMENT[name](*shuffled), AGREEMENT[name](a, b))


def test_spearman_depends_only_on_the_order_and_changes_with_the_sign() -> None:
    a, b = maps(), maps(seed=1) + maps()
    torch.testing.assert_close(spearman(a.exp(), b), spearman(a, b))
    torch.testing.assert_close(spearman(-a, b), -spearman(a, b))


@every_measure
def test_a_constant_or_unfinished_map_has_no_agreement(name: str) -> None:
    a, b = maps(5), maps(5, seed=1)
    a[1], b[2], a[3, 0, 0], b[4, 0, 0] = 2.5, 0.0, math.nan, math.inf
    measure = AGREEMENT[name]
    assert measure(a, b).isnan().tolist() == [False, True, True, True, True]
    assert measure(a, b)[0] == pytest.approx(measure(a[:1], b[:1]).item())
    assert "constant" in measure.nan_when


@every_measure
def test_maps_of_two_shapes_are_refused(name: str) -> None:
    for a, b in ((maps(3), maps(2)), (maps()[:, None], maps()[:, None]), (maps()[0], maps()[0])):
        with pytest.raises(ValueError, match=r"wanted two \(N, H, W\) maps of one shape, got"):
            AGREEMENT[name](a, b)


def test_ssim_refuses_maps_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="11 × 11 pixels or more, got 10 × 17"):
        ssim(maps()[:, :10], maps()[:, :10])


@every_measure
def test_integers_halves_and_gradients_are_accepted_and_inputs_are_unchanged(name: str) -> None:
    a, b = maps(levels=9), maps(seed=1, levels=9)
    kept, wanted = a.clone(), AGREEMENT[name](a, b)
    for x in (a.int(), a.half(), a.clone().requires_grad_()):
        value = AGREEMENT[name](x, b)
        torch.testing.assert_close(value, wanted)
        assert not value.requires_grad
    assert torch.equal(a, kept)


@every_measure
def test_every_measure_has_a_meaning_and_a_direction(name: str) -> None:
    measure = AGREEMENT[name]
    assert (measure.name, measure.high) == (name, 1.0)
    assert measure.higher_is in {"more alike", "less alike"}
    assert measure.meaning.means.endswith(".")


def test_pearson_cosine_and_jensen_shannon_are_scipys() -> None:
    a, b = maps(), maps(seed=1) + maps()
    for x, y, r, angle, js in zip(a, b, pearson(a, b), cosine(a, b), jensen_shannon(a, b), strict=True):
        u, v = (m.flatten().double().numpy() for m in (x, y))
        assert r.item() == pytest.approx(stats.pearsonr(u, v).statistic, abs=1e-12)
        assert angle.item() == pytest.approx(1 - distance.cosine(u, v), abs=1e-12)
        assert js.item() == pytest.approx(distance.jensenshannon(abs(u), abs(v), base=2), abs=1e-12)


def test_earth_movers_distance_is_scipys_on_a_line_and_a_transport_problem_on_a_grid() -> None:
    a, b = maps(2)[:, :1, :12].abs(), maps(2, seed=1)[:, :1, :12].abs()
    line = torch.arange(12)
    for x, y, found in zip(a[:, 0], b[:, 0], earth_movers(a, b), strict=True):
        assert found.item() == pytest.approx(stats.wasserstein_distance(line, line, x, y) / 11)
    a, b = maps(1)[:, :4, :3].abs(), maps(1, seed=1)[:, :4, :3].abs()
    places = torch.cartesian_prod(torch.arange(4.0), torch.arange(3.0))
    cost = torch.cdist(places, places, p=1).flatten().double()
    p, q = (m.flatten(1).double() / m.double().sum() for m in (a, b))
    rows = torch.eye(12).repeat_interleave(12, 1), torch.eye(12).repeat(1, 12)
    wanted = optimize.linprog(cost.numpy(), A_eq=torch.cat(rows).numpy(), b_eq=torch.cat([p[0], q[0]]).numpy())
    assert earth_movers(a, b).item() == pytest.approx(wanted.fun / 5, abs=1e-6)


def test_all_mass_from_one_corner_to_the_other_is_a_distance_of_one() -> None:
    a, b = torch.zeros(2, 1, 5, 9)
    a[0, 0, 0], b[0, 4, 8] = 1.0, 2.0
    assert earth_movers(a, b).item() == pytest.approx(1)
    assert centre_distance(a, b).item() == pytest.approx(1)
    assert jensen_shannon(a, b).item() == pytest.approx(1)
    assert earth_movers(a, a.roll(1, 2)).item() == pytest.approx(1 / 12)


def test_a_number_comes_with_what_the_middle_and_chance_would_give() -> None:
    prior = centre_prior((14, 17)).expand(3, -1, -1)
    noise = maps(3, seed=4)
    found = with_baselines("spearman", prior, prior + 0.01 * noise)
    assert (found["value"] > 0.9).all()
    assert (found["centre"] > 0.9).all()  # the agreement is no more than that both favour the middle
    assert (found["random"].abs() < 0.4).all()
    again = with_baselines("spearman", prior, prior + 0.01 * noise)
    assert torch.equal(found["random"], again["random"])
    assert not torch.equal(found["random"], with_baselines("spearman", prior, noise, seed=1)["random"])

"""Agreement of every two maps at once equals the measures of each pair."""

import pytest
import torch

from attnviz.metrics.agreement import AGREEMENT, agreement_of_pairs, quick_measures
from attnviz.metrics.pairwise_agreement import PreparedMaps, pairs_of


def maps() -> torch.Tensor:
    made = torch.randn(3, 5, 14, 17, generator=torch.Generator().manual_seed(0))
    made[0, 1] = (made[0, 1] * 2).round()  # pixels that tie
    made[1, 2] = 4.0  # constant
    made[2, 0, 3, 3] = float("nan")
    made[2, 4] = made[2, 1] * 1e30
    return made


@pytest.mark.parametrize("name", list(AGREEMENT))
def test_it_equals_the_measure_of_each_pair(name: str) -> None:
    given = maps()
    found = agreement_of_pairs(given, [name])[name]
    for column, (i, j) in enumerate(pairs_of(5)):
        torch.testing.assert_close(found[:, column], AGREEMENT[name](given[:, i], given[:, j]), equal_nan=True)


def test_the_quick_measures_are_the_default() -> None:
    assert list(agreement_of_pairs(maps())) == ["spearman", "ssim", "topk_iou"]
    assert agreement_of_pairs(maps())["ssim"].shape == (3, 10)


@pytest.mark.parametrize("name", [one.name for one in quick_measures(100)])
def test_pairs_are_compared_in_blocks(name: str) -> None:
    of_pairs, pairs = AGREEMENT[name].pairs, pairs_of(5)
    whole = of_pairs(PreparedMaps(maps()), pairs)
    torch.testing.assert_close(of_pairs(PreparedMaps(maps(), block=1), pairs), whole, equal_nan=True)


def test_one_map_has_no_pair() -> None:
    assert agreement_of_pairs(maps()[:, :1])["spearman"].shape == (3, 0)


def test_a_measure_that_needs_larger_maps_is_left_out_or_refused() -> None:
    small = torch.rand(1, 2, 4, 14)
    assert list(agreement_of_pairs(small)) == ["spearman", "topk_iou"]
    with pytest.raises(ValueError, match="11 × 11 pixels or more, got 4 × 14"):
        agreement_of_pairs(small, ["ssim"])


def test_maps_without_an_axis_of_maps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"wanted maps \(N, M, H, W\)"):
        agreement_of_pairs(torch.rand(2, 14, 14))

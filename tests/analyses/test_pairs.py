"""Every two maps at once give what the measures give for each two."""

import pytest
import torch

from attnviz.metrics.agreement import AGREEMENT
from attnviz.metrics.pairwise_agreement import MEASURES, of_pairs, pairs_of


def maps() -> torch.Tensor:
    made = torch.randn(3, 5, 14, 17, generator=torch.Generator().manual_seed(0))
    made[0, 1] = (made[0, 1] * 2).round()  # pixels that tie
    made[1, 2] = 4.0  # constant
    made[2, 0, 3, 3] = float("nan")
    made[2, 4] = made[2, 1] * 1e30
    return made


@pytest.mark.parametrize("name", list(MEASURES))
def test_as_the_measure_of_each_pair(name: str) -> None:
    given = maps()
    found = of_pairs(given)[name]
    for column, (i, j) in enumerate(pairs_of(5)):
        torch.testing.assert_close(found[:, column], AGREEMENT[name](given[:, i], given[:, j]), equal_nan=True)


def test_every_quick_measure_is_there_and_in_one_order() -> None:
    assert set(MEASURES) == set(AGREEMENT)
    assert of_pairs(maps())["ssim"].shape == (3, 10)


def test_many_maps_are_compared_a_few_pairs_at_a_time(monkeypatch) -> None:
    whole = of_pairs(maps())
    monkeypatch.setattr("attnviz.metrics.pairwise_agreement._AT_ONCE", 1)
    for name, values in of_pairs(maps()).items():
        torch.testing.assert_close(values, whole[name], equal_nan=True)


def test_one_map_has_no_pair_and_small_ones_are_refused() -> None:
    assert of_pairs(maps()[:, :1])["spearman"].shape == (3, 0)
    with pytest.raises(ValueError, match="11 × 11"):
        of_pairs(torch.zeros(1, 2, 4, 14))

"""Maps against masks: parity with scikit-learn and Quantus, hand-worked numbers, and where a number is undefined."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from attnviz.metrics.localisation import LOCALISATION, auc, energy, iou, pointing

every_measure = pytest.mark.parametrize("name", list(LOCALISATION))


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(4, 9, 11, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def masks() -> Tensor:
    return torch.rand(4, 9, 11, generator=torch.Generator().manual_seed(1)) < 0.3


@every_measure
def test_a_map_that_is_the_mask_is_perfect_and_its_reverse_is_not(name: str, masks: Tensor) -> None:
    assert LOCALISATION[name](masks.float(), masks).tolist() == [1.0] * 4
    assert (LOCALISATION[name]((~masks).float(), masks) < 0.01).all()


@every_measure
def test_scale_plays_no_part_and_values_are_in_range(name: str, maps: Tensor, masks: Tensor) -> None:
    values = LOCALISATION[name](maps, masks)
    torch.testing.assert_close(LOCALISATION[name](maps * 1e-6, masks), values)
    assert ((values >= 0) & (values <= 1)).all()


def test_auc_is_scikit_learns_with_ties_too(maps: Tensor, masks: Tensor) -> None:
    for values in (maps, maps.round()):
        wanted = [roc_auc_score(m.flatten(), v.flatten()) for m, v in zip(masks, values, strict=True)]
        torch.testing.assert_close(auc(values, masks), torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.filterwarnings("ignore")
def test_measures_are_quantus(maps: Tensor, masks: Tensor) -> None:
    quantus = pytest.importorskip("quantus")
    a, s = maps.abs()[:, None].numpy(), masks[:, None].numpy().astype(float)
    x, y = np.zeros_like(a), np.zeros(4, dtype=int)
    options = {"abs": False, "normalise": False, "disable_warnings": True}

    def rated(metric: str) -> np.ndarray:
        found = getattr(quantus, metric)(**options)(
            model=torch.nn.Identity(), x_batch=x, y_batch=y, a_batch=a, s_batch=s
        )
        return np.asarray(found, dtype=float)

    np.testing.assert_allclose(energy(maps.abs(), masks), rated("RelevanceMassAccuracy"), atol=1e-6)
    np.testing.assert_allclose(pointing(maps.abs(), masks), rated("PointingGame"))
    rank = rated("RelevanceRankAccuracy")  # intersection over the object
    np.testing.assert_allclose(iou(maps.abs(), masks), rank / (2 - rank), atol=1e-6)
    np.testing.assert_allclose(auc(maps.abs(), masks), rated("AUC"), atol=1e-6)


def test_a_flat_map_points_nowhere_and_is_at_chance_elsewhere(masks: Tensor) -> None:
    flat = torch.ones(4, 9, 11)
    share = masks.flatten(1).double().mean(1)
    assert pointing(flat, masks).tolist() == [0.0] * 4
    torch.testing.assert_close(energy(flat, masks), share)
    torch.testing.assert_close(auc(flat, masks), torch.full((4,), 0.5, dtype=torch.float64))
    torch.testing.assert_close(iou(flat, masks), share / (2 - share))


@pytest.mark.parametrize("name", ["energy", "iou", "auc"])
def test_where_a_number_is_undefined(name: str, maps: Tensor, masks: Tensor) -> None:
    maps[0, 0, 0] = math.nan
    if name == "energy":
        maps[1] = -1.0
    else:
        masks[1] = False
        masks[2] = True
    found = LOCALISATION[name](maps, masks).isnan().tolist()
    assert found == [True, True, name != "energy", False]


@pytest.mark.parametrize("name", ["energy", "iou", "auc"])
def test_masks_that_are_none_are_refused(name: str, maps: Tensor, masks: Tensor) -> None:
    with pytest.raises(ValueError, match="wanted maps and bool masks"):
        LOCALISATION[name](maps, masks.float())
    with pytest.raises(ValueError, match="wanted maps and bool masks"):
        LOCALISATION[name](maps, masks[:, :5])

"""Tests of faithfulness: closed forms on models that are known, parity with Quantus, Captum and pytorch-grad-cam."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attnviz.metrics import faithfulness
from attnviz.metrics.faithfulness import FAITHFULNESS
from attnviz.metrics.imputation import imputed
from attnviz.metrics.perturbation_curves import TargetProbe, curve, deletion_curve, order_of

every_test = pytest.mark.parametrize("name", list(FAITHFULNESS))


class Half(nn.Module):
    """The logit of class 1 is the mean of the left half of the image, times a slope."""

    def __init__(self, slope: float = 6.0) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, x: Tensor) -> Tensor:
        s = self.slope * x[:, :, :, : x.shape[3] // 2].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(s), s], dim=1)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return 4 * self.head(self.conv(x).relu().mean((2, 3)))


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(1)) + 0.1


def left(x: Tensor) -> Tensor:
    maps = torch.zeros_like(x[:, 0])
    maps[:, :, : x.shape[3] // 2] = 1 + x[:, 0, :, : x.shape[3] // 2]
    return maps


def rated(name: str, probe: TargetProbe, maps: Tensor) -> Tensor:
    return FAITHFULNESS[name](probe, maps)


@every_test
def test_the_map_that_shows_what_the_model_reads_is_better_than_its_reverse(name: str, x: Tensor) -> None:
    probe = TargetProbe(Half(), x, 1)
    good, bad = rated(name, probe, left(x)), rated(name, probe, left(x).flip(2))
    better = good - bad if FAITHFULNESS[name].higher_is == "better" else bad - good
    assert (better >= 0).all()
    assert name == "average_increase" or (better > 0).all()
    test = FAITHFULNESS[name]
    assert ((good >= test.low) & (good <= test.high)).all()


@every_test
def test_a_batch_gives_what_its_images_give_alone_and_the_model_is_left(name: str, x: Tensor) -> None:
    model, maps = Small().train(), torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(2))
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    together = rated(name, TargetProbe(model, x, [0, 3, 1]), maps)
    for i, target in enumerate((0, 3, 1)):
        if name == "infidelity":
            continue  # noise is relative to the range of all images
        alone = rated(name, TargetProbe(model, x[i : i + 1], target), maps[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)
    assert together.dtype == torch.float64
    assert model.training
    assert (model.conv.weight.grad == 1).all()
    assert model.conv.weight.requires_grad


@every_test
def test_a_constant_map_has_no_number(name: str, x: Tensor) -> None:
    maps = left(x)
    maps[0], maps[1, 0, 0] = 2.0, math.nan
    assert rated(name, TargetProbe(Half(), x, 1), maps).isnan().tolist() == [True, True, False]
    assert "constant" in FAITHFULNESS[name].nan_when


@every_test
def test_maps_of_another_size_are_refused(name: str, x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"maps \(3, 8, 8\) are not of images \(3, 1, 16, 16\)"):
        rated(name, TargetProbe(Half(), x, 1), torch.rand(3, 8, 8))


@every_test
def test_scale_of_a_map_plays_no_part(name: str, x: Tensor) -> None:
    probe, maps = TargetProbe(Small(), x, 1), torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(rated(name, probe, 1000 * maps), rated(name, probe, maps), atol=1e-5, rtol=1e-4)


def test_a_curve_worked_by_hand() -> None:
    """Two pixels, 2 and 1, the left one read: deleting it first takes the probability from sigmoid(6) to 1/2."""
    x, maps = torch.tensor([[[[2.0, 1.0]]]]), torch.tensor([[[5.0, 3.0]]])
    probe = TargetProbe(Half(3.0), x, 1)
    deleted = deletion_curve(probe, maps, steps=2)
    high = 1 / (1 + math.exp(-6))
    torch.testing.assert_close(deleted.values, torch.tensor([[high, 0.5, 0.5]]))
    assert deleted.area.item() == pytest.approx((high + 0.5) / 4 + 0.25)
    reverse = deletion_curve(probe, -maps, steps=2)
    torch.testing.assert_close(reverse.values, torch.tensor([[high, high, 0.5]]))
    assert faithfulness.comprehensiveness(probe, maps, shares=(0.5,)).item() == pytest.approx(high - 0.5)
    assert faithfulness.sufficiency(probe, maps, shares=(0.5,)).item() == pytest.approx(0.0)
    assert faithfulness.sufficiency(probe, -maps, shares=(0.5,)).item() == pytest.approx(high - 0.5)
    assert faithfulness.average_drop(probe, maps).item() == pytest.approx(0.0)
    assert faithfulness.average_drop(probe, -maps).item() == pytest.approx((high - 0.5) / high)


def test_pixels_that_tie_are_ordered_at_random_and_not_row_by_row() -> None:
    maps = torch.zeros(1, 20, 20)
    maps[0, 3, 3] = 1
    ranks = order_of(maps)[0]
    assert ranks[3, 3] == 0
    assert sorted(ranks.flatten().tolist()) == list(range(400))
    assert 70 < int((ranks[:10] < 200).sum()) < 130  # of 200, half the rows have about half


@pytest.mark.filterwarnings("ignore")
def test_the_deletion_curve_is_quantus_pixel_flipping(x: Tensor) -> None:
    quantus = pytest.importorskip("quantus")
    model, maps = Small().eval(), torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(2))
    metric = quantus.PixelFlipping(
        features_in_step=16, perturb_baseline="black", abs=False, normalise=False, disable_warnings=True,
    )  # fmt: skip
    targets = np.array([0, 3, 1])
    theirs = metric(copy.deepcopy(model), x.numpy(), targets, maps[:, None].numpy(), softmax=True, device="cpu")
    black = x.amin((1, 2, 3), keepdim=True).expand_as(x)  # of each image
    ours = curve(TargetProbe(model, x, [0, 3, 1]), maps, start=x, end=black, steps=16).values[:, 1:]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_average_drop_is_the_papers(x: Tensor) -> None:
    model, maps = Small().eval(), torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(2))
    probe = TargetProbe(model, x, 2)
    with torch.no_grad():
        for n in range(3):
            mask = (maps[n] - maps[n].min()) / (maps[n].max() - maps[n].min())
            full, seen = (float(model(v[None]).softmax(1)[0, 2]) for v in (x[n], x[n] * mask))
            assert faithfulness.average_drop(probe, maps)[n].item() == pytest.approx(
                max(0, (full - seen) / full), abs=1e-6
            )
            assert faithfulness.average_increase(probe, maps)[n].item() == float(seen > full)


@pytest.mark.filterwarnings("ignore")
def test_imputation_is_pytorch_grad_cams() -> None:
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    generator = torch.Generator().manual_seed(3)
    images, removed = torch.rand(2, 3, 12, 15, generator=generator), torch.rand(2, 12, 15, generator=generator) < 0.6
    ours = imputed(images, removed, noise=0.0)
    for image, gone, found in zip(images, removed, ours, strict=True):
        theirs = road.NoisyLinearImputer(noise=0.0)(image, (~gone).float())
        torch.testing.assert_close(found, theirs, atol=1e-4, rtol=1e-3)
    assert torch.equal(ours[~removed[:, None].expand_as(images)], images[~removed[:, None].expand_as(images)])


def _by_definition(image: Tensor, gone: Tensor) -> Tensor:
    """The equations of the paper as a full matrix over all pixels: a kept pixel is itself, a removed one its mean."""
    height, width = gone.shape
    matrix, right = torch.eye(gone.numel(), dtype=torch.float64), image.double().flatten(1).clone()
    for row, column in gone.nonzero().tolist():
        pixel = row * width + column
        right[:, pixel] = 0
        around = [
            (y, x)
            for y in range(max(row - 1, 0), min(row + 2, height))
            for x in range(max(column - 1, 0), min(column + 2, width))
            if (y, x) != (row, column)
        ]
        weights = [1 / 6 if y == row or x == column else 1 / 12 for y, x in around]
        for (y, x), weight in zip(around, weights, strict=True):
            matrix[pixel, y * width + x] = -weight / sum(weights)
    return torch.linalg.solve(matrix, right.T).T.reshape(image.shape)


@pytest.mark.parametrize("channels", [1, 3, 12])
def test_imputation_solves_the_equations_of_each_image_whatever_is_beside_it(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(20), indexing="ij")
    distance = ((rows - 8) ** 2 + (columns - 11) ** 2).flatten().argsort().argsort().view(24, 20)
    few, many = (torch.rand(24, 20, generator=generator) < share for share in (0.02, 0.4))
    corner = torch.ones(24, 20, dtype=torch.bool)
    corner[0, 0] = False  # one remaining pixel determines all
    holes = torch.stack([few, many, distance < 384, distance >= 96, corner])
    images = torch.rand(5, channels, 24, 20, generator=generator)
    together = imputed(images, holes, noise=0.0)
    for index, (image, gone) in enumerate(zip(images, holes, strict=True)):
        assert torch.equal(together[index], imputed(image[None], gone[None], noise=0.0)[0])
        torch.testing.assert_close(together[index].double(), _by_definition(image, gone), atol=1e-6, rtol=0)


def test_imputation_of_everything_is_noise_and_of_nothing_the_image() -> None:
    images = torch.rand(2, 3, 6, 6)
    removed = torch.tensor([True, False])[:, None, None].expand(2, 6, 6)
    filled = imputed(images, removed, noise=0.01)
    assert torch.equal(filled[1], images[1])
    assert filled[0].abs().max() < 0.1


@pytest.mark.filterwarnings("ignore")
def test_road_is_pytorch_grad_cams_combined_measure(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    class Silent(road.NoisyLinearImputer):
        """Adds no noise, which here would be as large as what is measured."""

        def __init__(self) -> None:
            super().__init__(noise=0.0)

    monkeypatch.setattr(road, "NoisyLinearImputer", Silent)
    model, maps = Small().eval(), torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(2))
    for parameter in model.parameters():
        parameter.data *= 4  # or little would depend on the image
    metric = road.ROADCombined(percentiles=[25, 50, 75])  # thresholds that leave whole numbers of the 256 pixels
    theirs = metric(x, maps.numpy(), [ClassifierOutputSoftmaxTarget(2)] * 3, model)
    ours = faithfulness.road(TargetProbe(model, x, 2), maps, shares=(0.25, 0.5, 0.75), noise=0.0)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(theirs).max() > 1e-2


def test_infidelity_of_a_linear_model_by_its_gradient_is_zero() -> None:
    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.linspace(-1, 1, 64).reshape(1, 8, 8))

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([(self.w * x[:, 0]).sum((1, 2)), x.sum((1, 2, 3)) * 0], 1)

    generator = torch.Generator().manual_seed(5)
    model, x = Linear(), torch.rand(2, 1, 8, 8, generator=generator)
    probe = TargetProbe(model, x, 0)
    exact = faithfulness.infidelity(probe, model.w.detach().expand(2, 8, 8))
    assert exact.abs().max() < 1e-6  # Captum subtracts means of squares that are about 1, in single precision
    assert faithfulness.infidelity(probe, torch.rand(2, 8, 8, generator=generator)).min() > 1e-2


def test_every_test_has_a_meaning_and_a_direction() -> None:
    for name in FAITHFULNESS:
        assert FAITHFULNESS[name].higher_is in {"better", "worse"}
        assert FAITHFULNESS[name].meaning.means.endswith(".")

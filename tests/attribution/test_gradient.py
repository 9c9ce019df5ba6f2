"""Saliency, Integrated Gradients and SmoothGrad: closed forms, slow twins, and completeness."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attnviz.attribution import attribute, completeness_gap
from attnviz.errors import AttributionError, TargetError


@pytest.fixture
def small() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def test_saliency_is_the_largest_slope_over_the_colours(quadratic: nn.Module, small: Tensor) -> None:
    slope = 2 * 2 * quadratic.w * small
    torch.testing.assert_close(attribute(quadratic, small, 1, "saliency").values, slope.abs().amax(1))


def test_integrated_gradients_of_a_quadratic_is_exact(quadratic: nn.Module, small: Tensor) -> None:
    """The path integral of ``2 w x`` from 0 to ``x`` is ``w x ** 2``; two points integrate a line exactly."""
    found = attribute(quadratic, small, 0, "integrated_gradients", steps=2).values
    torch.testing.assert_close(found, (quadratic.w * small**2).sum(1).detach())


def test_integrated_gradients_starts_from_the_baseline(quadratic: nn.Module, small: Tensor) -> None:
    blank = torch.full((1, 3, 8, 8), 0.3)
    wanted = (quadratic.w * (small**2 - 0.3**2)).sum(1).detach()
    for baseline in (0.3, blank):
        found = attribute(quadratic, small, 0, "integrated_gradients", steps=4, baseline=baseline).values
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_integrated_gradients_of_a_cnn_adds_up_to_the_rise_of_the_logit(real: tuple[nn.Module, str]) -> None:
    model = real[0]
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, blank = model(x), model(torch.zeros(1, 3, 64, 64))
    target = (logits - blank).abs().argmax(1)
    rise = (logits - blank).gather(1, target[:, None])[:, 0]
    heatmap = attribute(model, x, target, "integrated_gradients", steps=48)
    gap = completeness_gap(model, x, target, heatmap)
    torch.testing.assert_close(gap, heatmap.values.sum((1, 2)) - rise, atol=1e-5, rtol=1e-4)
    assert (gap.abs() <= 0.05 * rise.abs()).all()


def test_the_completeness_gap_is_captums_convergence_delta(stem: nn.Module, images: Tensor) -> None:
    from captum.attr import IntegratedGradients

    target = torch.tensor([0, 3, 1])
    heatmap = attribute(stem, images, target, "integrated_gradients", steps=3)
    _, delta = IntegratedGradients(stem).attribute(images, target=target, n_steps=3, return_convergence_delta=True)
    torch.testing.assert_close(completeness_gap(stem, images, target, heatmap), delta, atol=1e-5, rtol=1e-3)
    finer = attribute(stem, images, target, "integrated_gradients", steps=200)
    assert completeness_gap(stem, images, target, finer).abs().max() < delta.abs().max()


def test_a_completeness_gap_is_of_one_map_and_one_class(stem: nn.Module, images: Tensor) -> None:
    heatmap = attribute(stem, images, 0, "integrated_gradients", steps=2)
    with pytest.raises(AttributionError, match=r"a map of shape \(3, 32, 32\) is not of images \(2, 3, 32, 32\)"):
        completeness_gap(stem, images[:2], 0, heatmap)
    with pytest.raises(TargetError, match="Stem has 5 classes"):
        completeness_gap(stem, images, 9, heatmap)


def integrated_gradients_of_the_paper(model: nn.Module, x: Tensor, target: int, steps: int) -> Tensor:
    """Equation 3, by the midpoint rule, one step at a time."""
    total = torch.zeros_like(x)
    for k in range(steps):
        point = ((k + 0.5) / steps * x).requires_grad_()
        total += torch.autograd.grad(model(point)[:, target].sum(), point)[0] / steps
    return (x * total).sum(1)


def test_integrated_gradients_is_the_papers(stem: nn.Module, images: Tensor) -> None:
    stem.relu = nn.Softplus()
    stem, images = stem.double(), images[:2].double()
    found = attribute(stem, images, 2, "integrated_gradients").values
    wanted = integrated_gradients_of_the_paper(stem, images, 2, 200).detach()
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_smoothgrad_without_noise_is_saliency(stem: nn.Module, images: Tensor) -> None:
    smooth = attribute(stem, images, 1, "smoothgrad", samples=2, noise=0.0).values
    torch.testing.assert_close(smooth, attribute(stem, images, 1, "saliency").values)


def test_smoothgrad_is_the_slope_of_the_smoothed_logit(quadratic: nn.Module, small: Tensor) -> None:
    """The mean slope of a quadratic is its slope at the mean: noise averages out as ``1 / sqrt(samples)``."""
    slope = (2 * quadratic.w * small).abs().amax(1)
    few, many = (attribute(quadratic, small, 0, "smoothgrad", samples=n).values for n in (4, 4000))
    assert (many - slope).abs().max() < 0.05 * slope.max()
    assert (many - slope).abs().mean() < 0.1 * (few - slope).abs().mean()


def test_the_noise_of_smoothgrad_follows_the_range_of_each_image(quadratic: nn.Module) -> None:
    x = torch.zeros(1, 3, 8, 8)
    x[0, 0, 0, 0] = 1.0
    large = attribute(quadratic, 10 * x, 0, "smoothgrad", samples=4).values
    torch.testing.assert_close(large, 10 * attribute(quadratic, x, 0, "smoothgrad", samples=4).values)
    flat = torch.full((1, 3, 8, 8), 2.0)
    exact = attribute(quadratic, flat, 0, "saliency").values
    torch.testing.assert_close(attribute(quadratic, flat, 0, "smoothgrad").values, exact)


@pytest.mark.parametrize("method", ["integrated_gradients", "smoothgrad"])
def test_a_smaller_batch_size_changes_memory_and_not_the_map(method: str, quadratic: nn.Module, small: Tensor) -> None:
    count = {"steps": 16} if method == "integrated_gradients" else {"samples": 16, "noise": 0.0}
    whole = attribute(quadratic, small, 0, method, batch_size=16, **count).values
    sizes: list[int] = []
    quadratic.register_forward_pre_hook(lambda _m, inputs: sizes.append(len(inputs[0])))
    torch.testing.assert_close(attribute(quadratic, small, 0, method, batch_size=3, **count).values, whole)
    assert max(sizes) == 3
    assert sum(sizes) == 2 * 16


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("integrated_gradients", {"steps": 0}, "steps is at least 1, got 0"),
        ("integrated_gradients", {"batch_size": 0}, "batch_size is at least 1, got 0"),
        ("integrated_gradients", {"baseline": torch.zeros(3, 8, 8)}, r"got shape \(3, 8, 8\)"),
        ("smoothgrad", {"samples": 0}, "samples is at least 1, got 0"),
        ("smoothgrad", {"noise": -0.1}, "at least 0; got -0.1"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    method: str, options: dict[str, object], message: str, quadratic: nn.Module, small: Tensor
) -> None:
    with pytest.raises(AttributionError, match=message):
        attribute(quadratic, small, 0, method, **options)


def test_expected_gradients_of_a_linear_model_are_its_terms(small: Tensor) -> None:
    weights = torch.randn(3, *small.shape[2:], generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Flatten(), nn.Linear(weights.numel(), 2, bias=False))
    model[1].weight.data = torch.stack([weights.flatten(), torch.zeros(weights.numel())])
    image = small[:1] - small[:1].mean((2, 3), keepdim=True)  # the mean colour is the blank image's: one reference
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    found = attribute(model, image, 0, method="gradient_shap", noise=0, samples=5).values
    assert torch.allclose(found, (weights * image).sum(1), atol=1e-5)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002

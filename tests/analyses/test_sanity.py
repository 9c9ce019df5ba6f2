"""Sanity of maps: randomised parameters, other classes, and small changes."""

import math

import pytest
import torch
from torch import Tensor, nn

from attnviz.attribution import attribute
from attnviz.metrics.sanity_checks import cascade, independence_from_target, max_sensitivity


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 4),
    ).train()  # fmt: skip


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_parameters_are_randomised_from_the_output_on_and_the_model_is_left(model: nn.Module, x: Tensor) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen: list[list[bool]] = []

    def explain(module: nn.Module, images: Tensor) -> Tensor:
        seen.append([torch.equal(value, before[name]) for name, value in module.state_dict().items()])
        return attribute(module, images, 1, "saliency").values

    stages = cascade(model, x, explain, stages=3)
    assert [stage.module for stage in stages] == ["6", "2", "0"]
    same = [True] * 6
    assert seen == [same, [*same[:4], False, False], [*same[:2], *[False] * 4], [False] * 6]
    assert all(stage.agreement.shape == (2,) for stage in stages)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    again = cascade(model, x, explain, stages=3)
    assert torch.equal(again[-1].agreement, stages[-1].agreement)


def test_a_map_of_the_image_alone_survives_everything(model: nn.Module, x: Tensor) -> None:
    stages = cascade(model, x, lambda _model, images: images.mean(1), stages=2)
    assert all(torch.allclose(stage.agreement, torch.ones(2, dtype=torch.float64)) for stage in stages)


def test_a_model_without_parameters_cannot_be_randomised(x: Tensor) -> None:
    with pytest.raises(ValueError, match="Flatten has no parameters"):
        cascade(nn.Flatten(), x, lambda _m, images: images.mean(1))
    with pytest.raises(ValueError, match="at least 1 stage"):
        cascade(nn.Flatten(), x, lambda _m, images: images.mean(1), stages=0)


def test_a_map_that_is_the_same_for_every_class_is_independent_of_it(model: nn.Module, x: Tensor) -> None:
    eigen = [attribute(model, x, target, "eigencam").values for target in range(3)]
    torch.testing.assert_close(independence_from_target(eigen[0], eigen[1:]), torch.ones(2, dtype=torch.float64))
    grad = [attribute(model, x, target, "saliency").values for target in range(3)]
    assert (independence_from_target(grad[0], grad[1:]) < 1).all()
    with pytest.raises(ValueError, match="at least one other class"):
        independence_from_target(eigen[0], [])


def test_max_sensitivity_is_captums_and_zero_for_a_map_that_never_moves(model: nn.Module, x: Tensor) -> None:
    def explain(images: Tensor) -> Tensor:
        return attribute(model, images, 1, "saliency").values

    from captum.metrics import sensitivity_max

    with torch.random.fork_rng():
        torch.manual_seed(0)
        reach = 0.02 * float(x.max() - x.min())
        wanted = sensitivity_max(lambda v: (explain(v[0]),), (x,), perturb_radius=reach, n_perturb_samples=8,
                                 max_examples_per_batch=2)  # fmt: skip
    torch.testing.assert_close(max_sensitivity(x, explain), wanted.double())
    still = torch.rand(16, 16)
    assert max_sensitivity(x, lambda images: still.expand(len(images), -1, -1)).tolist() == [0.0, 0.0]
    assert math.isnan(max_sensitivity(x[:1], lambda images: images[:, 0] * 0)[0])

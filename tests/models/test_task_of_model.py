"""The task of a model is found from its library, its output, and the operation that made its output."""

import pytest
import torch
from torch import nn

from attnviz.models import find_task

X = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Wrapped(nn.Module):
    """A model of a library that no longer shows which one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


@pytest.mark.parametrize(
    ("name", "options", "task"),
    [
        ("seresnet18", {"num_classes": 5}, "classification"),
        ("seresnet18", {"num_classes": 0}, "embedding"),
        ("vit_tiny_patch16_224", {"num_classes": 4, "img_size": 64, "depth": 2}, "classification"),
        ("vit_tiny_patch16_224", {"num_classes": 0, "img_size": 64, "depth": 2}, "embedding"),
        ("convnext_atto", {"num_classes": 0}, "embedding"),
        ("mobilenetv3_small_050", {"num_classes": 9}, "classification"),
        ("resnet18", {"num_classes": 1}, "regression"),
    ],
)
@pytest.mark.parametrize("wrap", [nn.Identity, Wrapped])
def test_a_head_makes_a_classifier_and_a_pooling_an_embedding(name, options, task, wrap) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, **options).eval()
    assert find_task(model if wrap is nn.Identity else wrap(model), X).name == task


def test_a_classifier_of_pooled_maps_and_one_with_a_softmax_are_classifiers() -> None:
    maps = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    features = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert find_task(maps.eval(), X).name == "classification"
    assert find_task(features.eval(), X).name == "embedding"
    assert find_task(features.eval(), X, labels=tuple("abcde")).name == "classification"  # a name for each value
    assert find_task(nn.Sequential(features, nn.Linear(5, 3), nn.Softmax(1)).eval(), X).name == "classification"


def test_torchvisions_packages_state_their_task() -> None:
    segmentation = pytest.importorskip("torchvision.models.segmentation")
    model = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    assert find_task(model, X).name == "segmentation"


def test_a_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    find_task(model, X)
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

"""Grad-CAM: the formula, and the layer that it reads."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnviz.attribution import attribute, gradcam
from attnviz.errors import AttributionError, UnknownNameError


def gradcam_of_the_paper(model: nn.Module, layer: nn.Module, x: Tensor, target: int, *, relu: bool = True) -> Tensor:
    """Equations 1 and 2, one image and one channel at a time."""
    maps = []
    for image in x:
        kept: list[Tensor] = []
        handle = layer.register_forward_hook(lambda _m, _i, out, kept=kept: kept.append(out))
        score = model(image[None])[0, target]
        handle.remove()
        features = kept[-1]
        slopes = torch.autograd.grad(score, features)[0][0]
        total = torch.zeros_like(slopes[0])
        for channel, slope in zip(features[0].detach(), slopes, strict=True):
            total += slope.sum() / slope.numel() * channel
        maps.append(total.clamp_min(0) if relu else total)
    coarse = torch.stack(maps)[:, None]
    return F.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=False)[:, 0]


@pytest.mark.parametrize("relu", [True, False])
def test_gradcam_is_the_papers(real: tuple[nn.Module, str], relu: bool) -> None:
    import copy

    model, layer = copy.deepcopy(real[0]).double(), real[1]
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    wanted = gradcam_of_the_paper(model, model.get_submodule(layer), x, 4, relu=relu)
    found = attribute(model, x, 4, "gradcam", relu=relu)
    torch.testing.assert_close(found.values, wanted, atol=1e-12, rtol=1e-8)
    if relu:
        assert found.values.min() >= 0


def test_gradcam_of_a_network_worked_by_hand() -> None:
    class ByHand(nn.Module):
        """Two channels, the image and its negative; logit 1 weighs their sums by 3 and 1."""

        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv2d(1, 2, 1, bias=False)
            self.features.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            a = self.features(x).sum((2, 3))
            return torch.stack([a[:, 0], 3 * a[:, 0] + a[:, 1]], dim=1)

    x = torch.tensor([[[[1.0, -2.0], [0.5, 4.0]]]])
    assert torch.equal(gradcam(ByHand(), x, 1).values, torch.tensor([[[2.0, 0.0], [1.0, 8.0]]]))
    assert torch.equal(gradcam(ByHand(), x, 1, relu=False).values, torch.tensor([[[2.0, -4.0], [1.0, 8.0]]]))


def test_a_chosen_layer_is_used_and_named(stem: nn.Module, images: Tensor) -> None:
    heatmap = gradcam(stem, images, 1, layer="conv1")
    assert heatmap.source == "conv1"
    torch.testing.assert_close(heatmap.values, gradcam_of_the_paper(stem, stem.conv1, images, 1))
    assert not torch.equal(heatmap.values, gradcam(stem, images, 1).values)


def test_a_relu_used_twice_is_read_at_its_last_call(stem: nn.Module, images: Tensor) -> None:
    heatmap = gradcam(stem, images, 1)
    assert heatmap.source == "relu"
    torch.testing.assert_close(heatmap.values, gradcam_of_the_paper(stem, stem.relu, images, 1))


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        ("conv3", UnknownNameError, "unknown layer 'conv3': did you mean conv"),
        ("head", AttributionError, r"layer 'head' gives \(1, 5\), wanted features"),
        ("", AttributionError, r"layer '' gives \(1, 5\), wanted features"),
    ],
)
def test_a_layer_without_a_map_is_refused(
    layer: str, error: type, message: str, stem: nn.Module, images: Tensor
) -> None:
    with pytest.raises(error, match=message):
        gradcam(stem, images, 1, layer=layer)


def weightless(build: Callable[[], nn.Module]) -> nn.Module:
    """A model whose weights are all zero: quick to build, and enough to see where its layers are."""
    with torch.device("meta"):
        model = build()
    model = model.to_empty(device="cpu").eval()
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.zero_()
    return model


class Branches(nn.Module):
    """Features, a gate that finishes after them, an auxiliary head, and a module that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.auxiliary = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.gate = nn.Sequential(nn.Conv2d(4, 1, 3, padding=1), nn.Sigmoid())
        self.idle = nn.Conv2d(3, 4, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.features(x)
        self.auxiliary(x)
        return self.head((a * self.gate(a)).mean((2, 3)))


def test_a_gate_next_to_the_features_is_not_taken_for_them(images: Tensor) -> None:
    assert gradcam(Branches(), images, 0).source == "features"
    assert gradcam(Branches(), images, 0, layer="gate").source == "gate"


@pytest.mark.parametrize(
    ("layer", "message"),
    [("auxiliary", "the logits do not depend on layer 'auxiliary'"), ("idle", "'idle' did not run")],
)
def test_a_layer_that_the_logits_do_not_depend_on_is_refused(layer: str, message: str, images: Tensor) -> None:
    with pytest.raises(AttributionError, match=message):
        gradcam(Branches(), images, 0, layer=layer)


def test_a_model_without_any_map_is_refused(images: Tensor) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    with pytest.raises(AttributionError, match="gradcam: found no layer with positions"):
        gradcam(model, images, 0)


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [
        ("vgg11", "avgpool", 224),
        ("squeezenet1_1", "classifier.2", 64),
        ("densenet121", "features", 64),
        ("shufflenet_v2_x0_5", "conv5", 64),
        ("convnext_tiny", "features", 64),
        ("mnasnet0_5", "layers", 64),
    ],
)
def test_the_layer_of_published_cnns(name: str, layer: str, size: int) -> None:
    torchvision = pytest.importorskip("torchvision")
    from attnviz.attribution import Logits, find_layer

    model = weightless(lambda: torchvision.models.get_model(name, num_classes=4))
    assert find_layer(Logits(model), torch.randn(1, 3, size, size)).path == layer

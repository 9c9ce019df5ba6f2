"""Methods that carry the answer back by a rule: parity with Captum and pytorch-grad-cam, conservation, and refusals."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attnviz.attribution import Logits, attribute
from attnviz.errors import AttributionError


class Chain(nn.Module):
    """Modules in a row, each called once; without biases if asked for."""

    def __init__(self, *, bias: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=bias), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1, bias=bias), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(8 * 64, 4, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).flatten(1))


@pytest.fixture
def chain() -> nn.Module:
    torch.manual_seed(0)
    return Chain().eval()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["guided_backprop", "deconvolution", "input_x_gradient", "deeplift"])
def test_a_method_is_captums_where_captum_can_follow(method: str, chain: nn.Module, images: Tensor) -> None:
    import captum.attr as captum

    names = {"guided_backprop": "GuidedBackprop", "deconvolution": "Deconvolution",
             "input_x_gradient": "InputXGradient",
             "deeplift": "DeepLift"}  # fmt: skip
    peer = getattr(captum, names[method])(copy.deepcopy(chain))
    theirs = peer.attribute(images.clone().requires_grad_(), target=1).detach()
    wanted = theirs.abs().amax(1) if method in {"guided_backprop", "deconvolution"} else theirs.sum(1)
    torch.testing.assert_close(attribute(chain, images, 1, method).values, wanted, atol=1e-6, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_guided_backprop_is_pytorch_grad_cams(chain: nn.Module, images: Tensor) -> None:
    peers = pytest.importorskip("pytorch_grad_cam")
    theirs = peers.GuidedBackpropReLUModel(copy.deepcopy(chain), "cpu")(images[:1], 1)
    wanted = np.abs(theirs).max(axis=2)
    np.testing.assert_allclose(attribute(chain, images[:1], 1, "guided_backprop").values[0], wanted, atol=1e-6)


def test_guided_backprop_finds_a_relu_that_is_a_function_used_twice_or_in_place() -> None:
    class Functions(Chain):
        def forward(self, x: Tensor) -> Tensor:
            for part in self.body:
                x = part(x).clone().relu_() if isinstance(part, nn.ReLU) else part(x)
            return self.head(x.flatten(1))

    torch.manual_seed(0)
    modules, functions = Chain().eval(), Functions().eval()
    functions.load_state_dict(modules.state_dict())
    x = torch.randn(2, 3, 32, 32)
    for method in ("guided_backprop", "deconvolution"):
        torch.testing.assert_close(attribute(functions, x, 1, method).values, attribute(modules, x, 1, method).values)


def test_guided_backprop_by_hand() -> None:
    """Units 3 and -1, slopes -2 and 1: the first is active and lowers the score, the second is inactive."""

    class ByHand(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.relu() * torch.tensor([-2.0, 1.0, 5.0])).sum((1, 2, 3))[:, None]

    x = torch.tensor([[[[3.0, -1.0, 2.0]]]])
    assert attribute(ByHand(), x, 0, "guided_backprop").values.tolist() == [[[0.0, 0.0, 5.0]]]
    assert attribute(ByHand(), x, 0, "deconvolution").values.tolist() == [[[0.0, 1.0, 5.0]]]


def relevance_of_the_paper(layers: list[Any], x: Tensor, target: int, epsilon: float) -> Tensor:
    """Equations 58 and 60 on matrices of weights, one unit at a time; the last layer and the first take epsilon."""
    values = [x]
    for weight in layers:
        values.append((values[-1] @ weight.T).clamp_min(0) if weight is not layers[-1] else values[-1] @ weight.T)
    relevance = torch.zeros_like(values[-1])
    relevance[target] = values[-1][target]
    for number in range(len(layers) - 1, -1, -1):
        a, weight = values[number], layers[number]
        shares = torch.zeros_like(a)
        for j in range(len(weight)):
            z = a * weight[j]
            if 0 < number < len(layers) - 1:
                z = z.clamp_min(0)
            total = z.sum()
            stable = total + (epsilon if total >= 0 else -epsilon)
            if total != 0:
                shares = shares + z / stable * relevance[j]
        relevance = shares
    return relevance


def test_lrp_is_the_papers_with_the_positive_rule_in_later_convolutions() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(5, 6, 1, bias=False), nn.ReLU(), nn.Conv2d(6, 7, 1, bias=False), nn.ReLU(), nn.Flatten(),
        nn.Linear(7, 3, bias=False),
    ).double()  # fmt: skip
    x = torch.randn(1, 5, 1, 1, dtype=torch.float64)
    layers = [model[0].weight[:, :, 0, 0], model[2].weight[:, :, 0, 0], model[5].weight]
    wanted = relevance_of_the_paper([w.detach() for w in layers], x.flatten(), 2, 0.0)
    found = attribute(model, x, 2, "lrp", epsilon=0.0).values
    torch.testing.assert_close(found[0, 0, 0], wanted.sum())
    from attnviz.attribution.relevance import Relevance

    values = Relevance(Logits(model), 0.0).attribute(x, 2)
    torch.testing.assert_close(values.flatten(), wanted)


def test_lrp_hands_out_the_whole_logit_also_past_a_shortcut_and_leaves_the_model() -> None:
    class Shortcut(Chain):
        def forward(self, x: Tensor) -> Tensor:
            x = self.body[2](self.body[1](self.body[0](x)))
            return self.head((torch.cat([x, x[:, :2]], 1) + self.body[4](self.body[3](x))).flatten(1))

    torch.manual_seed(0)
    model = Shortcut(bias=False).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    values = attribute(model, x, 1, "lrp", epsilon=0.0).values
    torch.testing.assert_close(values.sum((1, 2)), model(x)[:, 1].detach())
    assert not any(part._forward_hooks for part in model.modules())


def test_lrp_of_a_transposed_convolution_by_hand() -> None:
    """Units 2 and 1; each enters two outputs with weights 1 and -2; the score is the sum of the first two outputs."""
    first, spread = nn.Conv1d(1, 1, 1, bias=False), nn.ConvTranspose1d(1, 1, 2, stride=1, bias=False)
    first.weight.data[:] = 1.0
    spread.weight.data[:] = torch.tensor([[[1.0, -2.0]]])

    class Spread(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.spread = first, spread

        def forward(self, x: Tensor) -> Tensor:
            y = self.spread(self.first(x.flatten(2)))  # 2, 1 - 4, -2
            return y[:, :, :2].sum((1, 2))[:, None]

    # The second output, -3, has one positive contribution, of the second unit.
    assert attribute(Spread(), torch.tensor([[[[2.0, 1.0]]]]), 0, "lrp", epsilon=0.0).values.tolist() == [[[2.0, -3.0]]]


class UNet(nn.Module):
    """Down, up by one of several ways, and a shortcut; without biases."""

    def __init__(self, up: nn.Module) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.deep = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
        self.up, self.last = up, nn.Conv2d(4 + 6, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down(x).relu()
        b = self.up(self.deep(a).relu()).relu()
        return self.last(torch.cat([a, b[..., : a.shape[-2], : a.shape[-1]]], 1)).sum((2, 3))


UPWARDS = {
    "transposed": lambda: nn.ConvTranspose2d(6, 6, 2, stride=2, bias=False),
    "transposed, grouped": lambda: nn.ConvTranspose2d(6, 6, 3, 2, 1, output_padding=1, groups=2, bias=False),
    "transposed, dilated": lambda: nn.ConvTranspose2d(6, 6, 2, 2, dilation=3, bias=False),
    "shuffled": lambda: nn.Sequential(nn.Conv2d(6, 24, 1, bias=False), nn.PixelShuffle(2)),
} | {
    mode: lambda mode=mode: nn.Upsample(scale_factor=2, mode=mode)
    for mode in ("nearest", "nearest-exact", "bilinear", "bicubic")
}


@pytest.mark.parametrize("up", UPWARDS)
def test_lrp_hands_out_the_whole_score_of_a_network_that_up_samples(up: str) -> None:
    torch.manual_seed(0)
    model = UNet(UPWARDS[up]()).double().eval()
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    for target in (0, 1):
        values = attribute(model, x, target, "lrp", epsilon=0.0).values
        torch.testing.assert_close(values.sum((1, 2)), model(x)[:, target].detach())


def test_lrp_of_a_volume_hands_out_the_whole_logit() -> None:
    from attnviz.attribution.relevance import Relevance

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool3d(2),
        nn.Conv3d(4, 4, 3, bias=False), nn.ReLU(), nn.ConvTranspose3d(4, 2, 2, stride=2, bias=False),
        nn.Upsample(scale_factor=2, mode="trilinear"), nn.AdaptiveAvgPool3d(2), nn.Flatten(),
        nn.Linear(16, 3, bias=False),
    ).double()  # fmt: skip
    x = torch.rand(2, 1, 8, 8, 8, dtype=torch.float64)
    values = Relevance(Logits(model), 0.0).attribute(x, 2)
    torch.testing.assert_close(values.flatten(1).sum(1), model(x)[:, 2].detach())


def test_deeplift_hands_out_the_rise_of_the_logit(chain: nn.Module, images: Tensor) -> None:
    values = attribute(chain, images, 1, "deeplift", baseline=0.2).values
    with torch.no_grad():
        rise = chain(images)[:, 1] - chain(torch.full_like(images[:1], 0.2))[:, 1]
    torch.testing.assert_close(values.sum((1, 2)), rise, atol=1e-3, rtol=1e-3)


class Gated(Chain):
    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.head((x * torch.sigmoid(3 * x.mean((2, 3), keepdim=True))).flatten(1))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("deeplift", "deeplift: the shares sum to .* where the logit rises by"),
        ("lrp", "lrp: no rule follows Mul and Sigmoid, which the model uses"),
    ],
)
def test_a_gate_is_refused_where_no_rule_follows_it(method: str, message: str, images: Tensor) -> None:
    torch.manual_seed(0)
    with pytest.raises(AttributionError, match=message):
        attribute(Gated().eval(), 3 * images, 1, method)


def test_superpixels_follow_colour_and_place() -> None:
    from attnviz.attribution.methods.perturbation import superpixels

    image = torch.zeros(1, 3, 20, 30)
    image[:, :, :, 15:] = 5.0
    labels = superpixels(image, 6)[0]
    assert labels.min() == 0
    assert set(labels.flatten().tolist()) == set(range(int(labels.max()) + 1))
    assert not set(labels[:, :15].flatten().tolist()) & set(labels[:, 15:].flatten().tolist())


def test_occlusion_of_a_linear_model_is_the_patch_itself() -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum((1, 2, 3))[:, None]

    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    patches = attribute(Sum(), x, 0, "occlusion", window=2).values
    wanted = torch.nn.functional.avg_pool2d(x, 2).mul(4).repeat_interleave(2, 2).repeat_interleave(2, 3)[0]
    torch.testing.assert_close(patches, wanted)
    with pytest.raises(AttributionError, match="occlusion: wanted a window of at most 4 px"):
        attribute(Sum(), x, 0, "occlusion", window=5)


def test_shapley_values_of_a_linear_model_are_its_terms() -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum((1, 2, 3))[:, None]

    x = torch.zeros(1, 1, 4, 4)
    x[..., :2] = 3.0
    found = attribute(Sum(), x, 0, "kernel_shap", segments=4, samples=60).values[0]
    assert found[:, :2].unique().numel() == 2 or torch.allclose(found[:, 2:], torch.zeros(4, 2), atol=1e-3)
    assert found[:, 2:].abs().max() < 1e-2

"""The CAM family: slow twins from the papers, parity with pytorch-grad-cam and torchcam, and where a method ends."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnviz.attribution import Layer, Logits, attribute, find_layer
from attnviz.attribution.targets import Objective
from attnviz.errors import AttributionError

SIGN = ("gradcam", "gradcam++", "hirescam", "xgradcam", "cam", "ablationcam")


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """A ResNet-18 whose slopes are as large as those of a trained one: tiny ones are another library's epsilon."""
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10)
    model.fc.weight.data *= 1000
    return model.eval()


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))


def read(model: nn.Module, layer: str, image: Tensor, target: int) -> tuple[Tensor, Tensor]:
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, _i, out: kept.append(out))
    score = model(image[None])[0, target]
    handle.remove()
    return kept[-1][0].detach(), torch.autograd.grad(score, kept[-1])[0][0]


def twin(method: str, a: Tensor, g: Tensor) -> Tensor:
    """One place and one channel at a time, from the papers."""
    channels, height, width = a.shape
    out = torch.zeros(height, width, dtype=a.dtype)
    for k in range(channels):
        total = a[k].sum()
        weight = torch.zeros((), dtype=a.dtype)
        for i in range(height):
            for j in range(width):
                s = g[k, i, j]
                if method == "gradcam":
                    weight += s / (height * width)
                elif method == "xgradcam":
                    weight += a[k, i, j] / total * s if total != 0 else 0
                elif method == "gradcam++" and s != 0:
                    weight += s**2 / (2 * s**2 + total * s**3) * max(s, 0)
        for i in range(height):
            for j in range(width):
                if method == "hirescam":
                    out[i, j] += g[k, i, j] * a[k, i, j]
                elif method == "layercam":
                    out[i, j] += max(g[k, i, j], 0) * a[k, i, j]
                else:
                    out[i, j] += weight * a[k, i, j]
    return out.clamp_min(0)


@pytest.mark.parametrize("layer", ["relu", "conv1"])
@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "hirescam", "xgradcam", "layercam"])
def test_a_map_is_the_papers(method: str, layer: str, stem: nn.Module, images: Tensor) -> None:
    model, image = copy.deepcopy(stem).double(), images[:1].double()
    a, g = read(model, layer, image[0], 2)
    wanted = F.interpolate(twin(method, a, g)[None, None], (32, 32), mode="bilinear")[0]
    torch.testing.assert_close(attribute(model, image, 2, method, layer=layer).values, wanted)


PEERS = {
    "gradcam": ("GradCAM", "GradCAM"),
    "gradcam++": ("GradCAMPlusPlus", None),  # torchcam 0.5 divides a copy of alpha, and so leaves its denominator out
    "hirescam": ("HiResCAM", None),
    "xgradcam": ("XGradCAM", "XGradCAM"),
    "layercam": ("LayerCAM", "LayerCAM"),
    "ablationcam": ("AblationCAM", None),
    "cam": (None, "CAM"),
}


def scaled(maps: Any) -> np.ndarray[Any, Any]:
    """Positive part of each map, put between 0 and 1."""
    maps = np.maximum(np.asarray(maps, dtype=np.float64), 0)
    maps = maps - maps.min(axis=(1, 2), keepdims=True)
    return maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-7)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", [method for method, (one, _) in PEERS.items() if one])
def test_a_map_is_pytorch_grad_cams(method: str, resnet: nn.Module, photo: Tensor) -> None:
    peers = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = copy.deepcopy(resnet)
    with getattr(peers, PEERS[method][0])(model=model, target_layers=[model.layer4]) as peer:
        theirs = peer(photo, [ClassifierOutputTarget(7), ClassifierOutputTarget(2)])
    ours = native(resnet, photo, [7, 2], method)
    enlarged = np.stack([_as_opencv(one, (96, 64)) for one in scaled(ours)])
    np.testing.assert_allclose(scaled(enlarged), scaled(theirs), atol=1e-4)


def native(model: nn.Module, x: Tensor, target: Any, method: str, **options: Any) -> Tensor:
    """Our map at the layer's own resolution."""
    from attnviz.attribution import METHODS
    from attnviz.core.model_state import borrowed

    with borrowed(model):
        logits = Logits(model, Objective(torch.tensor([9])))
        plan = METHODS[method].prepare(logits, x, layer=find_layer(logits, x, "layer4"), **options)
        return plan.attribution.attribute(x, target=target)[:, 0].detach()


def _as_opencv(values: np.ndarray[Any, Any], size: tuple[int, int]) -> np.ndarray[Any, Any]:
    import cv2

    return np.asarray(cv2.resize(values.astype(np.float32), size))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", [method for method, (_, other) in PEERS.items() if other])
def test_a_map_is_torchcams(method: str, resnet: nn.Module, photo: Tensor) -> None:
    methods = pytest.importorskip("torchcam.methods")
    for i, target in enumerate((7, 2)):
        model = copy.deepcopy(resnet)
        with getattr(methods, PEERS[method][1])(model, "layer4") as peer:
            scores = model(photo[i : i + 1])
            theirs = peer(target, scores)[0].detach()
        ours = native(resnet, photo[i : i + 1], target, method)
        if method == "cam":  # which neither of us cuts off at 0
            ours = (ours - ours.min()) / (ours.max() - ours.min())
        np.testing.assert_allclose(scaled(ours), scaled(theirs), atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_torchcams_gradcam_plus_plus_is_ours_without_the_denominator(resnet: nn.Module, photo: Tensor) -> None:
    """The named difference: ``alpha[mask].div_(...)`` works on a copy."""
    methods = pytest.importorskip("torchcam.methods")
    a, g = read(resnet, "layer4", photo[0], 7)
    wanted = torch.einsum("k,khw->hw", (g**2 * g.clamp_min(0)).sum((1, 2)), a)
    model = copy.deepcopy(resnet)
    with methods.GradCAMpp(model, "layer4") as peer:
        theirs = peer(7, model(photo[:1]))[0].detach()
    np.testing.assert_allclose(scaled(theirs), scaled(wanted[None]), atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_eigencam_centred_is_pytorch_grad_cams_but_for_the_sign_that_it_leaves_open(
    resnet: nn.Module, photo: Tensor
) -> None:
    pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    from attnviz.attribution.methods.cam import first_component

    a = read(resnet, "layer4", photo[0], 0)[0][None]
    ours, theirs = first_component(a, centred=True)[0].numpy(), get_2d_projection(a.numpy())[0]
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-4 * np.abs(theirs).max())
    values, vectors = torch.linalg.eigh((a[0].flatten(1) @ a[0].flatten(1).T).double())
    wanted = (a[0].flatten(1).T.double() @ vectors[:, values.argmax()]).reshape(a.shape[2:])
    wanted = wanted * wanted.sum().sign()
    torch.testing.assert_close(first_component(a, centred=False)[0].double(), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(2, 40, 3, 5), (2, 4, 6, 5), (1, 9, 3, 3)])
@pytest.mark.parametrize("centred", [False, True])
def test_the_first_component_is_that_of_a_singular_value_decomposition(shape: tuple[int, ...], centred: bool) -> None:
    from attnviz.attribution.methods.cam import first_component

    a = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = a.flatten(2).mT
    places = places - places.mean(1, keepdim=True) if centred else places
    u, s, _ = torch.linalg.svd(places, full_matrices=False)
    wanted = (u[:, :, 0] * s[:, :1]).abs().reshape(len(a), *a.shape[2:])
    torch.testing.assert_close(first_component(a, centred=centred).abs(), wanted)


class Fine(nn.Module):
    """Features at the image's own resolution, where no library has to enlarge a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return 5 * self.head(self.features(x).square().mean((2, 3)))


@pytest.fixture
def fine() -> nn.Module:
    torch.manual_seed(2)
    return Fine().eval()


def scorecam_of_the_paper(model: nn.Module, layer: nn.Module, x: Tensor, target: int) -> Tensor:
    """Algorithm 1, one channel at a time; the logit of the baseline drops out of the softmax."""
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _m, _i, out: kept.append(out))
    model(x)
    handle.remove()
    scores = []
    for channel in kept[-1][0]:
        mask = F.interpolate(channel[None, None], x.shape[2:], mode="bilinear")[0, 0]
        mask = (mask - mask.min()) / (mask.max() - mask.min()) if mask.max() > mask.min() else torch.zeros_like(mask)
        scores.append(model(x * mask)[0, target])
    weights = [math.exp(s - max(scores)) for s in scores]
    coarse = sum(w / sum(weights) * a for w, a in zip(weights, kept[-1][0], strict=True))
    return F.interpolate(coarse.clamp_min(0)[None, None], x.shape[2:], mode="bilinear")[0]


@torch.no_grad()
def test_scorecam_is_the_papers(stem: nn.Module, images: Tensor) -> None:
    model, x = copy.deepcopy(stem).double(), images[:1].double()
    wanted = scorecam_of_the_paper(model, model.conv1, x, 3)
    torch.testing.assert_close(attribute(model, x, 3, "scorecam", layer="conv1", batch_size=4).values, wanted)


@pytest.mark.filterwarnings("ignore")
def test_scorecam_is_both_peers_where_no_mask_is_enlarged(fine: nn.Module, photo: Tensor) -> None:
    peers, methods = pytest.importorskip("pytorch_grad_cam"), pytest.importorskip("torchcam.methods")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    x = photo[:1]
    ours = scaled(attribute(fine, x, 1, "scorecam").values)
    model = copy.deepcopy(fine)
    with peers.ScoreCAM(model=model, target_layers=[model.features]) as peer:
        np.testing.assert_allclose(ours, scaled(peer(x, [ClassifierOutputTarget(1)])), atol=1e-4)
    model = copy.deepcopy(fine)
    with methods.ScoreCAM(model, "features") as peer, torch.no_grad():
        model(x)
        np.testing.assert_allclose(ours, scaled(peer(1)[0]), atol=1e-4)


@torch.no_grad()
def test_ablationcam_is_the_papers_and_runs_the_front_of_the_model_once_for_all(
    resnet: nn.Module, photo: Tensor
) -> None:
    x = photo[:1]
    rows: list[int] = []
    layer = find_layer_of(resnet, x)
    handle = resnet.conv1.register_forward_hook(lambda _m, i, _o: rows.append(len(i[0])))
    ours = attribute(resnet, x, 3, "ablationcam", layer=layer, relu=False)
    handle.remove()
    assert rows == [1, 1]  # the features with the plain answer, and all channels
    a = resnet.layer4(resnet.layer3(resnet.layer2(resnet.layer1(resnet.maxpool(resnet.relu(resnet.bn1(
        resnet.conv1(x))))))))  # fmt: skip
    plain = resnet(x)[0, 3]
    coarse = torch.zeros(a.shape[2:])
    for k in range(512):
        without = a.clone()
        without[:, k] = 0
        coarse += (plain - resnet.fc(without.mean((2, 3)))[0, 3]) / plain * a[0, k]
    wanted = F.interpolate(coarse[None, None], x.shape[2:], mode="bilinear")[0]
    torch.testing.assert_close(ours.values, wanted, atol=1e-3 * float(wanted.abs().max()), rtol=1e-3)


def find_layer_of(model: nn.Module, x: Tensor) -> Layer:
    from attnviz.core.model_state import borrowed

    with borrowed(model):
        return find_layer(Logits(model), x)


def test_a_model_that_does_not_take_a_grown_batch_is_run_whole_with_the_same_result(
    stem: nn.Module, images: Tensor
) -> None:
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = stem

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x).reshape(len(x), 5)

    wanted = attribute(stem, images, 1, "ablationcam").values
    torch.testing.assert_close(attribute(Stubborn(), images, 1, "ablationcam", layer="inner.relu").values, wanted)


def test_cam_is_grad_cam_before_pooling_and_is_refused_elsewhere(resnet: nn.Module, photo: Tensor) -> None:
    places = 2 * 3
    cam, gradcam = (attribute(resnet, photo, 5, m, relu=False).values for m in ("cam", "gradcam"))
    torch.testing.assert_close(cam, gradcam * places, atol=1e-4, rtol=1e-4)
    with pytest.raises(AttributionError, match="cam: the logits are no linear function of the means of layer3's"):
        attribute(resnet, photo, 5, "cam", layer="layer3")


def test_a_channel_without_activity_and_a_logit_of_zero_do_not_divide(stem: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        stem.conv2.weight[0] = 0  # type: ignore[union-attr,index]
        stem.conv2.bias[0] = -1  # type: ignore[union-attr,index]
        stem.head.weight[1] = 0  # type: ignore[union-attr,index]
        stem.head.bias[1] = 0  # type: ignore[union-attr,index]
    for method in ("xgradcam", "gradcam++", "scorecam", "ablationcam"):
        assert attribute(stem, images, 2, method).values.isfinite().all()
    assert not attribute(stem, images, 1, "ablationcam").values.any()


def test_rise_weighs_masks_by_the_probability_behind_them(fine: nn.Module, photo: Tensor) -> None:
    from attnviz.attribution.methods.masked_inputs import random_masks

    torch.manual_seed(9)
    masks = random_masks(5, 4, 0.5, photo)
    assert masks.shape == (5, 64, 96)
    assert masks.amin() >= 0
    assert masks.amax() <= 1
    with torch.no_grad():
        wanted = sum(fine(photo[:1] * m).softmax(1)[0, 2] * m for m in masks) / (0.5 * 5)
    found = attribute(fine, photo[:1], 2, "rise", samples=5, cells=4, batch_size=5, seed=9)
    torch.testing.assert_close(found.values[0], wanted)


def test_a_random_mask_is_open_for_its_share_on_average() -> None:
    from attnviz.attribution.methods.masked_inputs import random_masks

    torch.manual_seed(0)
    assert random_masks(400, 5, 0.3, torch.zeros(1, 1, 20, 30)).mean().item() == pytest.approx(0.3, abs=0.02)

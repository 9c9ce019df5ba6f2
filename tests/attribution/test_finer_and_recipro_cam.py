"""Finer-CAM and Recipro-CAM against their formulas by hand, another library, and closed forms."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnviz import targets as t
from attnviz.attribution import METHODS, Logits, attribute, find_layer
from attnviz.attribution.methods.recipro_cam import neighbourhoods
from attnviz.attribution.targets import Objective
from attnviz.core.model_state import borrowed
from attnviz.errors import AttributionError


def positions_kept(model: nn.Module, a: Tensor, target: int) -> Tensor:
    """Recipro-CAM of the features ``(1, 8, h, w)`` of a stem's last layer, one position at a time."""
    kernel = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=a.dtype) / 16
    height, width = a.shape[2:]
    out = torch.zeros(height, width, dtype=a.dtype)
    for i in range(height):
        for j in range(width):
            mask = torch.zeros(height + 2, width + 2, dtype=a.dtype)
            mask[i : i + 3, j : j + 3] = kernel
            kept = a * mask[1:-1, 1:-1]
            out[i, j] = model.head(kept.mean((2, 3))).softmax(1)[0, target]  # type: ignore[operator]
    return out


def last_features(model: Any, image: Tensor) -> Tensor:
    a: Tensor = F.relu(model.conv2(F.relu(model.norm(model.conv1(image)))))
    return a


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_recipro_cam_is_the_papers(batch_size: int | None, stem: nn.Module, images: Tensor) -> None:
    model, image = copy.deepcopy(stem).double(), images[:1, :, :, :24].double()
    coarse = positions_kept(model, last_features(model, image), 2)
    wanted = F.interpolate(coarse[None, None], (32, 24), mode="bilinear")[0]
    found = attribute(model, image, 2, "recipro_cam", layer="relu", batch_size=batch_size).values
    torch.testing.assert_close(found, wanted)
    assert float(wanted.std()) > 1e-4


def test_recipro_cam_measures_what_a_target_measures(stem: nn.Module, images: Tensor) -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = stem

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)[:, :1] + 0

    up, down = (attribute(One(), images, t.SingleLogit(sign), "recipro_cam").values for sign in (True, False))
    torch.testing.assert_close(up + down, torch.ones_like(up))
    assert float(up.std()) > 1e-5


def test_recipro_cam_runs_the_front_of_the_model_once_for_all_positions(stem: nn.Module, images: Tensor) -> None:
    with borrowed(stem):
        layer = find_layer(Logits(stem), images[:1])
    rows: list[int] = []
    handle = stem.conv1.register_forward_hook(lambda _m, i, _o: rows.append(len(i[0])))  # type: ignore[union-attr]
    attribute(stem, images[:1], 1, "recipro_cam", layer=layer)
    handle.remove()
    assert rows == [1, 1]


@pytest.mark.parametrize("grid", [(4, 5), (1, 6), (3, 4, 2)])
def test_a_neighbourhood_is_a_gaussian_around_its_position(grid: tuple[int, ...]) -> None:
    masks = neighbourhoods(torch.Size(grid), 0, int(np.prod(grid)))
    for n, mask in enumerate(masks):
        assert int(mask.argmax()) == n
        assert float(mask.max()) == 0.5 ** len(grid)
    inside = neighbourhoods(torch.Size((5, 5)), 12, 13)[0]
    assert float(inside.sum()) == 1
    assert int((inside > 0).sum()) == 9
    torch.testing.assert_close(neighbourhoods(torch.Size(grid), 2, 5), masks[2:5])


class Tokens(nn.Module):
    """A class token and patches, laid out as tokens; the logits are of the class token and the mean of the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 6, 4, 4), nn.Parameter(torch.randn(1, 1, 6))
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).mT
        tokens = self.norm(torch.cat([self.token.expand(len(x), -1, -1), patches], 1))
        return 9 * self.head(torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1))


@torch.no_grad()
def test_recipro_cam_of_tokens_keeps_the_class_token() -> None:
    torch.manual_seed(0)
    model = Tokens().double().eval()
    x = torch.randn(1, 3, 12, 16, dtype=torch.float64)
    tokens = model.norm(torch.cat([model.token, model.patch(x).flatten(2).mT], 1))
    masks = neighbourhoods(torch.Size((3, 4)), 0, 12).double().flatten(1)
    coarse = [
        (9 * model.head(torch.cat([tokens[0, 0], (tokens[0, 1:] * mask[:, None]).mean(0)]))).softmax(0)[3]
        for mask in masks
    ]
    wanted = F.interpolate(torch.stack(coarse).reshape(1, 1, 3, 4), (12, 16), mode="bilinear")[0]
    torch.testing.assert_close(attribute(model, x, 3, "recipro_cam", layer="norm").values, wanted)
    assert float(wanted.std()) > 1e-3


def gradient(score: Tensor, a: Tensor) -> Tensor:
    return torch.autograd.grad(score, a, retain_graph=True)[0]


@pytest.mark.parametrize(("alpha", "references"), [(1.0, 3), (0.6, 2), (1.0, 1), (1.0, 9)])
def test_finer_cam_is_grad_cam_of_a_class_minus_the_mean_of_those_of_similar_classes(
    alpha: float, references: int, stem: nn.Module, images: Tensor
) -> None:
    model, targets = copy.deepcopy(stem).double(), [0, 4, 2]
    wanted = []
    for image, target in zip(images.double().split(1), targets, strict=True):
        a = last_features(model, image).detach().requires_grad_()
        scores = model.head(a.mean((2, 3)))[0]  # type: ignore[operator]
        others = sorted((float((s - scores[target]).detach().abs()), k) for k, s in enumerate(scores) if k != target)
        maps = [(gradient(s, a).mean((2, 3), keepdim=True) * a).sum(1).detach() for s in scores]
        similar = [maps[k] for _, k in others[:references]]
        wanted.append(maps[target] - alpha * sum(similar) / len(similar))
    signed = F.interpolate(torch.stack(wanted), (32, 32), mode="bilinear")[:, 0]
    options = {"alpha": alpha, "references": references, "layer": "relu"}
    found = attribute(model, images.double(), targets, "finercam", relu=False, **options).values
    torch.testing.assert_close(found, signed)
    positive = F.interpolate(torch.stack(wanted).clamp_min(0), (32, 32), mode="bilinear")[:, 0]
    torch.testing.assert_close(attribute(model, images.double(), targets, "finercam", **options).values, positive)


def test_finer_cam_without_similar_classes_is_grad_cam(stem: nn.Module, images: Tensor) -> None:
    found = attribute(stem, images, 1, "finercam", alpha=0.0, relu=False).values
    torch.testing.assert_close(found, attribute(stem, images, 1, "gradcam", relu=False).values)


@pytest.mark.filterwarnings("ignore")
def test_finer_cam_with_one_reference_is_pytorch_grad_cams(stem: nn.Module, images: Tensor) -> None:
    peers = pytest.importorskip("pytorch_grad_cam")
    cv2 = pytest.importorskip("cv2")
    target = 2
    with borrowed(stem):
        logits = Logits(stem, Objective(torch.tensor([target])))
        plan = METHODS["finercam"].prepare(logits, images[:1], layer="conv2", references=1)
        found = plan.attribution.attribute(images[:1], target=target)[0, 0].numpy()
    model = NotInPlace(copy.deepcopy(stem))
    with peers.FinerCAM(model, [model.body.conv2]) as peer:
        theirs = peer(images[:1], target_idx=target, comparison_categories=[1])[0]
    ours = cv2.resize(found / found.max(), (32, 32))
    ours = (ours - ours.min()) / (ours.max() - ours.min())
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert float(theirs.std()) > 0.05


class NotInPlace(nn.Module):
    """A stem whose layers are not overwritten, as another library's hooks need."""

    def __init__(self, stem: Any) -> None:
        super().__init__()
        self.body = stem
        stem.relu.inplace = False

    def forward(self, x: Tensor) -> Any:
        return self.body(x)


@pytest.mark.parametrize("target", [t.SingleLogit(), t.Contrast(t.ClassLogit(0), t.ClassLogit(1)), 0])
def test_finer_cam_of_one_score_is_refused_in_one_line(target: Any, stem: nn.Module, images: Tensor) -> None:
    if not isinstance(target, t.Contrast):
        stem.head = nn.Linear(8, 1)
    with pytest.raises(AttributionError, match=r"^finercam: .* the output has one score; gradcam explains") as error:
        attribute(stem, images, target, "finercam")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("method", "option"), [("finercam", "references"), ("recipro_cam", "batch_size")])
def test_a_count_below_one_is_refused(method: str, option: str, stem: nn.Module, images: Tensor) -> None:
    with pytest.raises(AttributionError, match=f"{method}: {option} is at least 1, got 0"):
        attribute(stem, images, 0, method, **{option: 0})

"""Maps of trained networks lie on what they are asked about: two objects in one image, each with its own map."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnviz import targets as t
from attnviz.attribution import attribute

_SIDE = 32
_COLOURS = {1: (1.0, 0.2, 0.1), 2: (0.1, 0.3, 1.0)}


def scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images with one object of each class at random places, and the class of each pixel."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.5 + 0.05 * torch.randn(count, 3, _SIDE, _SIDE, generator=generator)
    classes = torch.zeros(count, _SIDE, _SIDE, dtype=torch.long)
    for n in range(count):
        left_first = bool(torch.randint(2, (), generator=generator))
        for label, half in ((1, 0 if left_first else 16), (2, 16 if left_first else 0)):
            row, column = torch.randint(0, 9, (2,), generator=generator).tolist()
            row += 12 * int(torch.randint(2, (), generator=generator))
            part = (slice(row, row + 7), slice(half + column, half + column + 7))
            x[n][(slice(None), *part)] = torch.tensor(_COLOURS[label])[:, None, None]
            classes[n][part] = label
    return x, classes


class Segmenter(nn.Module):
    """A small encoder and decoder with a logit for each class and position."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU())
        self.head = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.head(self.down(x)), x.shape[2:], mode="bilinear", align_corners=False)


class TwoLabels(nn.Module):
    """A multi-label classifier: which of the two objects are there."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU())
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).amax((2, 3)))


def fitted(model: nn.Module, loss: object, steps: int = 150) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        loss(model, step).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def segmenter() -> nn.Module:
    torch.manual_seed(0)
    x, classes = scenes(64, 0)
    weight = torch.tensor([0.2, 1.0, 1.0])
    return fitted(Segmenter(), lambda model, _: F.cross_entropy(model(x), classes, weight))


@pytest.fixture(scope="module")
def labeller() -> nn.Module:
    torch.manual_seed(0)
    x, classes = scenes(64, 0)
    present = torch.randint(0, 2, (64, 2), generator=torch.Generator().manual_seed(5)).bool()
    for n in range(64):
        for label in (1, 2):
            if not present[n, label - 1]:
                x[n, :, classes[n] == label] = 0.5
    return fitted(TwoLabels(), lambda model, _: F.binary_cross_entropy_with_logits(model(x), present.float()))


def pointing(maps: Tensor, classes: Tensor, label: int) -> float:
    """How often the largest value lies on the object, within a pixel, which is what the features resolve."""
    grown = F.max_pool2d((classes == label).float()[:, None], 3, 1, 1)[:, 0]
    peaks = maps.flatten(1).argmax(1)
    return float(grown.flatten(1).gather(1, peaks[:, None]).mean())


@pytest.mark.parametrize("method", ["gradcam", "layercam", "input_x_gradient", "occlusion"])
def test_a_segmented_region_has_its_own_map(segmenter: nn.Module, method: str) -> None:
    x, classes = scenes(40, 1)
    found = segmenter(x).argmax(1)
    assert float((found == classes).float().mean()) > 0.97
    for label in (1, 2):
        targets = [t.ClassInRegion(label, one == label) for one in found]
        maps = attribute(segmenter, x, targets, method).values
        assert pointing(maps.abs() if method == "input_x_gradient" else maps, classes, label) >= 0.9


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "occlusion", "integrated_gradients"])
def test_each_label_has_its_own_object(labeller: nn.Module, method: str) -> None:
    x, classes = scenes(40, 2)
    assert float((labeller(x) > 0).float().mean()) > 0.95
    for label in (1, 2):
        maps = attribute(labeller, x, t.Label(label - 1), method).values
        assert pointing(maps.abs() if "gradients" in method else maps, classes, label) >= 0.9

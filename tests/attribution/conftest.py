"""Small networks whose attributions can be worked out by hand, and real ones with random weights."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


class Stem(nn.Module):
    """The smallest CNN with what makes real ones hard: batch norm, dropout, one in-place ReLU that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv1(x)))
        x = self.relu(self.conv2(x))
        return self.head(self.drop(x.mean((2, 3))))


class Chain(Stem):
    """The same network as a plain chain of modules, each called once: what relevance rules follow."""

    def __init__(self) -> None:
        super().__init__()
        self.relu2 = nn.ReLU(inplace=True)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv1(x)))
        x = self.pool(self.relu2(self.conv2(x)))
        return self.head(self.drop(self.flatten(x)))


class Attentive(Stem):
    """The same network with self-attention between positions before they are averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.query_key_value = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv2(self.relu(self.norm(self.conv1(x)))))
        query, key, value = self.query_key_value(x.flatten(2).mT).chunk(3, -1)
        x = (query @ key.mT).softmax(-1) @ value
        return self.head(self.drop(x.mean(1)))


ATTENTIVE = {"gradient_rollout", "legrad"}
"""Methods that explain by the attention that a model has."""

CHAINS = {"deeplift"}
"""Methods that follow chains of modules alone."""


class Quadratic(nn.Module):
    """Logit ``k`` is ``(k + 1) * sum(w * x ** 2)``: gradients and path integrals are known."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.linspace(-1, 1, 3 * 8 * 8).reshape(1, 3, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        s = (self.w * x**2).sum((1, 2, 3))
        return torch.stack([s, 2 * s], dim=1)


@pytest.fixture
def stem(request: pytest.FixtureRequest) -> Stem:
    """A small CNN; of the kind that the method of a test can follow."""
    torch.manual_seed(1)
    call = getattr(request.node, "callspec", None)
    method = None if call is None else call.params.get("method")
    model = Chain() if method in CHAINS else Attentive() if method in ATTENTIVE else Stem()
    model.norm.running_mean.copy_(torch.randn(6))
    return model.eval()


@pytest.fixture
def quadratic() -> Quadratic:
    return Quadratic()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def _resnet18() -> nn.Module:
    import torchvision

    return torchvision.models.resnet18(num_classes=10)


def _mobilenet_v3() -> nn.Module:
    import torchvision

    return torchvision.models.mobilenet_v3_small(num_classes=10)


def _efficientnet_lite0() -> nn.Module:
    import timm

    return timm.create_model("tf_efficientnet_lite0", num_classes=10)


ZOO: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "resnet18": (_resnet18, "layer4"),
    "mobilenet_v3_small": (_mobilenet_v3, "features"),
    "tf_efficientnet_lite0": (_efficientnet_lite0, "bn2"),
}


@pytest.fixture(scope="session", params=sorted(ZOO))
def real(request: pytest.FixtureRequest) -> tuple[nn.Module, str]:
    """A published CNN with random weights, and the layer whose map Grad-CAM ought to explain."""
    pytest.importorskip("torchvision" if request.param != "tf_efficientnet_lite0" else "timm")
    torch.manual_seed(0)
    build, layer = ZOO[request.param]
    return build().eval(), layer

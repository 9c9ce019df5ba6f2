"""Small networks from the papers with weighted sums of branches, kernels, positions or frames, and some without.

Those that take images map ``(N, 8, 6, 6)`` to the same shape.
"""

from collections.abc import Callable

import torch
from networks import C
from torch import Tensor, nn
from torch.nn import functional as F


class SKNet(nn.Module):
    """Li et al. 2019: two kernels; branches stacked along ``axis``, softmax over them."""

    def __init__(self, axis: int = 1, separate: bool = False, per_branch: bool = False) -> None:
        super().__init__()
        self.axis, self.separate, self.per_branch = axis, separate, per_branch
        self.paths = nn.ModuleList([nn.Conv2d(C, C, 3, padding=1), nn.Conv2d(C, C, 3, padding=2, dilation=2)])
        self.squeeze, self.select = nn.Linear(C, 4), nn.Linear(4, 2 if per_branch else 2 * C)

    def forward(self, x: Tensor) -> Tensor:
        paths = [path(x) for path in self.paths]
        squeezed = torch.stack(paths).sum(0).mean((2, 3))
        scores = self.select(F.relu(self.squeeze(squeezed))).view(len(x), 2, -1)
        g = scores.softmax(1)[..., None, None]
        if self.separate:
            return paths[0] * g[:, 0] + paths[1] * g[:, 1]
        stacked = torch.stack(paths, self.axis)
        return (stacked * g.movedim(1, self.axis)).sum(self.axis)


class SplitAttention(nn.Module):
    """Zhang et al. 2020 (ResNeSt): radix and cardinality 2; with radix 1 it is a channel gate."""

    def __init__(self, radix: int = 2, cardinality: int = 2) -> None:
        super().__init__()
        self.radix, self.cardinality = radix, cardinality
        self.conv = nn.Conv2d(C, C * radix, 3, padding=1, groups=cardinality * radix)
        self.fc = nn.Sequential(nn.Conv2d(C, 8, 1, groups=cardinality), nn.ReLU(), nn.Conv2d(8, C * radix, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, h, w = len(x), *x.shape[2:]
        x = self.conv(x).relu()
        splits = x.view(n, self.radix, C, h, w)
        scores = self.fc(splits.sum(1).mean((2, 3), keepdim=True))
        if self.radix == 1:
            return x * scores.sigmoid()
        scores = scores.view(n, self.cardinality, self.radix, -1).transpose(1, 2)
        g = scores.softmax(1).reshape(n, -1, 1, 1).reshape(n, self.radix, C, 1, 1)
        return (splits * g).sum(1)


class SigmoidBranches(nn.Module):
    """A separate sigmoid for each branch, with branches in the third axis: ``(N, C, B, H, W)``."""

    def __init__(self) -> None:
        super().__init__()
        self.paths = nn.ModuleList([nn.Conv2d(C, C, 1), nn.Conv2d(C, C, 3, padding=1)])
        self.fc = nn.Linear(C, 2)

    def forward(self, x: Tensor) -> Tensor:
        g = torch.sigmoid(self.fc(x.mean((2, 3))))
        stacked = torch.cat([path(x).unsqueeze(2) for path in self.paths], 2)
        return (stacked * g[:, None, :, None, None]).sum(dim=2)


class MixtureOfKernels(nn.Module):
    """CondConv (Yang et al. 2019): sigmoid; DynamicConv (Chen et al. 2020): softmax with a temperature."""

    def __init__(self, squash: str, by_product: bool) -> None:
        super().__init__()
        self.squash, self.by_product = squash, by_product
        self.kernels = nn.Parameter(torch.randn(4, C, C, 3, 3) * 0.1)
        self.route = nn.Linear(C, 4)

    def forward(self, x: Tensor) -> Tensor:
        n, scores = len(x), self.route(x.mean((2, 3)))
        g = scores.sigmoid() if self.squash == "sigmoid" else (scores / 30).softmax(dim=1)
        if self.by_product:
            kernels = (g.view(n, 4, 1, 1, 1, 1) * self.kernels).sum(1).reshape(n * C, C, 3, 3)
        else:
            kernels = torch.mm(g, self.kernels.view(4, -1)).view(n * C, C, 3, 3)
        return F.conv2d(x.reshape(1, n * C, *x.shape[2:]), kernels, padding=1, groups=n).view(x.shape)


class GlobalContext(nn.Module):
    """Cao et al. 2019: a softmax over positions gives a context vector, which is added at every position."""

    def __init__(self, how: str = "matmul") -> None:
        super().__init__()
        self.how, self.score, self.transform = how, nn.Conv2d(C, 1, 1), nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        scores = self.score(x).view(n, 1, h * w)
        powers = scores.exp()
        g = powers / powers.sum(2, keepdim=True) if self.how == "hand-written" else scores.softmax(2)
        if self.how == "matmul":
            context = torch.matmul(x.view(n, 1, C, h * w), g.unsqueeze(-1)).view(n, C, 1, 1)
        elif self.how == "einsum":
            context = torch.einsum("ncl, nl -> nc", x.flatten(2), g[:, 0])[..., None, None]
        else:
            context = (x * g.view(n, 1, h, w)).sum((2, 3), keepdim=True)
        return x + self.transform(context)


class SeveralGlimpses(nn.Module):
    """Attention pooling with four predicted maps, as in TokenLearner (Ryoo et al. 2021); heads in the batch axis."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.value = nn.Conv2d(C, 4, 1), nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        g = self.score(x).flatten(2).softmax(-1).reshape(n * 4, 1, -1)
        values = self.value(x).view(n, 4, C // 4, -1).flatten(0, 1).transpose(1, 2)
        return x + torch.bmm(g, values).view(n, C, 1, 1)


class LearnedQueries(nn.Module):
    """Jaegle et al. 2021 (Perceiver): three learned queries attend to all positions; pairwise, not a pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.keys, self.values = nn.Parameter(torch.randn(3, C)), nn.Conv2d(C, C, 1), nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        g = (self.queries @ self.keys(x).flatten(2)).softmax(-1)
        return x + (g @ self.values(x).flatten(2).transpose(1, 2)).mean(1)[..., None, None]


class DoubleAttention(nn.Module):
    """Chen et al. 2018 (A2-Nets): gather with a softmax over positions, then distribute with one over descriptors."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.v = nn.Conv2d(C, C, 1), nn.Conv2d(C, 3, 1), nn.Conv2d(C, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        gather = self.b(x).view(n, 3, h * w).softmax(-1)
        descriptors = torch.bmm(self.a(x).view(n, C, h * w), gather.permute(0, 2, 1))
        distribute = self.v(x).view(n, 3, h * w).softmax(1)
        return x + descriptors.matmul(distribute).view(n, C, h, w)


class SeparableSelfAttention(nn.Module):
    """Mehta and Rastegari 2022 (MobileViTv2): a context vector for each pixel of a patch, from all patches."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Conv2d(C, 1 + 2 * C, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        patches = x.reshape(n, C, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, C, 4, -1)
        query, key, value = self.project(patches).split([1, C, C], dim=1)
        context = (key * F.softmax(query, dim=-1)).sum(dim=-1, keepdim=True)
        out = F.relu(value) * context.expand_as(value)
        return out.reshape(n, C, 2, 2, h // 2, w // 2).permute(0, 1, 4, 2, 5, 3).reshape(x.shape)


class LocalSelfAttention(nn.Module):
    """Ramachandran et al. 2019: each position weighs its nine neighbours, by multiplying and summing."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(C, C, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        keys, values = (F.unfold(f(x), 3, padding=1).view(n, C, 9, h, w) for f in (self.key, self.value))
        g = (self.query(x).unsqueeze(2) * keys).sum(1, keepdim=True).softmax(2)
        return (g * values).sum(2)


class TemporalPooling(nn.Module):
    """Pooling of frames, ``(N, T, C, H, W)`` to ``(N, C)``, with one weight per frame."""

    def __init__(self, how: str = "mul") -> None:
        super().__init__()
        self.how, self.conv, self.score = how, nn.Conv2d(3, C, 3), nn.Linear(C, 1)

    def forward(self, clip: Tensor) -> Tensor:
        n, t = clip.shape[:2]
        features = self.conv(clip.flatten(0, 1)).relu().mean((2, 3)).view(n, t, C)
        g = self.score(features).softmax(1)
        if self.how == "bmm":
            return torch.bmm(g.transpose(1, 2), features).squeeze(1)
        return torch.sum(features * g, dim=1)


class SpatioTemporalPooling(nn.Module):
    """``(N, C, T, H, W)``: one softmax over all positions of all frames."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.score = nn.Conv3d(3, C, 3), nn.Conv3d(C, 1, 1)

    def forward(self, clip: Tensor) -> Tensor:
        x = self.conv(clip)
        g = self.score(x).flatten(1).softmax(1)
        return (x.flatten(2) * g[:, None]).sum(-1)


class SoftArgmax(nn.Module):
    """The expected position of a score: the summed values are constant."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Conv2d(C, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        g = self.score(x).flatten(1).softmax(1)
        position = torch.linspace(0, 1, g.shape[1])
        return x + (g * position).sum(1)[:, None, None, None] + (g @ position.view(-1, 1))[..., None, None]


class MixedClassifier(nn.Module):
    """A sigmoid followed by a matrix of constants: a layer, not a mixture of kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.weight = nn.Linear(C, 4), nn.Parameter(torch.randn(4, C))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.hidden(x.mean((2, 3))).sigmoid() @ self.weight)[..., None, None]


class PlainAverages(nn.Module):
    """Averages over positions and over branches with constant weights."""

    def __init__(self) -> None:
        super().__init__()
        self.paths = nn.ModuleList([nn.Conv2d(C, C, 1), nn.Conv2d(C, C, 3, padding=1)])
        self.weights = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        stacked = torch.stack([path(x) for path in self.paths], 1)
        return (stacked * self.weights.softmax(0)[:, None, None, None]).sum(1) + F.avg_pool2d(x, 3, 1, 1)


WEIGHTED: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "sknet": (SKNet, ["branch"]),
    "sknet-branches-first": (lambda: SKNet(axis=0), ["branch"]),
    "sknet-branches-third": (lambda: SKNet(axis=2), ["branch"]),
    "sknet-separate": (lambda: SKNet(separate=True), ["branch", "branch"]),
    "sknet-one-weight": (lambda: SKNet(per_branch=True), ["branch"]),
    "resnest": (SplitAttention, ["branch"]),
    "resnest-radix-1": (lambda: SplitAttention(radix=1), ["channel"]),
    "sigmoid-branches": (SigmoidBranches, ["branch"]),
    "condconv": (lambda: MixtureOfKernels("sigmoid", by_product=False), ["branch"]),
    "dynamic-conv": (lambda: MixtureOfKernels("softmax", by_product=False), ["branch"]),
    "dynamic-conv-by-product": (lambda: MixtureOfKernels("softmax", by_product=True), ["branch"]),
    "global-context": (GlobalContext, ["pooling"]),
    "global-context-einsum": (lambda: GlobalContext("einsum"), ["pooling"]),
    "global-context-sum": (lambda: GlobalContext("sum"), ["pooling"]),
    "global-context-by-hand": (lambda: GlobalContext("hand-written"), ["pooling"]),
    "several-glimpses": (SeveralGlimpses, ["pooling"]),
    "learned-queries": (LearnedQueries, ["pairwise"]),
    "double-attention": (DoubleAttention, ["pooling", "pairwise"]),
    "separable-self-attention": (SeparableSelfAttention, ["pooling"]),
    "local-self-attention": (LocalSelfAttention, ["pairwise"]),
}

CLIPS: dict[str, tuple[Callable[[], nn.Module], list[str], tuple[int, ...]]] = {
    "temporal-sum": (TemporalPooling, ["temporal"], (2, 5, 3, 8, 8)),
    "temporal-bmm": (lambda: TemporalPooling("bmm"), ["temporal"], (2, 5, 3, 8, 8)),
    "spatio-temporal": (SpatioTemporalPooling, ["pooling"], (2, 3, 4, 5, 5)),
}

UNWEIGHTED: dict[str, Callable[[], nn.Module]] = {
    "soft-argmax": SoftArgmax,
    "mixed-classifier": MixedClassifier,
    "plain-averages": PlainAverages,
}


def build(name: str, seed: int = 0) -> nn.Module:
    """The network of this name with seeded weights, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        factory = UNWEIGHTED[name] if name in UNWEIGHTED else {**WEIGHTED, **CLIPS}[name][0]
        return factory().eval()


def clips(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """A clip of this shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

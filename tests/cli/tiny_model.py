"""A small network with a channel gate and a spatial gate, as a user might bring one."""

import time
from dataclasses import replace

import torch
from torch import nn

from attnviz.media.images import Preprocess
from attnviz.models import VisionModel

LABELS = ("tench", "tabby cat", "tiger cat", "rocket", "espresso")


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.channel = nn.Linear(8, 8)
        self.spatial = nn.Conv2d(8, 1, 3, padding=1)
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, len(LABELS))

    def forward(self, x):
        x = self.stem(x).relu()
        x = x * torch.sigmoid(self.channel(x.mean((2, 3))))[:, :, None, None]
        x = x * torch.sigmoid(self.spatial(x))
        return self.head(self.last(x).relu().mean((2, 3)))


class Plain(Gated):
    def forward(self, x):
        return self.head(self.last(self.stem(x).relu()).relu().mean((2, 3)))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, len(LABELS))

    def forward(self, x):
        tokens = nn.functional.adaptive_avg_pool1d(self.stem(x).flatten(2), 5).mT  # which have no positions
        return self.head(self.mix(tokens).relu().mean(1))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 8, 8)
        self.first, self.second = (nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
        self.head = nn.Linear(8, len(LABELS))

    def forward(self, x):
        x = self.stem(x).flatten(2).mT
        x = x + self.first(x, x, x, need_weights=False)[0]
        x = x + self.second(x, x, x, need_weights=False)[0]
        return self.head(x.mean(1))


def attending() -> VisionModel:
    return make(Attending)


class Clips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.score, self.head = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 1), nn.Linear(8, len(LABELS))

    def forward(self, x):
        seen = self.stem(x.flatten(0, 1)).relu().mean((2, 3)).unflatten(0, x.shape[:2])
        return self.head((self.score(seen).softmax(1) * seen).sum(1))


def clips() -> VisionModel:
    return replace(make(Clips), frames=4)


class Slow(Gated):
    def forward(self, x):
        time.sleep(0.08)
        return super().forward(x)


def slow() -> VisionModel:
    return make(Slow)


def tokens() -> VisionModel:
    return make(Tokens)


def build() -> VisionModel:
    return make(Gated)


def narrow() -> VisionModel:
    """Sees a smaller part of each photograph."""
    return replace(make(Gated), preprocess=Preprocess(32, 64))


def plain() -> VisionModel:
    return make(Plain)


def make(kind: type[nn.Module]) -> VisionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = kind().eval()
    return VisionModel(module, Preprocess(32, 36), LABELS, "tiny")


def interrupted() -> VisionModel:
    raise KeyboardInterrupt

"""The meaning of an axis is followed back through operations that rearrange axes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attnviz.tracing.axis_meanings import parts_of
from attnviz.tracing.axis_parts import Meaning, Part, heads_in
from attnviz.tracing.axis_rules import reduced_axes
from attnviz.tracing.find import trace

BATCH, CHANNELS, GROUPS, POSITIONS = Meaning.BATCH, Meaning.CHANNELS, Meaning.GROUPS, Meaning.POSITIONS
FRAMES, BRANCHES, SAMPLES, UNKNOWN = Meaning.FRAMES, Meaning.BRANCHES, Meaning.SAMPLES, Meaning.UNKNOWN


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def parts(function, shape=(2, 12, 4, 6)):
    """The parts of each axis of ``function(x)``, as pairs."""
    node = trace(Function(function), torch.randn(shape)).nodes[-1]
    return [[(part.of, part.size) for part in parts_of(node, axis)] for axis in range(len(node.shape))]


N, CH, H, W = (BATCH, 2), (CHANNELS, 12), (POSITIONS, 4), (POSITIONS, 6)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.relu(), [[N], [CH], [H], [W]]),
        (lambda x: x.permute(0, 2, 3, 1), [[N], [H], [W], [CH]]),
        (lambda x: x.movedim(1, -1), [[N], [H], [W], [CH]]),
        (lambda x: x.movedim((2, 3), (0, 1)), [[H], [W], [N], [CH]]),
        (lambda x: x.transpose(1, 3), [[N], [W], [H], [CH]]),
        (lambda x: x.mT, [[N], [CH], [W], [H]]),
        (lambda x: x.flatten(2), [[N], [CH], [H, W]]),
        (lambda x: x.flatten(2).view(2, 12, 4, 6), [[N], [CH], [H], [W]]),
        (lambda x: x.view(2, 3, 4, 4, 6), [[N], [(GROUPS, 3)], [(CHANNELS, 4)], [H], [W]]),
        (lambda x: x.reshape(6, 4, 24), [[N, (GROUPS, 3)], [(CHANNELS, 4)], [H, W]]),
        (lambda x: x.unsqueeze(1).squeeze(1), [[N], [CH], [H], [W]]),
        (lambda x: x.mean((2, 3)), [[N], [CH]]),
        (lambda x: x.sum(1, keepdim=True), [[N], [], [H], [W]]),
        (lambda x: torch.stack([x, x], 1), [[N], [(BRANCHES, 2)], [CH], [H], [W]]),
        (lambda x: torch.cat([x.unsqueeze(2)] * 3, 2), [[N], [CH], [(BRANCHES, 3)], [H], [W]]),
        (lambda x: torch.cat([x, x], 2), [[N], [CH], [(POSITIONS, 8)], [W]]),
        (lambda x: x.chunk(3, dim=1)[1], [[N], [(CHANNELS, 4)], [H], [W]]),
        (lambda x: x.unbind(1)[0], [[N], [H], [W]]),
        (lambda x: x.select(2, 0), [[N], [CH], [W]]),
        (lambda x: x[:, 0, None, ..., :3], [[N], [], [H], [(POSITIONS, 3)]]),
        (lambda x: x[..., torch.tensor([0, 1])], [[(UNKNOWN, 2)], [(UNKNOWN, 12)], [(UNKNOWN, 4)], [(UNKNOWN, 2)]]),
        (lambda x: x.mean((2, 3))[:, :, None, None].expand_as(x), [[N], [CH], [(UNKNOWN, 4)], [(UNKNOWN, 6)]]),
        (lambda x: x * x.mean((2, 3), keepdim=True), [[N], [CH], [H], [W]]),
        (lambda x: F.max_pool2d(x, 2), [[N], [CH], [(POSITIONS, 2)], [(POSITIONS, 3)]]),
        (lambda x: F.conv2d(x, torch.ones(5, 12, 1, 1)), [[N], [(CHANNELS, 5)], [H], [W]]),
        (lambda x: F.linear(x.flatten(2).mT, torch.ones(5, 12)), [[N], [H, W], [(CHANNELS, 5)]]),
        (lambda x: F.unfold(x, 3, padding=1), [[N], [CH, (SAMPLES, 9)], [(POSITIONS, 24)]]),
        (lambda x: x.flatten(2).unfold(2, 5, 5), [[N], [CH], [(POSITIONS, 4)], [(SAMPLES, 5)]]),
        (lambda x: x.flatten(2).mT @ x.flatten(2), [[N], [H, W], [H, W]]),
        (lambda x: torch.einsum("nchw,nCHW->nhC", x, x), [[N], [H], [CH]]),
        (
            lambda x: F.grid_sample(x, torch.zeros(2, 5, 7, 2), align_corners=False),
            [[N], [CH], [(SAMPLES, 5)], [(SAMPLES, 7)]],
        ),
        (lambda x: F.scaled_dot_product_attention(*(x.flatten(2).mT,) * 3), [[N], [H, W], [CH]]),
    ],
)  # fmt: skip
def test_the_meaning_of_axes_is_kept_through_operations(function, expected):
    assert parts(function) == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 3, 5, 4, 4), [[N], [(CHANNELS, 3)], [(FRAMES, 5)], [(POSITIONS, 4)], [(POSITIONS, 4)]]),
        ((2, 5, 3, 4, 4), [[N], [(FRAMES, 5)], [(CHANNELS, 3)], [(POSITIONS, 4)], [(POSITIONS, 4)]]),
        ((2, 5, 7), [[N], [(POSITIONS, 5)], [(CHANNELS, 7)]]),
    ],
)
def test_frames_of_clips_are_found_on_either_axis(shape, expected):
    assert parts(lambda x: x + 1, shape) == expected


def test_frames_merged_with_the_batch_are_found_again():
    def function(x):
        features = F.conv2d(x.flatten(0, 1), torch.ones(8, 3, 1, 1)).mean((2, 3))
        return features.view(2, 5, 8)

    assert parts(function, (2, 5, 3, 4, 4)) == [[N], [(FRAMES, 5)], [(CHANNELS, 8)]]


def test_the_search_stops_at_a_given_value():
    def function(x):
        return x.softmax(1).view(2, 3, 4, 4, 6).flatten(1, 2).mean((2, 3)) * 2

    graph = trace(Function(function), torch.randn(2, 12, 4, 6))
    softmax = next(node for node in graph.nodes if node.name == "softmax")
    assert parts_of(graph.nodes[-1], 1, softmax) == (Part(1, 3), Part(1, 4))


def test_reduced_axes_are_counted_from_the_front():
    graph = trace(Function(lambda x: x.sum((-1, 2))), torch.randn(2, 12, 4, 6))
    assert reduced_axes(graph.nodes[-1]) == (3, 2)
    graph = trace(Function(lambda x: x.sum()), torch.randn(2, 12, 4, 6))
    assert reduced_axes(graph.nodes[-1]) == (0, 1, 2, 3)


def test_heads_in_a_batch_axis_are_distinguished_from_frames_and_windows():
    assert heads_in((Part(BATCH, 2), Part(GROUPS, 4))) == 4
    assert heads_in((Part(GROUPS, 4),)) == 4
    assert heads_in((Part(BATCH, 2), Part(FRAMES, 5))) == 1
    assert heads_in((Part(BATCH, 2), Part(POSITIONS, 9), Part(GROUPS, 4))) == 1

"""Layouts of sites: positions of tokens, windows, class and register tokens, coarser keys, frames."""

import networks
import torch
from torch import nn
from torch.nn import functional as F

from attnviz.core.token_layout import NO_POSITION, PADDING
from attnviz.recording import capture
from attnviz.tracing import find_attention


def attend(tokens: torch.Tensor, others: torch.Tensor | None = None) -> torch.Tensor:
    """Self- or cross-attention with one head over ``(N, L, C)``, as plain operations."""
    keys = tokens if others is None else others
    return (tokens @ keys.mT).softmax(-1) @ keys


class Network(nn.Module):
    """A function as a module, with layers that it can use."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.token = nn.Parameter(torch.randn(1, 1, networks.C))
        self.reduce = nn.Conv2d(networks.C, networks.C, 2, 2)
        self.embed = nn.Linear(4 * networks.C, networks.C)

    def forward(self, x):
        return self.function(self, x)


def layout_of(function, x=None):
    (site,) = find_attention(Network(function), networks.images() if x is None else x)
    return site.layout


def tokens(x):
    return x.flatten(2).mT


def test_tokens_of_an_image_are_in_the_order_of_the_grid():
    layout = layout_of(lambda m, x: attend(tokens(x)))
    assert (layout.windows, layout.heads) == (1, 1)
    assert layout.queries.grid == layout.keys.grid == (1, 6, 6)
    assert layout.queries.is_whole
    assert layout.keys.is_whole


def test_class_tokens_have_no_position_whether_first_or_last():
    def first(m, x):
        return attend(torch.cat([m.token.expand(len(x), -1, -1), tokens(x)], 1))

    def last(m, x):
        return attend(torch.cat([tokens(x) + 1, m.token.expand(len(x), -1, -1)], 1))

    assert (layout_of(first).queries.prefix, layout_of(first).queries.is_whole) == (1, True)
    positions = layout_of(last).keys.positions
    assert positions.tolist() == [[*range(36), NO_POSITION]]
    assert layout_of(last).keys.prefix == 0


def test_a_mean_over_the_image_has_no_position():
    layout = layout_of(lambda m, x: attend(torch.cat([tokens(x).mean(1, keepdim=True), tokens(x)], 1)))
    assert (layout.keys.prefix, layout.keys.is_whole) == (1, True)


def test_reduced_keys_have_a_coarser_grid():
    layout = layout_of(lambda m, x: attend(tokens(x), tokens(m.reduce(x))))
    assert (layout.queries.grid, layout.keys.grid) == ((1, 6, 6), (1, 3, 3))
    assert layout.keys.is_whole


def test_every_second_position_and_merged_patches_have_a_coarser_grid():
    layout = layout_of(lambda m, x: attend(tokens(x[:, :, ::2, ::2]), tokens(x)))
    assert (layout.queries.grid, layout.keys.grid) == ((1, 3, 3), (1, 6, 6))

    def merged(m, x):
        x = x.permute(0, 2, 3, 1)
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return attend(m.embed(torch.cat(parts, -1)).flatten(1, 2))

    assert layout_of(merged).queries.grid == (1, 3, 3)
    assert layout_of(merged).queries.is_whole


def shifted(m, x, shift=1, side=3):
    x = x.permute(0, 2, 3, 1).roll((-shift, -shift), (1, 2))
    n, h, w, c = x.shape
    windows = x.view(n, h // side, side, w // side, side, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, side**2, c)
    return attend(windows)


def test_tokens_of_shifted_windows_have_their_positions():
    layout = layout_of(shifted)
    assert (layout.windows, layout.heads, layout.queries.grid) == (4, 1, (1, 6, 6))
    assert layout.queries.positions[0].tolist() == [7, 8, 9, 13, 14, 15, 19, 20, 21]
    assert layout.queries.positions[3].tolist() == [28, 29, 24, 34, 35, 30, 4, 5, 0]
    values = layout.queries.positions.float()[None]
    assert torch.equal(layout.queries.to_grid(values).flatten(), torch.arange(36.0))


def test_padding_of_windows_is_distinguished_from_class_tokens():
    def padded(m, x):
        return shifted(m, F.pad(x[..., :5], (0, 1)), shift=0)

    positions = layout_of(padded).keys.positions
    assert positions.shape == (4, 9)
    assert positions[1].tolist() == [3, 4, PADDING, 9, 10, PADDING, 15, 16, PADDING]


def test_heads_before_windows_are_split_too():
    def blocks(m, x):
        x = x.view(len(x), 2, 4, 2, 3, 6).permute(0, 1, 3, 4, 5, 2).reshape(len(x), 2, 2, 18, 4)  # n heads windows q d
        return (x @ x.mT).softmax(-1) @ x

    layout = layout_of(blocks)
    assert (layout.windows, layout.heads, layout.order) == (2, 2, ("images", "heads", "windows"))
    model = Network(blocks)
    with capture(model) as captured:
        model(x := networks.images())
    (record,) = captured.records
    maps = layout.split(record.g)
    assert maps.shape == (2, 2, 2, 18, 18)
    lower = x[1, 4:, 3:].flatten(1).mT  # image 1, the second head, the second window
    assert torch.allclose(maps[1, 1, 1], (lower @ lower.mT).softmax(-1), atol=1e-6)


def test_attention_along_frames_has_a_window_for_each_position():
    def along(m, x):
        return attend(x.permute(0, 3, 4, 1, 2).reshape(-1, x.shape[1], x.shape[2]))

    layout = layout_of(along, torch.randn(2, 4, 3, 2, 5))
    assert (layout.windows, layout.queries.grid) == (10, (4, 2, 5))
    assert layout.queries.positions[3].tolist() == [3, 13, 23, 33]


def test_attention_inside_frames_has_a_window_for_each_frame():
    layout = layout_of(lambda m, x: attend(tokens(x.flatten(0, 1))), torch.randn(2, 4, 3, 2, 5))
    assert (layout.windows, layout.queries.grid) == (4, (4, 2, 5))
    assert layout.queries.positions[1].tolist() == list(range(10, 20))


def test_channels_and_tokens_of_unknown_order_have_no_positions():
    layout = layout_of(lambda m, x: attend(x.flatten(2)))
    assert (layout.windows, layout.heads, layout.queries, layout.keys) == (1, 1, None, None)
    for function in (
        lambda m, x: attend(tokens(x).sort(1).values),
        lambda m, x: attend(torch.cat([tokens(x), tokens(m.reduce(x))], 1)),  # two scales
        lambda m, x: attend(tokens(x)[:, torch.randperm(36)]),  # another order in each call
    ):
        assert layout_of(function) is None
    fixed = layout_of(lambda m, x: attend(tokens(x)[:, torch.arange(35, -1, -1)]))
    assert fixed.queries.positions.tolist() == [[*range(35, -1, -1)]]

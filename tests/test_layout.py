"""A layout splits a map into windows and heads, and maps tokens to the image plane."""

import pytest
import torch

from attnviz.core.token_layout import NO_POSITION, PADDING, Layout, Tokens


def test_class_and_register_tokens_are_the_prefix_and_are_left_out_of_the_grid():
    tokens = Tokens((1, 2, 3), torch.tensor([[NO_POSITION, NO_POSITION, 0, 1, 2, 3, 4, 5]]))
    assert (tokens.prefix, tokens.is_whole, tokens.size) == (2, True, 6)
    grid = tokens.to_grid(torch.tensor([[[9.0, 9.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]]))
    assert grid.tolist() == [[[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]]


def test_padding_is_left_out_and_positions_in_two_windows_are_averaged():
    tokens = Tokens((1, 1, 3), torch.tensor([[0, 1], [1, PADDING]]))
    assert (tokens.prefix, tokens.is_whole) == (0, False)
    values = torch.tensor([[[[1.0, 2.0], [10.0, 20.0]], [[4.0, 9.0], [40.0, 90.0]]]])  # (N, windows, heads, tokens)
    grid = tokens.to_grid(values)
    assert grid.shape == (1, 2, 1, 1, 3)
    assert grid[0, :, 0, 0, :2].tolist() == [[1.0, 3.0], [10.0, 30.0]]
    assert grid[..., 2].isnan().all()
    assert tokens.to_grid(values, empty=0.0)[..., 2].eq(0).all()


@pytest.mark.parametrize("order", [("images", "windows", "heads"), ("images", "heads", "windows"),
                                   ("windows", "images", "heads")])  # fmt: skip
def test_images_windows_and_heads_are_split_in_any_order(order):
    sizes = {"images": 2, "windows": 3, "heads": 4}
    expected = torch.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
    names = ("images", "windows", "heads")
    flat = expected.permute([names.index(name) for name in order] + [3, 4]).flatten(0, 2)
    canonical = flat.unflatten(0, (sizes[order[0]] * sizes[order[1]], sizes[order[2]]))
    assert torch.equal(Layout(3, 4, None, None, order).split(canonical), expected)


def test_a_pooling_map_has_one_query():
    assert Layout(1, 2, None, None).split(torch.zeros(3, 2, 7)).shape == (3, 1, 2, 1, 7)


def test_errors_contain_the_expected_and_the_given_sizes():
    with pytest.raises(ValueError, match=r"positions on the grid \(1, 2, 2\) are below 4, got 4"):
        Tokens((1, 2, 2), torch.tensor([[4]]))
    with pytest.raises(ValueError, match=r"positions are \(windows, tokens\) int64, got torch.int64 of \(1,\)"):
        Tokens((1, 2, 2), torch.tensor([0]))
    tokens = Tokens((1, 1, 2), torch.tensor([[0, 1]]))
    with pytest.raises(ValueError, match=r"windows and tokens \(1, 2\), got \(1, 3, 2\)"):
        tokens.to_grid(torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match="queries have positions in 1 windows, the layout has 2"):
        Layout(2, 1, tokens, None)
    with pytest.raises(ValueError, match=r"2 windows of 3 heads do not divide 4 maps"):
        Layout(2, 3, None, None).split(torch.zeros(4, 1, 2, 2))
    with pytest.raises(ValueError, match="an order has images, windows and heads"):
        Layout(2, 3, None, None, ("images", "images", "heads"))

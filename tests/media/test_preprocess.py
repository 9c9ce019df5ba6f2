"""Rectangles, squash, letterbox, numbers of channels: the input, and where it lies in the picture."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from attnviz.errors import ImageError
from attnviz.media.channels import displayed
from attnviz.media.image_decoding import Picture, as_picture, decode
from attnviz.media.images import Preprocess, as_images, load_images


def ramp(height, width):
    """A picture of which the red values are columns and the green values rows, in parts of 255."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = ((np.arange(width) + 0.5) / width * 255).round()[None]
    pixels[..., 1] = ((np.arange(height) + 0.5) / height * 255).round()[:, None]
    return pixels


WAYS = [
    Preprocess(64, 80),
    Preprocess((64, 160), (71, 177)),
    Preprocess((64, 160), fit="squash"),
    Preprocess((64, 160), fit="letterbox"),
    Preprocess((160, 64), fit="letterbox", align="corner"),
    Preprocess(96, 100, fit="letterbox"),
    Preprocess(96, 100, fit="squash"),
    Preprocess(128, 96, fit="letterbox"),
]


@pytest.mark.parametrize("preprocess", WAYS, ids=repr)
@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (128, 128), (90, 400)])
def test_the_box_is_where_the_input_lies_in_the_picture(preprocess, shape):
    """The values of a ramp are positions, so that each pixel of the input names its place."""
    height, width = shape
    crop = preprocess.crop(ramp(height, width))
    assert crop.shape == (*preprocess.size, 3)
    left, top, right, bottom = preprocess.box(height, width)
    upper, lefter, lower, righter = preprocess.visible(height, width)
    rows, columns = preprocess.size
    xs = left + (np.arange(columns) + 0.5) / columns * (right - left)
    ys = top + (np.arange(rows) + 0.5) / rows * (bottom - top)
    inner = (slice(upper + 4, lower - 4), slice(lefter + 4, righter - 4))  # filters flatten a ramp at its ends
    found = crop[inner].astype(float)
    assert np.abs(found[..., 0] / 255 * width - xs[inner[1]][None]).max() < 0.01 * width
    assert np.abs(found[..., 1] / 255 * height - ys[inner[0]][:, None]).max() < 0.01 * height


@pytest.mark.parametrize("preprocess", WAYS, ids=repr)
def test_a_finer_crop_shows_the_same_part(preprocess):
    coarse = preprocess.crop(ramp(300, 200))
    size = (2 * preprocess.size[0], 2 * preprocess.size[1])
    fine = preprocess.crop(ramp(300, 200), size)
    assert fine.shape == (*size, 3)
    halved = np.asarray(Image.fromarray(fine).reduce(2)).astype(int)
    inner = np.s_[6:-6, 6:-6]
    difference = np.abs(halved - coarse)[inner].max(2)
    assert np.quantile(difference, 0.95) <= 4  # the edge of the padding can lie between two pixels


def test_a_letterbox_is_padded_with_the_mean_so_that_its_padding_is_0_to_the_model():
    preprocess = Preprocess(64, mean=(0.2, 0.4, 0.6), std=(0.3, 0.3, 0.3), fit="letterbox")
    top, left, bottom, right = preprocess.visible(100, 200)
    assert (top, left, bottom, right) == (16, 0, 48, 64)
    x = preprocess(np.full((100, 200, 3), 255, np.uint8))
    assert x[:, :top].abs().max() < 0.01
    assert torch.allclose(x[:, top:bottom], (1 - torch.tensor(preprocess.mean)[:, None, None]) / 0.3)
    white = replace(preprocess, fill=1.0)(np.zeros((100, 200, 3), np.uint8))
    assert torch.allclose(white[:, 0, 0], (1 - torch.tensor(preprocess.mean)) / 0.3)


def test_a_letterbox_in_the_corner_is_padded_below_and_right():
    preprocess = Preprocess(64, fit="letterbox", align="corner")
    assert preprocess.visible(100, 200) == (0, 0, 32, 64)
    assert preprocess.box(100, 200) == (0, 0, 200, 200)


@pytest.mark.parametrize("channels", [1, 3, 12])
def test_a_mask_of_any_model_is_white_where_the_picture_is_and_never_on_padding(channels):
    """The padding has the mean, which can be brighter than the threshold of a mask."""
    preprocess = Preprocess(64, mean=(0.9,) * channels, std=(1,) * channels, fit="letterbox")
    mask = np.zeros((100, 200, 3), np.uint8)
    mask[:, 100:] = 255
    seen = preprocess.mask(mask)
    assert seen.sum() == 32 * 32
    assert seen[16:48, 32:].all()
    assert np.array_equal(preprocess.mask(mask[..., :1].astype(np.float32) / 255), seen)


def test_a_map_is_cut_back_to_the_picture():
    preprocess = Preprocess(64, fit="letterbox")
    values = torch.arange(64.0)[:, None].expand(64, 64)
    top, left, bottom, right = preprocess.visible(100, 200)
    assert values[top:bottom, left:right].shape == (32, 64)
    assert preprocess.visible(100, 200, (128, 128)) == (32, 0, 96, 128)


def test_a_number_is_a_square_and_equal_settings_are_equal():
    assert Preprocess(64) == Preprocess((64, 64), (64, 64))
    assert hash(Preprocess(64)) == hash(Preprocess([64, 64]))
    assert pickle.loads(pickle.dumps(Preprocess((3, 5), fit="squash"))) == Preprocess((3, 5), fit="squash")
    assert Preprocess(64).part == Preprocess(32, mean=(0, 0, 0)).part
    assert Preprocess(64).part != Preprocess(64, fit="squash").part


class TestChannels:
    def test_one_channel_is_the_luminance_of_a_colour_picture(self):
        preprocess = Preprocess(8, mean=(0.5,), std=(0.25,))
        colour = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
        wanted = (torch.tensor(np.array(Image.fromarray(colour).convert("L"))) / 255 - 0.5) / 0.25
        assert torch.allclose(preprocess(colour)[0], wanted, atol=1e-6)
        assert preprocess(colour).shape == (1, 8, 8)
        grey = np.full((8, 8), 99, np.uint8)
        assert torch.equal(preprocess(grey), preprocess(np.repeat(grey[..., None], 3, 2)))
        assert np.array_equal(preprocess.inverse(preprocess(grey)), grey[..., None])

    @pytest.mark.parametrize("channels", [2, 4, 12])
    def test_an_array_of_any_number_of_channels_is_read(self, channels, tmp_path):
        values = np.random.default_rng(0).random((20, 30, channels), np.float32) * 3000
        np.save(tmp_path / "a.npy", values)
        mean, std = (1500.0,) * channels, (800.0,) * channels
        images = load_images(tmp_path / "a.npy", Preprocess((20, 30), mean=mean, std=std))
        assert torch.allclose(images.x[0], torch.tensor((values - 1500) / 800).movedim(2, 0), atol=1e-5)
        assert images.pixels.shape == (1, 20, 30, 3)
        assert images.pixels.min() == 0
        assert images.pixels.max() == 255
        assert any(f"takes {channels} channels" in note for note in images.pictures[0].notes)

    def test_16_bits_are_parts_of_65535_and_two_axes_are_one_channel(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([[0, 65535], [13107, 0]], np.uint16))
        images = load_images(tmp_path / "a.npy", Preprocess(2, mean=(0,), std=(1,)))
        assert torch.allclose(images.x[0, 0], torch.tensor([[0, 1], [0.2, 0]]))

    def test_the_bands_and_the_pages_of_a_tiff_file_are_channels(self, tmp_path):
        bands = np.random.default_rng(0).integers(0, 256, (6, 9, 4), np.uint8)
        Image.fromarray(bands, "CMYK").save(tmp_path / "bands.tif")
        pages = [Image.fromarray(np.ascontiguousarray(bands[..., one])) for one in range(4)]
        pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
        preprocess = Preprocess((6, 9), mean=(0,) * 4, std=(1,) * 4)
        for name in ("bands.tif", "pages.tif"):
            x = load_images(tmp_path / name, preprocess).x[0]
            assert torch.allclose(x, torch.tensor(bands).movedim(2, 0) / 255), name
        rgba = tmp_path / "a.png"
        Image.fromarray(bands, "RGBA").save(rgba)
        assert torch.allclose(load_images(rgba, preprocess).x[0], torch.tensor(bands).movedim(2, 0) / 255)

    def test_another_number_of_channels_is_one_clear_error(self, tmp_path):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "rgb.png")
        preprocess = Preprocess(4, mean=(0,) * 12, std=(1,) * 12)
        with pytest.raises(ImageError, match=r"rgb\.png: has 3 channels, the model takes 12$"):
            load_images(tmp_path / "rgb.png", preprocess)
        np.save(tmp_path / "first.npy", np.zeros((12, 64, 64), np.uint8))
        with pytest.raises(ImageError, match=r"has 64 channels, the model takes 12; .* move the channels to the end"):
            load_images(tmp_path / "first.npy", preprocess)
        np.save(tmp_path / "five.npy", np.zeros((4, 4, 5), np.uint8))
        with pytest.raises(ImageError, match=r"five\.npy: has 5 channels, the model takes 3$"):
            load_images(tmp_path / "five.npy", Preprocess(4))

    def test_an_array_with_code_or_without_numbers_is_refused(self, tmp_path):
        np.save(tmp_path / "o.npy", np.array([[{}]], object), allow_pickle=True)
        with pytest.raises(ImageError, match=r"o\.npy: cannot be read as an array: .*[Oo]bject"):
            decode(tmp_path / "o.npy")
        np.save(tmp_path / "n.npy", np.array([[np.nan]], np.float32))
        with pytest.raises(ImageError, match=r"n\.npy: holds values that are not finite"):
            decode(tmp_path / "n.npy")
        np.save(tmp_path / "s.npy", np.array([["a"]]))
        with pytest.raises(ImageError, match=r"s\.npy: an image is an array of numbers"):
            decode(tmp_path / "s.npy")
        with pytest.raises(ImageError, match=r"an image is \(H, W, C\) or \(H, W\), got an array of shape \(4,\)"):
            as_picture(np.zeros(4))

    def test_channels_are_displayed_as_a_picture(self):
        bands = np.zeros((2, 50, 5), np.float32)
        bands[..., 0] = np.linspace(100, 200, 50)
        shown = displayed(bands)
        assert shown.shape == (2, 50, 3)
        assert shown[0, 0].tolist() == [0, 0, 0]
        assert shown[0, -1].tolist() == [255, 0, 0]
        assert displayed(np.full((1, 1, 1), 0.2, np.float32)).tolist() == [[[51, 51, 51]]]


def test_the_input_is_contiguous_so_that_a_network_can_view_it():
    """``x.view(N, -1)`` fails for channels that lie last in memory."""
    pictures = [Picture("", ramp(10, 12), (10, 12))] * 2
    for preprocess in (Preprocess(8), Preprocess(8, mean=(0.5,), std=(0.5,))):
        x = as_images(pictures, preprocess).x
        assert x.stride() == torch.empty(x.shape).stride()
        assert torch.nn.Conv2d(preprocess.channels, 4, 1)(x).is_contiguous()
        assert x.view(2, -1).shape == (2, 64 * preprocess.channels)

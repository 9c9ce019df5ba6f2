"""Loading images: preprocessing, pixel formats, huge images and damaged files."""

import os
import struct
import threading
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from attnviz.errors import ImageError
from attnviz.media.image_decoding import MAX_PIXELS, decode
from attnviz.media.images import Preprocess, load_images

SAMPLES = Path(__file__).parent.parent.parent / "sample_data"


@pytest.fixture
def scene() -> np.ndarray:
    """An image with a different colour in each quarter, so that rotations and reflections can be distinguished."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :30], pixels[:20, 30:], pixels[20:, :30], pixels[20:, 30:] = (
        (250, 10, 10), (10, 250, 10), (10, 10, 250), (240, 240, 20))  # fmt: skip
    return pixels


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


class TestPreprocess:
    @pytest.mark.parametrize(
        "shape", [(300, 451, 3), (451, 300, 3), (224, 224, 3), (50, 61, 3), (700, 333, 3), (1, 1, 3)]
    )
    @pytest.mark.parametrize("sides", [(224, 256), (32, 32), (31, 48)])
    def test_it_equals_torchvisions(self, shape, sides):
        v2 = pytest.importorskip("torchvision.transforms.v2")
        size, resize = sides
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        theirs = v2.Compose([
            v2.Resize(resize, interpolation=v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(size),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ])(Image.fromarray(pixels))  # fmt: skip
        ours = Preprocess(size, resize)(pixels)
        assert ours.shape == theirs.shape == (3, size, size)
        assert ours.dtype == torch.float32
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-6)

    def test_resizing_the_box_equals_resizing_and_cropping(self):
        smooth = np.array(
            Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 45, 3), np.uint8)).resize((450, 300))
        )
        plain = Preprocess(224, 256).crop(smooth).astype(int)
        assert np.abs(Preprocess(224, 256).crop(smooth, max_aspect=0) - plain).max() <= 1

    def test_the_inverse_returns_the_crop(self, scene):
        preprocess = Preprocess(32, 40, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
        crop = preprocess.crop(scene)
        assert np.array_equal(preprocess.inverse(preprocess(scene)), crop)
        assert preprocess.inverse(preprocess(scene)[None]).shape == (1, 32, 32, 3)

    def test_a_crop_at_another_size_shows_the_same_part(self):
        ramp = np.broadcast_to(np.linspace(0, 255, 400).astype(np.uint8)[None, :, None], (300, 400, 3)).copy()
        small, large = Preprocess(64, 80).crop(ramp), Preprocess(64, 80).crop(ramp, (256, 256))
        assert large.shape == (256, 256, 3)
        assert abs(int(small[0, 0, 0]) - int(large[:4, :4, 0].mean())) <= 1
        assert abs(int(small[0, -1, 0]) - int(large[:4, -4:, 0].mean())) <= 1

    def test_an_image_of_extreme_aspect_ratio_needs_no_memory_for_the_parts_outside_the_crop(self):
        pixels = np.full((2, 20_000, 3), 7, np.uint8)
        tracemalloc.start()
        assert (Preprocess(224, 256).crop(pixels) == 7).all()
        assert tracemalloc.get_traced_memory()[1] < 2e6
        tracemalloc.stop()

    @pytest.mark.parametrize("pixels", [np.zeros(4, np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
    def test_other_arrays_than_pixels_are_refused(self, pixels):
        with pytest.raises(ImageError, match=r"pixels are \(H, W, C\) uint8 or float32, got"):
            Preprocess(224, 256)(pixels)

    def test_impossible_settings_are_refused(self):
        with pytest.raises(ValueError, match="a crop inside the resized image, got size 256 and resize 224"):
            Preprocess(256, 224)
        with pytest.raises(ValueError, match="a size of one or two positive numbers of pixels, got 0"):
            Preprocess(0)
        with pytest.raises(ValueError, match="one positive std for each mean"):
            Preprocess(std=(0.5, 0.5, 0.0))
        with pytest.raises(ValueError, match="a fit among crop, squash, letterbox, got 'stretch'"):
            Preprocess(fit="stretch")
        with pytest.raises(ValueError, match=r"got \(1, 8, 8\)"):
            Preprocess(224, 256).inverse(torch.zeros(1, 8, 8))


class TestLoadImages:
    def test_one_and_several(self, tmp_path, scene):
        a, b = save(tmp_path / "a.png", scene), save(tmp_path / "b.png", scene[:, ::-1].copy())
        one, two = load_images(a, Preprocess(32, 32)), load_images([str(a), b], Preprocess(32, 32))
        assert (len(one), len(two)) == (1, 2)
        assert one.x.shape == (1, 3, 32, 32)
        assert two.pixels.shape == (2, 32, 32, 3)
        assert two.paths == (str(a), str(b))
        assert two.size == (32, 32)
        assert torch.equal(two.x[0], one.x[0])
        assert torch.allclose(two.x[1], one.x[0].flip(-1), atol=0.01)

    def test_no_path_is_refused(self):
        with pytest.raises(ValueError, match="at least one path"):
            load_images([], Preprocess())


class TestPixelFormats:
    @pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.tif", "a.jpg", "a.gif"])
    def test_every_common_file_format_is_read(self, tmp_path, scene, name):
        picture = decode(save(tmp_path / name, scene))
        assert picture.pixels.shape == scene.shape
        assert np.abs(picture.pixels[10, 15].astype(int) - scene[10, 15]).max() < 16

    def test_grey_becomes_equal_channels(self, tmp_path):
        grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
        assert np.array_equal(decode(save(tmp_path / "g.png", grey)).pixels, np.repeat(grey[..., None], 3, 2))

    @pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
    def test_16_bit_values_are_scaled_and_not_clipped(self, tmp_path, name):
        deep = np.array([[0, 256, 32768], [65535, 128, 514]], np.uint16)
        pixels = decode(save(tmp_path / name, deep)).pixels
        assert pixels[..., 0].tolist() == [[0, 1, 128], [255, 0, 2]]

    def test_floating_point_from_0_to_1_is_scaled(self, tmp_path):
        path = save(tmp_path / "f.tif", np.array([[0, 0.5], [1, 0.2]], np.float32))
        assert decode(path).pixels[..., 1].tolist() == [[0, 128], [255, 51]]

    def test_floating_point_values_above_white_are_refused(self, tmp_path):
        path = save(tmp_path / "f.tif", np.array([[0, 300.0]], np.float32))
        with pytest.raises(ImageError, match=r"f\.tif: values from 0 to 300, wanted 0 to 1"):
            decode(path)

    def test_transparent_pixels_are_composited_on_white(self, tmp_path):
        rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 51]]], np.uint8)
        picture = decode(save(tmp_path / "t.png", rgba))
        assert picture.pixels[0].tolist() == [[200, 0, 0], [255, 255, 255], [244, 204, 204]]
        assert picture.notes == ("transparent pixels are laid on white",)

    def test_a_palette_with_a_transparent_colour_is_composited_on_white(self, tmp_path):
        image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
        image.putpalette([9, 8, 7, 100, 110, 120])
        image.save(tmp_path / "p.png", transparency=0)
        assert decode(tmp_path / "p.png").pixels.tolist() == [[[255, 255, 255], [100, 110, 120]]]

    def test_grey_with_alpha_and_a_bare_palette(self, tmp_path, scene):
        la = save(tmp_path / "la.png", np.array([[[10, 255], [10, 0]]], np.uint8))
        assert decode(la).pixels.tolist() == [[[10, 10, 10], [255, 255, 255]]]
        palette = decode(save(tmp_path / "p.png", scene, "P"))
        assert np.abs(palette.pixels.astype(int) - scene).max() < 60

    def test_cmyk(self, tmp_path, scene):
        pixels = decode(save(tmp_path / "c.jpg", scene, "CMYK", quality=95)).pixels
        assert np.abs(pixels[10, 15].astype(int) - scene[10, 15]).max() < 20

    def test_one_bit(self, tmp_path):
        Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "b.png")
        assert decode(tmp_path / "b.png").pixels[0, :, 0].tolist() == [0, 255]

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation_is_applied(self, tmp_path, scene, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        undo = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
                5: lambda a: a.swapaxes(0, 1), 6: np.rot90, 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
                8: lambda a: np.rot90(a, -1)}[orientation]  # fmt: skip
        picture = decode(save(tmp_path / "r.png", np.ascontiguousarray(undo(scene)), exif=exif))
        assert np.array_equal(picture.pixels, scene)
        assert picture.size == (40, 60)

    def test_of_an_animation_the_first_frame_is_decoded_and_noted(self, tmp_path, scene):
        frames = [Image.fromarray(scene), Image.fromarray(255 - scene)]
        frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
        picture = decode(tmp_path / "a.gif")
        assert np.abs(picture.pixels.astype(int) - scene).max() < 30
        assert picture.notes == ("animation: the first of 2 frames is explained",)

    def test_a_single_pixel_works(self, tmp_path):
        images = load_images(save(tmp_path / "1.png", np.full((1, 1, 3), 255, np.uint8)), Preprocess(8, 9))
        assert torch.equal(images.x, torch.ones(1, 3, 8, 8))


class TestHugeImages:
    def flat_png(self, path: Path, side: int) -> Path:
        """Write a grey PNG of side × side row by row: left half black, right half 200."""

        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        packer, row = zlib.compressobj(1), b"\0" + bytes(side // 2) + bytes([200]) * (side - side // 2)
        body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
        return path

    def test_20_000_by_20_000_works_in_bounded_memory(self, tmp_path):
        path = self.flat_png(tmp_path / "huge.png", 20_000)
        tracemalloc.start()  # counts NumPy's memory; Pillow's own is one byte per pixel here
        picture = decode(path, keep_px=1024)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert picture.size == (20_000, 20_000)
        assert picture.pixels.shape == (1053, 1053, 3)
        assert picture.pixels[500, 100].tolist() == [0, 0, 0]
        assert picture.pixels[500, 900].tolist() == [200, 200, 200]
        assert peak < 64e6

    def test_an_image_above_the_limit_is_refused_before_it_is_decoded(self, tmp_path):
        path = self.flat_png(tmp_path / "small.png", 8)
        broken = path.read_bytes().replace(struct.pack(">II", 8, 8), struct.pack(">II", 30_000, 30_000))
        header = broken[12:29]
        path.write_bytes(broken[:29] + struct.pack(">I", zlib.crc32(header)) + broken[33:])
        with pytest.raises(ImageError, match=rf"30000 × 30000 pixels, at most {MAX_PIXELS:,} can be read"):
            decode(path)

    def test_a_reduced_jpeg_is_the_same_image(self, tmp_path):
        gradient = np.linspace(0, 255, 900).astype(np.uint8)
        pixels = np.stack(np.broadcast_arrays(gradient[None, :], gradient[:, None], np.uint8(90)), -1)
        path = save(tmp_path / "g.jpg", np.ascontiguousarray(pixels), quality=95)
        plain = Preprocess(32, 40).crop(decode(path).pixels).astype(int)
        reduced = decode(path, keep_px=100, reduce_above=1000)
        assert reduced.size == (900, 900)
        assert max(reduced.pixels.shape) < 300
        assert np.abs(Preprocess(32, 40).crop(reduced.pixels) - plain).max() <= 4

    def test_strips_join_without_a_seam(self, tmp_path):
        pixels = np.random.default_rng(1).integers(0, 256, (97, 61, 4), np.uint8)
        path = save(tmp_path / "s.png", pixels)
        plain = Image.fromarray(decode(path).pixels).reduce(3)
        reduced = decode(path, keep_px=20, reduce_above=0, strip_pixels=400)
        assert np.array_equal(reduced.pixels, np.array(plain))

    def test_pillows_own_limit_is_neither_applied_nor_changed(self, tmp_path, scene, monkeypatch):
        """The limit is a global setting: it is the same while an image is decoded."""
        limits = []
        plain = Image.preinit

        def preinit():
            limits.append(Image.MAX_IMAGE_PIXELS)
            plain()

        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        monkeypatch.setattr(Image, "preinit", preinit)
        assert decode(save(tmp_path / "a.png", scene)).size == (40, 60)
        with pytest.raises(ImageError, match="no such file"):
            decode(tmp_path / "none.png")
        assert set(limits) == {10}
        assert Image.MAX_IMAGE_PIXELS == 10

    def test_a_format_that_applies_pillows_limit_itself_is_an_image_error(self, tmp_path, scene, monkeypatch):
        def refuse(_):
            raise Image.DecompressionBombError("Image size (2400 pixels) exceeds limit")

        path = save(tmp_path / "a.tif", scene)
        monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", refuse)
        with pytest.raises(ImageError, match=r"a\.tif: too large for its format: Image size \(2400 pixels\) exceeds"):
            decode(path)


class TestDamage:
    def test_missing(self, tmp_path):
        with pytest.raises(ImageError, match=r"nowhere\.png: no such file$"):
            decode(tmp_path / "nowhere.png")

    def test_empty(self, tmp_path):
        (tmp_path / "e.png").touch()
        with pytest.raises(ImageError, match=r"e\.png: the file is empty$"):
            decode(tmp_path / "e.png")

    def test_a_folder(self, tmp_path):
        with pytest.raises(ImageError, match="is a folder, wanted an image file"):
            decode(tmp_path)

    def test_a_device_file(self):
        with pytest.raises(ImageError, match="/dev/null: is not a regular file"):
            decode("/dev/null")

    @pytest.mark.parametrize("content", [b"hello, world", b"%PDF-1.7 and so on", bytes(1000), b"<svg></svg>"])
    def test_not_an_image(self, tmp_path, content):
        (tmp_path / "n.png").write_bytes(content)
        with pytest.raises(ImageError, match=r"n\.png: not an image that can be read \(wanted PNG, JPEG"):
            decode(tmp_path / "n.png")

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    @pytest.mark.parametrize("name", ["t.png", "t.jpg", "t.webp", "t.bmp", "t.tif", "t.gif"])
    def test_a_truncated_file_is_an_error_and_never_a_partial_image(self, tmp_path, name, share):
        noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
        path = save(tmp_path / name, noise)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        with pytest.raises(ImageError, match=rf"{name}: [^\n]+$"):
            decode(path)

    def test_a_flipped_bit_is_an_image_error_or_an_image_and_never_another_exception(self, tmp_path):
        data = bytearray(save(tmp_path / "f.png", np.full((30, 30, 3), 99, np.uint8)).read_bytes())
        for position in range(8, len(data)):
            flipped = data.copy()
            flipped[position] ^= 0x10
            (tmp_path / "f.png").write_bytes(flipped)
            with suppress(ImageError):
                decode(tmp_path / "f.png")

    def test_a_drawing_is_refused(self, tmp_path, scene):
        path = save(tmp_path / "d.eps", scene)
        with pytest.raises(ImageError, match="EPS is a drawing"):
            decode(path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
    def test_a_file_without_read_permission(self, tmp_path, scene):
        path = save(tmp_path / "p.png", scene)
        path.chmod(0)
        with pytest.raises(ImageError, match="Permission denied"):
            decode(path)

    def test_an_impossible_file_name(self):
        with pytest.raises(ImageError, match="cannot be opened"):
            decode("a\0b")

    def test_threads_can_decode_concurrently(self, tmp_path, scene):
        path, results = save(tmp_path / "a.png", scene), []
        threads = [threading.Thread(target=lambda: results.append(decode(path).pixels)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 8
        assert all(np.array_equal(r, scene) for r in results)

"""Transforms of torchvision and timm in place of a Preprocess: the same input, on the right part of the picture."""

import numpy as np
import pytest
import torch
from PIL import Image

from attnviz.errors import ImageError, ModelError
from attnviz.media.image_decoding import Picture
from attnviz.media.images import Preprocess, as_images, as_preprocess, load_images
from attnviz.media.transforms import TransformPreprocess

T = pytest.importorskip("torchvision.transforms")
v2 = pytest.importorskip("torchvision.transforms.v2")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def timm_transform(**options):
    return pytest.importorskip("timm").data.create_transform((3, 64, 64), **options)


READ = {
    "v1": lambda: T.Compose([T.Resize(80), T.CenterCrop(64), T.ToTensor(), T.Normalize(*IMAGENET)]),
    "v2": lambda: v2.Compose([
        v2.ToImage(), v2.Resize((64, 96)), v2.ToDtype(torch.float32, scale=True), v2.Normalize(*IMAGENET)]),
    "nested": lambda: T.Compose([T.Compose([T.Resize((40, 40))]), T.ToTensor()]),
    "grey": lambda: T.Compose([T.Grayscale(), T.Resize(64), T.CenterCrop(64), T.ToTensor(), T.Normalize([0.5], [0.2])]),
    "preset": lambda: T._presets.ImageClassification(crop_size=64, resize_size=70),
    "timm": lambda: timm_transform(crop_pct=0.9, interpolation="bicubic"),
    "timm squash": lambda: timm_transform(crop_pct=0.9, crop_mode="squash"),
    "timm border": lambda: timm_transform(crop_pct=0.95, crop_mode="border"),
}  # fmt: skip
FITS = {"v2": "squash", "nested": "squash", "timm squash": "squash", "timm border": "letterbox"}


@pytest.fixture
def picture():
    return np.random.default_rng(1).integers(0, 256, (90, 130, 3), np.uint8)


@pytest.mark.parametrize("name", READ)
def test_the_settings_of_a_transform_are_read_from_its_attributes(name, picture):
    transform = READ[name]()
    found = as_preprocess(transform)
    assert type(found) is Preprocess
    assert found.fit == FITS.get(name, "crop")
    assert found.channels == (1 if name == "grey" else 3)
    if name in {"v1", "v2"}:
        assert (found.mean, found.std) == IMAGENET
    wanted = transform(Image.fromarray(picture))
    assert (found(picture) - wanted).abs().max() < 0.01 / min(found.std)


def standardised(x):
    """Each picture has mean 0 and std 1, as in medical imaging."""
    return (x - x.mean()) / (x.std() + 1e-6)


MEASURED = {
    "padding": (T.Compose([T.Pad((0, 20)), T.Resize((64, 64)), T.ToTensor()]), (0, -20, 130, 110)),
    "function": (T.Compose([T.Resize((64, 64)), T.ToTensor(), T.Lambda(lambda x: 2 * x - 1)]), (0, 0, 130, 90)),
    "slice": (lambda image: T.ToTensor()(image)[:, 10:74, 20:84], (20, 10, 84, 74)),
    "crop beyond the picture": (T.Compose([T.CenterCrop(150), T.ToTensor()]), (-10, -30, 140, 120)),
    "standardised": (T.Compose([T.Resize(64), T.CenterCrop(64), T.ToTensor(), standardised]), (20, 0, 110, 90)),
    "padded and equalised": (
        T.Compose([T.Pad((10, 30)), T.Resize((64, 64)), T.RandomEqualize(1.0), T.ToTensor()]), (-10, -30, 140, 120)),
    "no antialias": (
        T.Compose([T.ToTensor(), T.Resize((40, 60), antialias=False), T.Normalize(*IMAGENET)]), (0, 0, 130, 90)),
}  # fmt: skip


@pytest.mark.parametrize("name", MEASURED)
def test_a_transform_that_cannot_be_read_computes_the_input_and_its_part_is_measured(name, picture):
    transform, box = MEASURED[name]
    found = as_preprocess(transform)
    assert isinstance(found, TransformPreprocess)
    pixel = max(1, (box[2] - box[0]) / found.size[1])  # of the input, in those of the picture
    assert np.abs(np.subtract(found.box(90, 130), box)).max() < pixel
    images = as_images([Picture("", picture, (90, 130))], found)
    assert torch.equal(images.x[0], transform(Image.fromarray(picture)))
    assert images.pixels.shape == (1, *images.x.shape[2:], 3)
    assert images.x.is_contiguous()


def test_the_picture_of_a_measured_transform_shows_what_the_model_gets(picture):
    smooth = np.asarray(Image.fromarray(picture).resize((8, 6)).resize((130, 90), Image.Resampling.BICUBIC))
    transform = T.Compose([T.Pad((0, 20)), T.Resize((64, 64)), T.ToTensor(), T.Lambda(lambda x: x)])
    images = as_images([Picture("", smooth, (90, 130))], as_preprocess(transform))
    assert np.abs(images.pixels[0].astype(int) - images.x[0].mul(255).movedim(0, 2).numpy())[14:-14].max() < 12


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (T.RandomHorizontalFlip(1.0), "it mirrors, rotates or warps it"),
        (T.RandomRotation((20, 20)), "it mirrors, rotates or warps it"),
        (T.RandomPerspective(0.5, 1.0), "mirrors, rotates or warps it|draws random numbers"),
        (T.RandomResizedCrop(64), "draws random numbers"),
        (T.Lambda(lambda image: image.point([0] * 768)), "shows too little of it"),
        (T.Lambda(lambda image: image.transpose(Image.Transpose.TRANSPOSE)), "it mirrors, rotates or warps it"),
        (
            T.Lambda(lambda image: image.transform(image.size, Image.Transform.QUAD, (0, 0, 0, 64, 64, 48, 64, 0))),
            "warps",
        ),
    ],
)
def test_a_transform_that_would_put_maps_on_the_wrong_place_is_refused(step, reason):
    torch.manual_seed(0)
    with pytest.raises(ModelError, match=rf"unknown which part .*({reason}).*give a Preprocess"):
        as_preprocess(T.Compose([T.Resize((64, 64)), step, T.ToTensor()]))


def test_a_normalisation_of_one_channel_is_a_model_of_grey_pictures(picture):
    transform = T.Compose([T.Resize((40, 60)), T.ToTensor(), T.Normalize([0.3], [0.2])])
    found = as_preprocess(transform)
    assert (found.channels, found.mean, found.std) == (1, (0.3,), (0.2,))
    assert torch.allclose(found(picture), transform(Image.fromarray(picture).convert("L")), atol=0.06)


def test_a_transform_without_a_hash_works():
    class Settings:
        __hash__ = None

        def __eq__(self, other):
            return isinstance(other, Settings)

        def __call__(self, image):
            return T.functional.to_tensor(image.resize((20, 10))) * 2

    assert np.abs(np.subtract(as_preprocess(Settings()).box(90, 130), (0, 0, 130, 90))).max() < 1


def test_other_objects_are_refused():
    with pytest.raises(ModelError, match="wanted a Preprocess or a function from a PIL image to a tensor, got a str"):
        as_preprocess("resize")
    with pytest.raises(ModelError, match=r"wanted a tensor \(C, H, W\) from the transform, got a Image"):
        as_preprocess(T.Resize(8))
    with pytest.raises(ModelError, match="the transform fails: ZeroDivisionError"):
        as_preprocess(lambda _: 1 / 0)


def test_inputs_of_different_sizes_are_an_error_that_names_the_image(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(picture[:50]).save(tmp_path / "b.png")
    assert load_images(tmp_path / "b.png", T.ToTensor()).x.shape == (1, 3, 50, 130)
    with pytest.raises(
        ImageError, match=r"b\.png: its input is \(3, 50, 130\), that of the first image \(3, 90, 130\)"
    ):
        load_images([tmp_path / "a.png", tmp_path / "b.png"], T.ToTensor())

"""The preprocessing of transformers' image processors, compared with the processors themselves."""

import numpy as np
import pytest
import torch
from PIL import Image

from attnviz.media.images import Preprocess
from attnviz.media.transforms import TransformPreprocess
from attnviz.models.image_processors import keeps_proportions, preprocess_of_processor

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning")  # of the library

FITS = {
    "ViTImageProcessor": "squash", "SegformerImageProcessor": "squash", "SiglipImageProcessor": "squash",
    "BeitImageProcessor": "squash", "DPTImageProcessor": "squash", "ConvNextImageProcessor": "squash",
    "CLIPImageProcessor": "crop", "BitImageProcessor": "crop", "MobileNetV2ImageProcessor": "crop",
    "PoolFormerImageProcessor": "crop", "RTDetrImageProcessor": "squash",
}  # fmt: skip


@pytest.fixture
def picture():
    coarse = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((300, 200), Image.Resampling.BICUBIC))


def theirs(processor, picture):
    return processor(images=Image.fromarray(picture), return_tensors="pt")["pixel_values"][0]


@pytest.mark.parametrize("name", FITS)
def test_the_input_is_that_of_the_processor(name, picture):
    processor = getattr(transformers, name)()
    found = preprocess_of_processor(processor)
    assert type(found) is Preprocess
    assert found.fit == FITS[name]
    assert not keeps_proportions(processor)
    assert (found(picture) - theirs(processor, picture)).abs().max() < 0.02 / min(found.std)
    assert preprocess_of_processor(processor.to_dict()) == found


@pytest.mark.parametrize("size", [224, 384])
def test_convnext_squashes_only_large_inputs(size, picture):
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": size})
    found = preprocess_of_processor(processor)
    assert found.fit == ("crop" if size == 224 else "squash")
    assert (found(picture) - theirs(processor, picture)).abs().max() < 0.02 / min(found.std)


@pytest.mark.parametrize("name", ["LevitImageProcessor", "MobileViTImageProcessor"])
def test_a_processor_with_other_steps_computes_the_input_itself(name, picture):
    processor = getattr(transformers, name)()
    found = preprocess_of_processor(processor)
    assert isinstance(found, TransformPreprocess)
    assert torch.equal(found(picture), theirs(processor, picture).float())


def test_processors_that_keep_proportions_become_a_letterbox(picture):
    detr, sam = transformers.DetrImageProcessor(), transformers.SamImageProcessor()
    assert keeps_proportions(detr)
    found = preprocess_of_processor(detr)
    assert (found.fit, found.size) == ("letterbox", (800, 800))
    assert found.visible(200, 300) == (0, 0, 533, 800)
    found = preprocess_of_processor(sam)
    assert (found.fit, found.size, found.align) == ("letterbox", (1024, 1024), "corner")
    assert (found(picture) - theirs(sam, picture)).abs().max() < 0.02 / min(found.std)


def test_settings_without_a_resize_or_a_normalisation():
    assert preprocess_of_processor({"do_resize": False}, 56).size == (56, 56)
    assert preprocess_of_processor({"do_resize": False, "do_center_crop": True, "crop_size": 48}).size == (48, 48)
    raw = {"size": {"height": 32, "width": 48}, "do_normalize": False, "do_rescale": False}
    found = preprocess_of_processor(raw)
    assert (found.size, found.fit) == ((32, 48), "squash")
    assert float(found(np.full((32, 48, 3), 255, np.uint8)).max()) == pytest.approx(255)
    assert preprocess_of_processor({"image_processor": {"size": 64}}).size == (64, 64)

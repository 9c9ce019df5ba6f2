"""Patches: parts of photographs that are used as objects."""

import numpy as np
import torch

from attnviz.training.features import DataRecipe
from attnviz.training.sources import Source
from builtin_training.cutout_patches import cut_patches


def photograph(name, side=120):
    pixels = np.random.default_rng(len(name)).integers(0, 256, (side, side + 30, 3), np.uint8)
    return Source(name, name, pixels)


def brightness(x):
    """A network with a high probability for images that are bright in the centre."""
    bright = 40 * x[:, :, 96:128, 96:128].mean((1, 2, 3))
    return torch.stack([bright, -bright], 1)


def test_a_patch_is_a_part_of_its_photograph_with_a_soft_outline():
    whole = photograph("garden")
    patches = cut_patches([whole], brightness, each=3, seed=0, certainty=0.0)
    assert 0 < len(patches) <= 3
    for patch in patches:
        side = len(patch.pixels)
        windows = np.lib.stride_tricks.sliding_window_view(whole.pixels, (side, side, 3))[:, :, 0]
        assert (windows == patch.pixels[..., :3]).all(axis=(2, 3, 4)).any()
        opacity = patch.pixels[..., 3]
        assert opacity[side // 2, side // 2] == 255
        assert opacity[0, 0] == 0
        assert 0.2 < (opacity > 127).mean() < 0.9
        assert patch.group == whole.group


def test_only_patches_with_a_high_probability_are_kept_the_highest_first():
    def rising(x):
        """Probabilities from 0.5 to 0.99, in the order of the candidates."""
        return torch.stack([torch.linspace(0.5, 0.99, len(x)).logit(), torch.zeros(len(x))], 1)

    patches = cut_patches([photograph("pond")], rising, each=2, seed=0, certainty=0.9)
    assert [patch.name for patch in patches] == ["pond#15", "pond#14"]
    assert cut_patches([photograph("pond")], rising, each=2, seed=0, certainty=0.999) == ()


def test_patches_depend_only_on_their_photograph_and_the_seed():
    pond, garden = photograph("pond"), photograph("garden")
    single = cut_patches([pond], brightness, each=2, seed=0, certainty=0.0)
    second = cut_patches([garden, pond], brightness, each=2, seed=0, certainty=0.0)[-2:]
    assert [patch.name for patch in single] == [patch.name for patch in second]
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(single, second, strict=True))
    other = cut_patches([pond], brightness, each=2, seed=1, certainty=0.0)
    assert not np.array_equal(single[0].pixels.shape, other[0].pixels.shape) or not np.array_equal(
        single[0].pixels, other[0].pixels
    )


def test_every_other_scene_shows_a_patch(sources):
    patches = cut_patches(sources.photographs[:2], brightness, each=2, seed=0, certainty=0.0)
    names = {patch.name for patch in patches}
    views = list(DataRecipe(60, plain_share=0).make(sources, patches=patches))
    share = np.mean([view.subject in names for view in views])
    assert 0.3 < share < 0.7

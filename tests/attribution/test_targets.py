"""In which memory format a model is run."""

import pytest
import torch
from torch import nn

from attnviz.attribution.targets import Logits, fast_format


def wide() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("model", "images", "side", "wanted"),
    [
        (wide(), 1, 8, torch.contiguous_format),  # 38,592 weights for 64 pixels
        (wide(), 8, 8, torch.channels_last),
        (wide(), 1, 32, torch.channels_last),
        (wide().to(memory_format=torch.channels_last), 1, 8, torch.channels_last),  # nothing has to be rearranged
        (nn.Conv2d(512, 512, 1), 1, 4, torch.channels_last),
        (nn.Conv2d(512, 512, 3, groups=512), 1, 4, torch.channels_last),
        (nn.Linear(512, 512), 1, 4, torch.channels_last),
    ],
)
def test_few_pixels_do_not_pay_for_many_weights(
    model: nn.Module, images: int, side: int, wanted: torch.memory_format
) -> None:
    assert fast_format(model, torch.zeros(images, 3, side, side)) == wanted


def test_a_model_gets_its_images_in_that_format() -> None:
    model, seen = wide(), []
    model.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    for images in (torch.rand(1, 3, 8, 8), torch.rand(8, 3, 8, 8)):
        Logits(model)(images)
        assert seen[-1].is_contiguous(memory_format=fast_format(model, images))
        assert seen[-1].data_ptr() != images.data_ptr()
        torch.testing.assert_close(seen[-1], images, rtol=0, atol=0)

"""Transformers, detectors and matchers of kornia."""

from typing import Any

import torch
from conformance.entry import Entry, Inputs, noise
from torch import nn


def _vit() -> nn.Module:
    from kornia.models.vit import VisionTransformer

    return VisionTransformer(image_size=64, patch_size=16, embed_dim=32, depth=2, num_heads=2)


def _mobile_vit() -> nn.Module:
    from kornia.models.vit_mobile import MobileViT

    return MobileViT(mode="xxs")


def _tiny_vit() -> nn.Module:
    from kornia.models.tiny_vit import TinyViT

    sizes: dict[str, Any] = {"embed_dims": [16, 32, 32, 32], "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2]}
    return TinyViT(img_size=64, window_sizes=[4, 4, 4, 2], **sizes)


def _loftr() -> nn.Module:
    from kornia.feature import LoFTR

    return LoFTR(pretrained=None)


def _rt_detr() -> nn.Module:
    from kornia.models.rt_detr import RTDETR, RTDETRConfig

    return RTDETR.from_config(RTDETRConfig("resnet18d", 5, head_num_queries=8))


def _hardnet() -> nn.Module:
    from kornia.feature import HardNet

    return HardNet(pretrained=False)


def _pairs(n: int) -> Inputs:
    """Pairs of grey images in one dictionary."""
    return Inputs(({"image0": torch.rand(n, 1, 64, 64), "image1": torch.rand(n, 1, 64, 64)},))


ENTRIES = (
    Entry("kornia", "vit", "vit", _vit, noise(3, 64, 64), quick=True),
    Entry("kornia", "vit_mobile", "mobile-vit", _mobile_vit, noise(3, 256, 256)),
    Entry("kornia", "tiny_vit", "tiny-vit", _tiny_vit, noise(3, 64, 64)),
    Entry("kornia", "rt_detr", "rt-detr", _rt_detr, noise(3, 64, 64)),
    Entry("kornia", "loftr", "loftr", _loftr, _pairs),
    Entry("kornia", "hardnet", "hardnet", _hardnet, noise(1, 32, 32), attention=False),
)

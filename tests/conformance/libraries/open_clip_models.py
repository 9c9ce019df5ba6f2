"""Image and text models of OpenCLIP."""

from typing import Any

import torch
from conformance.entry import Entry, Inputs
from torch import nn

_TEXT = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
_VISION = {"layers": 2, "width": 32, "head_width": 8, "image_size": 48, "patch_size": 8}


def _clip(**vision: Any) -> nn.Module:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    return CLIP(16, CLIPVisionCfg(**vision), CLIPTextCfg(**_TEXT))


def _vision_transformer() -> nn.Module:
    return _clip(**_VISION)


def _attentional_pool() -> nn.Module:
    return _clip(**_VISION, attentional_pool=True, attn_pooler_heads=2)


def _resnet() -> nn.Module:
    return _clip(layers=(1, 1, 1, 1), width=16, head_width=8, image_size=64)


def _coca() -> nn.Module:
    from open_clip.coca_model import CLIPTextCfg, CLIPVisionCfg, CoCa

    text = CLIPTextCfg(**_TEXT, embed_cls=True, output_tokens=True)
    vision = CLIPVisionCfg(**_VISION, attentional_pool=True, attn_pooler_heads=2, output_tokens=True)
    return CoCa(16, _TEXT, text, vision)


def _three_texts(n: int) -> Inputs:
    """``n`` images and three texts."""
    return Inputs((torch.rand(n, 3, 48, 48), torch.randint(0, 49, (3, 8))))


def _two_texts(n: int) -> Inputs:
    return Inputs((torch.rand(n, 3, 64, 64), torch.randint(0, 49, (2, 8))))


def _captions(n: int) -> Inputs:
    return Inputs((torch.rand(n, 3, 48, 48), torch.randint(1, 49, (n, 8))))


def _images(n: int) -> Inputs:
    return Inputs((torch.rand(n, 3, 48, 48),))


ENTRIES = (
    Entry("open_clip", "CLIP", "clip-vit", _vision_transformer, _three_texts, quick=True),
    Entry("open_clip", "CLIP", "clip-vit-attentional-pool", _attentional_pool, _three_texts),
    Entry("open_clip", "CLIP", "clip-vit.encode_image", _vision_transformer, _images, method="encode_image"),
    Entry("open_clip", "CLIP", "clip-resnet", _resnet, _two_texts),
    Entry("open_clip", "CoCa", "coca", _coca, _captions),
)

"""Networks of MONAI for images and volumes."""

from functools import partial
from typing import Any

import torch
from conformance.entry import Entry, Inputs, noise
from torch import nn

_ENCODER = {"in_channels": 1, "patch_size": 16, "hidden_size": 36, "mlp_dim": 48, "num_layers": 2, "num_heads": 3}
_CLASSIFIER = {**_ENCODER, "classification": True, "num_classes": 4, "post_activation": ""}
_UNETR = {"in_channels": 1, "out_channels": 2, "feature_size": 8, "hidden_size": 24, "mlp_dim": 32, "num_heads": 2}
_SWIN = {"in_channels": 1, "out_channels": 2, "feature_size": 12, "depths": (2, 2, 2, 2), "num_heads": (2, 2, 2, 2)}
_UNET = {"channels": (4, 8, 16), "strides": (2, 2), "out_channels": 2}
_DIFFUSION = {
    "in_channels": 1,
    "out_channels": 1,
    "channels": (8, 16),
    "attention_levels": (False, True),
    "num_res_blocks": 1,
    "num_head_channels": 8,
    "norm_num_groups": 4,
}
_DYN = {"kernel_size": (3, 3, 3), "strides": (1, 2, 2), "upsample_kernel_size": (2, 2), "filters": (4, 8, 16)}
_PLANE, _VOLUME = {"spatial_dims": 2}, {"spatial_dims": 3}

# name, class, size of one input, arguments
_ATTENTION: list[tuple[str, str, tuple[int, ...], dict[str, Any]]] = [
    ("vit", "ViT", (1, 48, 64), {**_CLASSIFIER, **_PLANE, "img_size": (48, 64)}),
    ("vit-3d", "ViT", (1, 32, 32, 48), {**_CLASSIFIER, **_VOLUME, "img_size": (32, 32, 48)}),
    ("vit-save-attn", "ViT", (1, 48, 64), {**_CLASSIFIER, **_PLANE, "img_size": (48, 64), "save_attn": True}),
    (
        "vit-autoencoder",
        "ViTAutoEnc",
        (1, 32, 32),
        {**_ENCODER, **_PLANE, "img_size": (32, 32), "out_channels": 1, "deconv_chns": 8},
    ),
    ("unetr", "UNETR", (1, 32, 32), {**_UNETR, **_PLANE, "img_size": (32, 32)}),
    ("unetr-3d", "UNETR", (1, 32, 32, 32), {**_UNETR, **_VOLUME, "img_size": (32, 32, 32)}),
    ("swin-unetr", "SwinUNETR", (1, 64, 64), {**_SWIN, **_PLANE}),
    ("swin-unetr-3d", "SwinUNETR", (1, 32, 32, 64), {**_SWIN, **_VOLUME}),
    ("attention-unet", "AttentionUnet", (1, 32, 48), {**_UNET, **_PLANE, "in_channels": 1}),
    ("attention-unet-3d", "AttentionUnet", (1, 16, 16, 32), {**_UNET, **_VOLUME, "in_channels": 1}),
    ("seresnet50", "SEResNet50", (3, 64, 64), {**_PLANE, "in_channels": 3, "num_classes": 3}),
    ("seresnet50-3d", "SEResNet50", (1, 32, 32, 32), {**_VOLUME, "in_channels": 1, "num_classes": 3}),
    ("seresnext50", "SEResNext50", (3, 64, 64), {**_PLANE, "in_channels": 3, "num_classes": 3}),
    (
        "efficientnet-b0",
        "EfficientNetBN",
        (3, 64, 64),
        {**_PLANE, "model_name": "efficientnet-b0", "pretrained": False},
    ),
    ("mil-attention", "MILModel", (4, 3, 64, 64), {"num_classes": 2, "pretrained": False, "mil_mode": "att"}),
    ("mil-transformer", "MILModel", (4, 3, 64, 64), {"num_classes": 2, "pretrained": False, "mil_mode": "att_trans"}),
]
_PLAIN: list[tuple[str, str, tuple[int, ...], dict[str, Any]]] = [
    ("mil-mean", "MILModel", (4, 3, 64, 64), {"num_classes": 2, "pretrained": False, "mil_mode": "mean"}),
    ("resnet18", "resnet18", (3, 64, 64), {**_PLANE, "n_input_channels": 3, "num_classes": 2}),
    ("resnet18-3d", "resnet18", (1, 32, 32, 32), {**_VOLUME, "n_input_channels": 1, "num_classes": 2}),
    ("densenet121", "DenseNet121", (3, 64, 64), {**_PLANE, "in_channels": 3, "out_channels": 2}),
    ("unet", "UNet", (3, 64, 64), {**_UNET, **_PLANE, "in_channels": 3}),
    ("unet-3d", "UNet", (1, 16, 16, 32), {**_UNET, **_VOLUME, "in_channels": 1}),
    ("basic-unet", "BasicUNet", (1, 32, 32), {**_PLANE, "features": (4, 4, 8, 16, 16, 4)}),
    ("segresnet", "SegResNet", (1, 32, 32), {**_PLANE, "init_filters": 8}),
    ("dynunet", "DynUNet", (1, 32, 32), {**_PLANE, **_DYN, "in_channels": 1, "out_channels": 2}),
    ("vnet", "VNet", (1, 32, 32), {**_PLANE}),
    ("highresnet", "HighResNet", (1, 32, 32), {**_PLANE}),
]


def _build(name: str, **options: Any) -> nn.Module:
    from monai.networks import nets

    return getattr(nets, name)(**options)


def _noisy(n: int) -> Inputs:
    """Noisy images and their steps of diffusion."""
    return Inputs((torch.randn(n, 1, 32, 32), torch.arange(n)))


def _entry(name: str, made: str, size: tuple[int, ...], options: dict[str, Any], *, attention: bool) -> Entry:
    builder = partial(_build, made, **options)
    return Entry("monai", made, name, builder, noise(*size), attention=attention, quick=name == "attention-unet")


ENTRIES = (
    *(_entry(*row, attention=True) for row in _ATTENTION),
    *(_entry(*row, attention=False) for row in _PLAIN),
    Entry(
        "monai",
        "DiffusionModelUNet",
        "diffusion-unet",
        partial(_build, "DiffusionModelUNet", **_DIFFUSION, **_PLANE),
        _noisy,
    ),
)

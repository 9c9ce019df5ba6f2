"""Denoising networks and autoencoders of diffusers."""

from functools import partial
from typing import Any

import torch
from conformance.entry import Entry, Inputs, noise
from torch import nn

_BLOCKS = {"block_out_channels": (8, 16), "norm_num_groups": 4}
_UNET = {**_BLOCKS, "sample_size": 16, "attention_head_dim": 4}
_DIT = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "in_channels": 4,
    "num_layers": 2,
    "sample_size": 8,
    "patch_size": 2,
}
_VAE = {**_BLOCKS, "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
_SD3 = {"sample_size": 8, "patch_size": 2, "in_channels": 4, "num_layers": 2, "attention_head_dim": 8}
_PIXART = {**_DIT, "cross_attention_dim": 16, "caption_channels": 12, "out_channels": 8}


def _build(name: str, **options: Any) -> nn.Module:
    import diffusers

    return getattr(diffusers, name)(**options)


def _images_at_step(n: int) -> Inputs:
    return Inputs((torch.randn(n, 3, 16, 16), torch.tensor(5)))


def _latents_at_step(n: int) -> Inputs:
    return Inputs((torch.randn(n, 4, 16, 16), torch.tensor(5), torch.randn(n, 7, 12)))


def _latents_of_classes(n: int) -> Inputs:
    labels = {"timestep": torch.tensor([3] * n), "class_labels": torch.tensor([1] * n)}
    return Inputs((torch.randn(n, 4, 8, 8),), labels)


def _latents_of_captions(n: int) -> Inputs:
    options = {"timestep": torch.tensor([3] * n), "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}}
    return Inputs((torch.randn(n, 4, 8, 8), torch.randn(n, 5, 12)), options)


def _latents_of_texts(n: int) -> Inputs:
    options = {
        "encoder_hidden_states": torch.randn(n, 5, 12),
        "pooled_projections": torch.randn(n, 10),
        "timestep": torch.tensor([3] * n),
    }
    return Inputs((torch.randn(n, 4, 8, 8),), options)


def _packed_latents(n: int) -> Inputs:
    """Latents as tokens, with the positions of tokens of image and text."""
    grid = torch.stack(torch.meshgrid(torch.zeros(1), torch.arange(4.0), torch.arange(4.0), indexing="ij"), dim=-1)
    options = {
        "hidden_states": torch.randn(n, 16, 4),
        "encoder_hidden_states": torch.randn(n, 5, 12),
        "pooled_projections": torch.randn(n, 10),
        "timestep": torch.full((n,), 0.5),
        "img_ids": grid.reshape(16, 3),
        "txt_ids": torch.zeros(5, 3),
    }
    return Inputs((), options)


ENTRIES = (
    Entry(
        "diffusers",
        "UNet2DModel",
        "unet",
        partial(
            _build,
            "UNet2DModel",
            **_UNET,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        ),
        _images_at_step,
        quick=True,
    ),
    Entry(
        "diffusers",
        "UNet2DConditionModel",
        "unet-with-text",
        partial(
            _build,
            "UNet2DConditionModel",
            **_UNET,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=12,
        ),
        _latents_at_step,
    ),
    Entry(
        "diffusers",
        "DiTTransformer2DModel",
        "dit",
        partial(_build, "DiTTransformer2DModel", **_DIT, num_embeds_ada_norm=10),
        _latents_of_classes,
    ),
    Entry(
        "diffusers",
        "PixArtTransformer2DModel",
        "pixart",
        partial(_build, "PixArtTransformer2DModel", **_PIXART),
        _latents_of_captions,
    ),
    Entry(
        "diffusers",
        "SD3Transformer2DModel",
        "sd3",
        partial(
            _build,
            "SD3Transformer2DModel",
            **_SD3,
            num_attention_heads=2,
            joint_attention_dim=12,
            caption_projection_dim=16,
            pooled_projection_dim=10,
            out_channels=4,
            pos_embed_max_size=8,
        ),
        _latents_of_texts,
    ),
    Entry(
        "diffusers",
        "FluxTransformer2DModel",
        "flux",
        partial(
            _build,
            "FluxTransformer2DModel",
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=12,
            pooled_projection_dim=10,
            axes_dims_rope=(2, 2, 4),
        ),
        _packed_latents,
    ),
    Entry("diffusers", "AutoencoderKL", "vae", partial(_build, "AutoencoderKL", **_VAE), noise(3, 32, 32)),
    Entry(
        "diffusers",
        "AutoencoderTiny",
        "tiny-autoencoder",
        partial(
            _build,
            "AutoencoderTiny",
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        ),
        noise(3, 32, 32),
        attention=False,
    ),
    Entry(
        "diffusers",
        "UNet2DModel",
        "unet-without-attention",
        partial(
            _build,
            "UNet2DModel",
            **_UNET,
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
            add_attention=False,
        ),
        _images_at_step,
        attention=False,
    ),
)

"""The vision transformers of vit-pytorch: one small model of each module."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from conformance.entry import Entry, Inputs, noise
from torch import nn

_VIT = {"image_size": 64, "patch_size": 16, "num_classes": 5, "dim": 32, "depth": 2, "heads": 2, "mlp_dim": 48}
_HEADS = {**_VIT, "dim_head": 16}
_SERIES = {**{name: value for name, value in _HEADS.items() if name != "image_size"}, "seq_len": 64}
_VIDEO = {
    **{name: value for name, value in _HEADS.items() if name != "patch_size"},
    "image_patch_size": 16,
    "frames": 4,
    "frame_patch_size": 2,
}
_VIVIT = {**{name: value for name, value in _VIDEO.items() if name != "depth"}, "spatial_depth": 1, "temporal_depth": 1}
_ND = {
    **{name: value for name, value in _HEADS.items() if name != "image_size"},
    "ndim": 3,
    "input_shape": (4, 32, 32),
    "patch_size": (2, 16, 16),
}
_CVT = {
    f"s{stage}_{name}": value
    for stage, width in ((1, 16), (2, 24), (3, 32))
    for name, value in (("emb_dim", width), ("heads", 2), ("depth", 1))
}
_TWINS = {
    f"s{stage}_{name}": value
    for stage, width in ((1, 16), (2, 24), (3, 32), (4, 32))
    for name, value in (("emb_dim", width), ("local_patch_size", 2), ("global_k", 2), ("depth", 1))
}

# Classes that take the arguments of an ordinary vision transformer: module, class, further arguments.
_ORDINARY: list[tuple[Any, ...]] = [
    ("ats_vit", "ViT", {"max_tokens_per_depth": (8, 4)}),
    ("attn_residual_with_dca_simple_vit", "SimpleViT"),
    ("cait", "CaiT", {"cls_depth": 1}),
    ("deepvit", "DeepViT"),
    ("jet_vit", "JetViT", {"window_size": 3}),
    ("jumbo_vit", "JumboViT"),
    ("learnable_memory_vit", "ViT"),
    ("mp3", "ViT"),
    ("normalized_vit", "nViT"),
    ("parallel_vit", "ViT"),
    ("pit", "PiT", {"depth": (1, 1), "patch_size": 8}),
    ("rvt", "RvT"),
    ("simple_flash_attn_vit", "SimpleViT"),
    ("simple_uvit", "SimpleUViT"),
    ("simple_vit", "SimpleViT", {}, True),
    ("simple_vit_attn_residual", "SimpleViTAttnResidual"),
    ("simple_vit_orthog_residual_update", "SimpleViT"),
    ("simple_vit_with_fft", "SimpleViT", {"freq_patch_size": 16}),
    ("simple_vit_with_hyper_connections", "SimpleViT", {"num_residual_streams": 2}),
    ("simple_vit_with_patch_dropout", "SimpleViT"),
    ("simple_vit_with_qk_norm", "SimpleViT"),
    ("simple_vit_with_register_tokens", "SimpleViT"),
    ("simple_vit_with_relative_proj_pos_bias", "SimpleViT"),
    ("simple_vit_with_sparse_gating", "SimpleViTWithSparseGating"),
    ("simple_vit_with_specialized_cls", "SimpleViT"),
    ("simple_vit_with_value_residual", "SimpleViT"),
    ("vat", "ViT", {"num_register_tokens": 2}),
    ("vit", "ViT"),
    ("vit_5", "ViT"),
    ("vit_detpool", "ViTDetPool"),
    ("vit_for_small_dataset", "ViT"),
    ("vit_with_decorr", "ViT"),
    ("vit_with_keel_post_ln", "ViT"),
    ("vit_with_patch_dropout", "ViT"),
    ("vit_with_patch_merger", "ViT", {"patch_merge_layer": 1}),
    ("wwt", "WWT", {"num_slots": 4}),
    ("xcit", "XCiT", {"cls_depth": 1}),
]

# Classes with arguments of their own: module, class, size of one input, all arguments.
_OWN: list[tuple[str, str, tuple[int, ...], dict[str, Any]]] = [
    ("cct", "CCT", (3, 64, 64), {"img_size": 64, "embedding_dim": 32, "num_layers": 2, "num_heads": 2}),
    (
        "cct_3d",
        "CCT",
        (3, 8, 32, 32),
        {"img_size": 32, "num_frames": 8, "embedding_dim": 32, "num_layers": 2, "num_heads": 2},
    ),
    ("cvt", "CvT", (3, 64, 64), {"num_classes": 5, **_CVT}),
    (
        "cross_vit",
        "CrossViT",
        (3, 64, 64),
        {"image_size": 64, "num_classes": 5, "sm_dim": 32, "lg_dim": 48, "sm_patch_size": 8, "depth": 1},
    ),
    (
        "crossformer",
        "CrossFormer",
        (3, 64, 64),
        {"dim": (32, 32, 64, 64), "depth": (1, 1, 1, 1), "local_window_size": 2, "global_window_size": (4, 2, 2, 1)},
    ),
    (
        "levit",
        "LeViT",
        (3, 64, 64),
        {"image_size": 64, "num_classes": 5, "dim": 32, "depth": 1, "heads": 2, "mlp_mult": 2},
    ),
    (
        "look_vit",
        "LookViT",
        (3, 48, 48),
        {"image_size": 48, "num_classes": 5, "dim": 32, "depth": 1, "heads": 2, "patch_size": 16},
    ),
    (
        "looped_vit",
        "LoopedViT",
        (3, 64, 64),
        {
            "image_size": 64,
            "patch_size": 16,
            "num_classes": 5,
            "dim": 32,
            "pre_loop_depth": 1,
            "num_looped_blocks": 1,
            "post_loop_depth": 1,
            "loop_depth": 2,
            "heads": 2,
            "dim_head": 16,
        },
    ),
    ("max_vit", "MaxViT", (3, 64, 64), {"num_classes": 5, "dim": 16, "depth": (1, 1), "dim_head": 8, "window_size": 4}),
    (
        "max_vit_with_registers",
        "MaxViT",
        (3, 64, 64),
        {"num_classes": 5, "dim": 16, "depth": (1, 1), "dim_head": 8, "window_size": 4},
    ),
    (
        "mobile_vit",
        "MobileViT",
        (3, 64, 64),
        {
            "image_size": (64, 64),
            "dims": [16, 24, 32],
            "channels": [8, 8, 16, 16, 16, 16, 24, 24, 32, 32, 32],
            "num_classes": 5,
            "depths": (1, 1, 1),
        },
    ),
    (
        "nest",
        "NesT",
        (3, 64, 64),
        {
            "image_size": 64,
            "patch_size": 4,
            "num_classes": 5,
            "dim": 16,
            "heads": 2,
            "num_hierarchies": 2,
            "block_repeats": (1, 1),
        },
    ),
    (
        "regionvit",
        "RegionViT",
        (3, 64, 64),
        {"dim": (16, 16, 32, 32), "depth": (1, 1, 1, 1), "window_size": 2, "num_classes": 5},
    ),
    (
        "scalable_vit",
        "ScalableViT",
        (3, 64, 64),
        {
            "num_classes": 5,
            "dim": 16,
            "depth": (1, 1, 1, 1),
            "heads": (1, 2, 2, 2),
            "reduction_factor": (4, 2, 1, 1),
            "window_size": (4, 2, None, None),
        },
    ),
    ("sep_vit", "SepViT", (3, 56, 56), {"num_classes": 5, "dim": 16, "depth": (1, 1), "heads": (1, 2), "dim_head": 8}),
    (
        "t2t",
        "T2TViT",
        (3, 64, 64),
        {"image_size": 64, "num_classes": 5, "dim": 32, "depth": 1, "heads": 2, "mlp_dim": 48},
    ),
    ("twins_svt", "TwinsSVT", (3, 64, 64), {"num_classes": 5, **_TWINS}),
    ("simple_flash_attn_vit_3d", "SimpleViT", (3, 4, 64, 64), _VIDEO),
    ("simple_vit_1d", "SimpleViT", (3, 64), _SERIES),
    ("simple_vit_3d", "SimpleViT", (3, 4, 64, 64), _VIDEO),
    ("vit_1d", "ViT", (3, 64), _SERIES),
    ("vit_3d", "ViT", (3, 4, 64, 64), _VIDEO),
    ("vit_nd", "ViTND", (3, 4, 32, 32), _ND),
    ("vit_nd_pope", "ViTND", (3, 4, 32, 32), _ND),
    ("vit_nd_rotary", "ViTND", (3, 4, 32, 32), _ND),
    ("vivit", "ViViT", (3, 4, 64, 64), _VIVIT),
    ("vivit_with_moss", "ViViT", (3, 4, 64, 64), _VIVIT),
]


def _build(module: str, name: str, options: dict[str, Any]) -> nn.Module:
    return getattr(import_module(f"vit_pytorch.{module}"), name)(**options)


def _entry(module: str, name: str, options: dict[str, Any], batch: Callable[[int], Inputs], **facts: Any) -> Entry:
    return Entry("vit_pytorch", module, module, partial(_build, module, name, options), batch, **facts)


def _ordinary(module: str, name: str, options: Any = None, quick: bool = False) -> Entry:
    return _entry(module, name, {**_HEADS, **(options or {})}, noise(3, 64, 64), quick=quick)


def _images(n: int) -> Inputs:
    """``n`` images of two sizes in one list."""
    return Inputs(([torch.randn(3, 64 - 16 * (index % 2), 64) for index in range(n)],))


ENTRIES = (
    *(_ordinary(*row) for row in _ORDINARY),
    *(_entry(module, name, options, noise(*size)) for module, name, size, options in _OWN),
    _entry("na_vit", "NaViT", _HEADS, lambda n: Inputs((*_images(n).args, True, 32))),
    _entry("na_vit_nested_tensor", "NaViT", _HEADS, _images),
)

"""Vision transformers of x-transformers, one for each variant of attention."""

from functools import partial
from typing import Any

from conformance.entry import Entry
from torch import nn

_VARIANTS: dict[str, dict[str, Any]] = {
    "vit": {},
    "flash": {"attn_flash": True},
    "talking-heads": {"attn_pre_talking_heads": True, "attn_post_talking_heads": True},
    "sparse-top-k": {"attn_sparse_topk": 4},
    "hard": {"attn_hard": True},
    "gate-values": {"attn_gate_values": True},
    "gate-value-heads": {"attn_gate_value_heads": True},
    "qk-norm": {"attn_qk_norm": True},
    "memory-keys": {"attn_num_mem_kv": 2},
    "zero-key": {"attn_add_zero_kv": True},
    "one-key-head": {"attn_kv_heads": 1},
    "rms-norm": {"use_rmsnorm": True},
    "macaron": {"macaron": True},
    "alibi": {"alibi_pos_bias": True},
    "data-dependent-alibi": {"attn_data_dependent_alibi": True},
    "relative-positions": {"rel_pos_bias": True},
    "rotary-positions": {"rotary_pos_emb": True},
    "hyper-connections": {"num_residual_streams": 2},
    "laser": {"attn_laser": True},
    "cog-signed": {"attn_cog_signed": True},
    "softclamp-logits": {"attn_softclamp_logits": True},
    "softclamp-output": {"softclamp_output": True},
    "orthogonal-values": {"attn_orthog_projected_values": True},
    "attention-on-attention": {"attn_on_attn": True},
}


def _build(**options: Any) -> nn.Module:
    from x_transformers import Encoder, ViTransformerWrapper

    layers = Encoder(dim=32, depth=2, heads=2, **options)
    return ViTransformerWrapper(image_size=64, patch_size=16, num_classes=3, attn_layers=layers)


ENTRIES = tuple(
    Entry("x_transformers", "ViTransformerWrapper", name, partial(_build, **options), quick=name == "vit")
    for name, options in _VARIANTS.items()
)

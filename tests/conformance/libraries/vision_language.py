"""Vision-language models of transformers: with eager and with fused attention, one pass and the generation of text."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import torch
from conformance.entry import Entry, Inputs
from torch import Tensor, nn

_IMAGE, _PAD = 99, 0
_LAYERS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_VISION = {**_LAYERS, "image_size": 32, "patch_size": 8}
_TOKENS = {"vocab_size": 100, "pad_token_id": _PAD, "bos_token_id": 1, "eos_token_id": 2}
_TEXT = {**_LAYERS, **_TOKENS, "num_key_value_heads": 2, "max_position_embeddings": 128}
_BERT = {**_LAYERS, "vocab_size": 100, "encoder_hidden_size": 32}


def _of(name: str, **config: Any) -> nn.Module:
    import transformers

    model_class = getattr(transformers, name)
    return model_class(model_class.config_class(**config))


def _config(name: str, **values: Any) -> Any:
    import transformers

    return getattr(transformers, name)(**values)


def _blip() -> nn.Module:
    text = {**_BERT, **_TOKENS, "max_position_embeddings": 64, "sep_token_id": 2, "projection_dim": 16}
    return _of("BlipForConditionalGeneration", vision_config=_VISION, text_config=text, projection_dim=16)


def _blip2() -> nn.Module:
    sizes = {"ffn_dim": 48, "max_position_embeddings": 64, "word_embed_proj_dim": 32}
    text = _config("OPTConfig", **_LAYERS, **_TOKENS, **sizes).to_dict()
    return _of(
        "Blip2ForConditionalGeneration",
        vision_config=_VISION,
        qformer_config=_BERT,
        text_config=text,
        num_query_tokens=4,
        image_token_index=_IMAGE,
    )


def _git() -> nn.Module:
    return _of("GitForCausalLM", vision_config=_VISION, **_LAYERS, **_TOKENS, max_position_embeddings=64)


def _llava() -> nn.Module:
    return _of(
        "LlavaForConditionalGeneration",
        vision_config=_config("CLIPVisionConfig", **_VISION),
        text_config=_config("LlamaConfig", **_TEXT),
        image_token_index=_IMAGE,
        vision_feature_layer=-1,
    )


def _paligemma() -> nn.Module:
    return _of(
        "PaliGemmaForConditionalGeneration",
        vision_config=_config("SiglipVisionConfig", **_VISION).to_dict(),
        text_config=_config("GemmaConfig", **_TEXT, head_dim=8).to_dict(),
        image_token_index=_IMAGE,
        projection_dim=32,
        hidden_size=32,
    )


def _gemma3() -> nn.Module:
    return _of(
        "Gemma3ForConditionalGeneration",
        vision_config=_config("SiglipVisionConfig", **_VISION).to_dict(),
        text_config=_config("Gemma3TextConfig", **_TEXT, head_dim=8, sliding_window=4).to_dict(),
        image_token_index=_IMAGE,
        mm_tokens_per_image=4,
        boi_token_index=98,
        eoi_token_index=97,
    )


def _qwen2_vl() -> nn.Module:
    positions = {"type": "mrope", "rope_type": "default", "mrope_section": [1, 1, 2]}
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2, "patch_size": 8}
    return _of(
        "Qwen2VLForConditionalGeneration",
        text_config={**_TEXT, "rope_scaling": positions},
        vision_config={**vision, "spatial_merge_size": 2, "temporal_patch_size": 2},
        image_token_id=_IMAGE,
        vision_start_token_id=97,
        vision_end_token_id=96,
        video_token_id=95,
    )


def _idefics3() -> nn.Module:
    text = _config("LlamaConfig", **_TEXT).to_dict()
    options = {"image_token_id": _IMAGE, "scale_factor": 2, "pad_token_id": _PAD}
    return _of("Idefics3ForConditionalGeneration", vision_config=_VISION, text_config=text, **options)


def _trocr() -> nn.Module:
    import transformers

    decoder = transformers.TrOCRConfig(
        **_TOKENS,
        d_model=32,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=48,
        max_position_embeddings=64,
        cross_attention_hidden_size=32,
        decoder_start_token_id=1,
    )
    encoder = transformers.ViTConfig(**_VISION)
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 1, _PAD, 2
    return transformers.VisionEncoderDecoderModel(config)


def _florence2() -> nn.Module:
    stages = {"depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 2], "num_groups": [2, 2, 2, 2]}
    text = {"model_type": "bart", "d_model": 32, "max_position_embeddings": 64, "decoder_start_token_id": 1}
    layers = {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in _BART_LAYERS.items()}
    return _of(
        "Florence2ForConditionalGeneration",
        vision_config={**stages, "embed_dim": [8, 16, 16, 32], "window_size": 4, "projection_dim": 32},
        text_config={**text, **layers, **_TOKENS},
        image_token_id=_IMAGE,
    )


_BART_LAYERS = {"layers": 1, "attention_heads": 2, "ffn_dim": 32}


def _texts(n: int, length: int, images: slice = slice(0)) -> Tensor:
    """Token ids ``(n, length)``; those at ``images`` are of the image."""
    ids = torch.randint(3, 90, (n, length))
    ids[:, images] = _IMAGE
    return ids


def _prompted(length: int, images: slice = slice(0), size: tuple[int, ...] = (3, 32, 32), **names: str) -> Any:
    """A function that makes images and prompts; ``names`` are further arguments: ``types`` marks image tokens."""

    def make(n: int) -> Inputs:
        ids = _texts(n, length, images)
        options = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": torch.randn(n, *size)}
        if "types" in names:
            options[names["types"]] = (ids == _IMAGE).long()
        if "answer" in names:
            options[names["answer"]] = _texts(n, 3)
        return Inputs((), options)

    return make


def _handwriting(n: int) -> Inputs:
    return Inputs((), {"pixel_values": torch.randn(n, 3, 32, 32), "decoder_input_ids": _texts(n, 5)})


def _patches(n: int) -> Inputs:
    """The patches of all images in one sequence, and the size of each image in patches."""
    ids = _texts(n, 10, slice(2, 6))
    ids[:, 1], ids[:, 6] = 97, 96
    options = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(16 * n, 3 * 2 * 64),
        "image_grid_thw": torch.tensor([[1, 4, 4]] * n),
        "mm_token_type_ids": (ids == _IMAGE).int(),
    }
    return Inputs((), options)


_ROWS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Inputs]]] = {
    "blip": (_blip, _prompted(5)),
    "blip2": (_blip2, _prompted(9, slice(0, 4))),
    "git": (_git, _prompted(5)),
    "llava": (_llava, _prompted(22, slice(1, 17))),
    "paligemma": (_paligemma, _prompted(22, slice(0, 16))),
    "gemma3": (_gemma3, _prompted(9, slice(1, 5), types="token_type_ids")),
    "qwen2-vl": (_qwen2_vl, _patches),
    "idefics3": (_idefics3, _prompted(9, slice(1, 5), (1, 3, 32, 32))),
    "trocr": (_trocr, _handwriting),
    "florence2": (_florence2, _prompted(14, slice(1, 6), (3, 64, 64), answer="decoder_input_ids")),
}
_LOOPS = {"qwen2-vl": "its vision encoder runs attention for each image in Python"}
_ONLY_EAGER = {"blip", "git"}  # their implementation of attention cannot be chosen
_QUICK = {"llava.sdpa.generate"}


def _with(builder: Callable[[], nn.Module], implementation: str) -> nn.Module:
    model = builder()
    model.set_attn_implementation(implementation)
    return model


def _generating(batch: Callable[[int], Inputs]) -> Callable[[int], Inputs]:
    """The inputs of ``generate``: three tokens are generated."""

    def make(n: int) -> Inputs:
        options = {name: value for name, value in batch(n).kwargs.items() if name != "decoder_input_ids"}
        return Inputs((), {**options, "max_new_tokens": 3, "do_sample": False})

    return make


def _entry(family: str, implementation: str, method: str) -> Entry:
    builder, batch = _ROWS[family]
    name = f"{family}.{implementation}.{method}"
    return Entry(
        "transformers",
        family,
        name,
        partial(_with, builder, implementation),
        _generating(batch) if method == "generate" else batch,
        method="generate" if method == "generate" else "",
        quick=name in _QUICK,
        varies=_LOOPS.get(family, ""),
    )


ENTRIES = tuple(
    _entry(family, implementation, method)
    for family, implementation, method in product(_ROWS, ("eager", "sdpa"), ("forward", "generate"))
    if implementation == "eager" or family not in _ONLY_EAGER
)

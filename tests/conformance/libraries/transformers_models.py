"""Small models of transformers, built from configurations with the default attention implementation."""

from collections.abc import Callable
from typing import Any

from conformance.entry import Entry, noise
from torch import Tensor, nn

_ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_IMAGE = {"image_size": 64, "patch_size": 16}
_VIDEO = {**_ENCODER, "image_size": 32, "patch_size": 16, "num_frames": 4}


class OfPixels(nn.Module):
    """A model of transformers that takes pixels and returns a tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        output = self.model(pixel_values=pixels)
        return next(value for value in output.values() if isinstance(value, Tensor))


def _of(name: str, **config: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        model_class = getattr(transformers, name)
        return OfPixels(model_class(model_class.config_class(**config)))

    return build


def _backbone() -> Any:
    from transformers import ResNetConfig

    return ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )


def _detr(name: str, **config: Any) -> Callable[[], nn.Module]:
    layers = {
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "num_queries": 5,
    }

    def build() -> nn.Module:
        return _of(name, **layers, backbone_config=_backbone(), **config)()

    return build


def _mask2former() -> nn.Module:
    from transformers import SwinConfig

    backbone = SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 2, 2, 4],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return _of(
        "Mask2FormerForUniversalSegmentation",
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=64,
        encoder_layers=2,
        decoder_layers=3,
        num_attention_heads=4,
        dim_feedforward=64,
        num_queries=5,
        num_labels=7,
    )()


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "vit": _of("ViTForImageClassification", **_ENCODER, **_IMAGE),
    "deit": _of("DeiTForImageClassification", **_ENCODER, **_IMAGE),
    "beit": _of("BeitForImageClassification", **_ENCODER, **_IMAGE, use_relative_position_bias=True),
    "vit_mae": _of(
        "ViTMAEForPreTraining",
        **_ENCODER,
        **_IMAGE,
        decoder_hidden_size=32,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=64,
    ),
    "dinov2_with_registers": _of("Dinov2WithRegistersForImageClassification", **_ENCODER, **_IMAGE),
    "clip_vision": _of("CLIPVisionModel", **_ENCODER, **_IMAGE),
    "siglip_vision": _of("SiglipVisionModel", **_ENCODER, **_IMAGE),
    "dinov3": _of("DINOv3ViTModel", **_ENCODER, **_IMAGE, num_register_tokens=4),
    "swin": _of(
        "SwinForImageClassification", image_size=64, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4
    ),
    "pvt": _of(
        "PvtForImageClassification",
        image_size=64,
        hidden_sizes=[8, 16, 40, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 5, 8],
    ),
    "pvt_v2": _of("PvtV2ForImageClassification", image_size=64, hidden_sizes=[8, 16, 40, 32], depths=[1, 1, 1, 1]),
    "focalnet": _of("FocalNetForImageClassification", image_size=64, embed_dim=16, depths=[1, 1, 1, 1]),
    "segformer": _of(
        "SegformerForSemanticSegmentation", hidden_sizes=[8, 16, 40, 32], depths=[1, 1, 1, 1], decoder_hidden_size=32
    ),
    "detr": _detr("DetrForObjectDetection"),
    "deformable_detr": _detr("DeformableDetrForObjectDetection"),
    "mask2former": _mask2former,
    "videomae": _of("VideoMAEForVideoClassification", **_VIDEO, tubelet_size=2),
    "timesformer": _of("TimesformerForVideoClassification", **_VIDEO),
    "vivit": _of("VivitForVideoClassification", **_VIDEO, tubelet_size=[2, 16, 16]),
}
_SIZES = dict.fromkeys(("videomae", "timesformer", "vivit"), (4, 3, 32, 32))
_SIZES["deformable_detr"] = (3, 128, 128)  # with one image of 64 pixels, a group normalisation has one value per group
_QUICK = frozenset("vit beit segformer detr timesformer".split())
ENTRIES = tuple(
    Entry("transformers", name, name, builder, noise(*_SIZES.get(name, (3, 64, 64))), quick=name in _QUICK)
    for name, builder in BUILDERS.items()
)

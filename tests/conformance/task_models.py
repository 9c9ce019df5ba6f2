"""Models of every task, small and with random weights, with the request that is explained."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnviz.core.model_inputs import Inputs
from attnviz.targets import TASKS, ClassLogit, Request, Target, Task


@dataclass(frozen=True)
class Row:
    """One model of the table.

    Attributes:
        name: Library and model.
        build: Returns the model; a library that is not installed raises ``ImportError``.
        inputs: Returns its inputs, by default an image of 64 × 96 pixels.
        task: Name of the task, ``None`` if it is found from the output.
        labels: Names of classes.
        request: What is explained.
        output: Part of the output.
        images: Index or name of the images among the inputs.
        has_attention: Whether the model has attention with a map on the image; that of volumes is captured without one.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Inputs] = lambda: image(64, 96)
    task: str | None = None
    labels: tuple[str, ...] = ()
    request: Request | Target | int = field(default_factory=Request)
    output: str | None = None
    images: int | str | None = None
    has_attention: bool = False

    @property
    def found_task(self) -> Task | None:
        """The task that is given."""
        return None if self.task is None else TASKS[self.task]


def image(*size: int, channels: int = 3) -> Tensor:
    return torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(1))


def lively(model: nn.Module, variance: float) -> nn.Module:
    """With statistics of normalisation under which an untrained detector still responds to the image."""
    for module in model.modules():
        if isinstance(getattr(module, "running_var", None), Tensor):
            module.running_var.fill_(variance)
    return model.eval()


def of_torchvision(package: str, name: str, variance: float = 1.0, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        models = importlib.import_module(f"torchvision.models.{package}")
        torch.manual_seed(1)
        model = getattr(models, name)(weights=None, weights_backbone=None, num_classes=4, **options)
        return lively(model, variance)

    return build


_BOXES: dict[str, Any] = {"min_size": 128, "max_size": 192}
_ALL = {"box_score_thresh": 0.0, "box_detections_per_img": 5, **_BOXES}
_SINGLE = {"score_thresh": 0.0, "detections_per_img": 5}


def of_transformers(
    name: str, make: Callable[[Any], Any], repeated: Any = None, shared: Any = None
) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from attnviz.models.transformers_inputs import ImageModel

        library = importlib.import_module("transformers")
        torch.manual_seed(1)
        return ImageModel(getattr(library, name)(make(library)), shared, repeated).eval()

    return build


_DETR: dict[str, Any] = {
    "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "d_model": 32, "encoder_layers": 1,
    "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32, "num_queries": 9, "num_labels": 5,
}  # fmt: skip
_TEXT = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 20,
    "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
}  # fmt: skip
_VISION = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 64,
    "patch_size": 16,
}  # fmt: skip
_TOKENS = torch.tensor([[0, 5, 6, 1], [0, 7, 8, 1]])


def _resnet(library: Any, stages: tuple[str, ...]) -> Any:
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    return library.ResNetConfig(**sizes, out_features=list(stages))


_LEVELS = ("stage2", "stage3", "stage4")


def _rt_detr(library: Any) -> Any:
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    backbone = library.RTDetrResNetConfig(**sizes, out_features=list(_LEVELS))
    return library.RTDetrConfig(
        backbone_config=backbone, encoder_in_channels=[16, 24, 32], encoder_hidden_dim=32, d_model=32,
        decoder_in_channels=[32, 32, 32], encoder_ffn_dim=32, decoder_ffn_dim=32, decoder_layers=2, num_queries=9,
        decoder_attention_heads=4, encoder_attention_heads=4, num_labels=5, hidden_expansion=1.0,
    )  # fmt: skip


def _swin(library: Any, stages: tuple[str, ...]) -> Any:
    sizes = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 4}
    return library.SwinConfig(image_size=128, **sizes, out_features=list(stages))


def _mask2former(library: Any) -> Any:
    return library.Mask2FormerConfig(
        backbone_config=_swin(library, ("stage1", *_LEVELS)), feature_size=32, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=32, encoder_layers=1, decoder_layers=3, num_attention_heads=4, dim_feedforward=32,
        num_queries=7, num_labels=5,
    )  # fmt: skip


def _upernet(library: Any) -> Any:
    backbone = library.ConvNextConfig(
        hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_features=["stage1", *_LEVELS]
    )
    sizes = {"hidden_size": 16, "pool_scales": [1, 2], "auxiliary_in_channels": 24, "auxiliary_channels": 16}
    return library.UperNetConfig(backbone_config=backbone, num_labels=5, **sizes)


def _sam(library: Any) -> Any:
    vision = library.SamVisionConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=128, patch_size=16, output_channels=32,
        mlp_dim=32, window_size=4, global_attn_indexes=[1], num_pos_feats=16,
    )  # fmt: skip
    prompt = library.SamPromptEncoderConfig(hidden_size=32, image_size=128, patch_size=16)
    decoder = library.SamMaskDecoderConfig(hidden_size=32, mlp_dim=32, num_attention_heads=4, iou_head_hidden_dim=16)
    return library.SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)


def _grounding_dino(library: Any) -> Any:
    text = library.BertConfig(
        vocab_size=20, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32
    )
    options = {key: value for key, value in _DETR.items() if key not in {"use_pretrained_backbone", "num_labels"}}
    return library.GroundingDinoConfig(
        backbone_config=_swin(library, _LEVELS), text_config=text, max_text_len=16, **options
    )


def _depth_anything(library: Any) -> Any:
    backbone = library.Dinov2Config(
        image_size=56, patch_size=14, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
        out_features=["stage1", *_LEVELS], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    sizes = {"neck_hidden_sizes": [8, 16, 24, 32], "fusion_hidden_size": 16, "head_hidden_size": 8}
    return library.DepthAnythingConfig(backbone_config=backbone, reassemble_hidden_size=32, **sizes)


def _blip(library: Any) -> Any:
    return library.BlipConfig(
        text_config={**_TEXT, "encoder_hidden_size": 32}, vision_config=_VISION, image_text_hidden_size=16
    )


def of_timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torch.manual_seed(1)
        return importlib.import_module("timm").create_model(name, pretrained=False, **options).eval()

    return build


def scse_unet() -> nn.Module:
    smp = importlib.import_module("segmentation_models_pytorch")
    torch.manual_seed(1)
    return smp.Unet("resnet18", encoder_weights=None, classes=3, decoder_attention_type="scse").eval()


def of_monai(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        nets = importlib.import_module("monai.networks.nets")
        torch.manual_seed(1)
        return getattr(nets, name)(**options).eval()

    return build


class Gate(nn.Module):
    """A spatial gate, as in CBAM."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))


class Siamese(nn.Module):
    """A shared encoder with a gate sees two images; their difference is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.second = nn.Conv2d(3, 8, 3, 2, 1), Gate(), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def encode(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.gate(F.relu(self.first(x)))))

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        return self.head((self.encode(after) - self.encode(before)).abs().mean((2, 3)))


class TwoHeads(nn.Module):
    """Classes and a value from the same features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate = nn.Conv2d(3, 8, 3, 2, 1), Gate()
        self.classes, self.age = nn.Linear(8, 4), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Mapping[str, Tensor]:
        features = self.gate(F.relu(self.first(x))).mean((2, 3))
        return {"classes": self.classes(features), "age": self.age(features)}


def built(model: type[nn.Module]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torch.manual_seed(1)
        return model().eval()

    return build


FIVE = ("a", "b", "c", "d", "e")
_SEGMENTATION = {"task": "segmentation", "inputs": lambda: image(128, 128)}
ROWS = (
    Row(
        "torchvision Faster R-CNN",
        of_torchvision("detection", "fasterrcnn_mobilenet_v3_large_320_fpn", 0.3, **_ALL),
        has_attention=True,
    ),
    Row("torchvision RetinaNet", of_torchvision("detection", "retinanet_resnet50_fpn", **_SINGLE, **_BOXES)),
    Row(
        "torchvision SSDLite",
        of_torchvision("detection", "ssdlite320_mobilenet_v3_large", **_SINGLE),
        has_attention=True,
    ),
    Row("torchvision FCOS", of_torchvision("detection", "fcos_resnet50_fpn", **_SINGLE, **_BOXES)),
    Row("torchvision Mask R-CNN", of_torchvision("detection", "maskrcnn_resnet50_fpn", **_ALL)),
    Row("torchvision DeepLabV3", of_torchvision("segmentation", "deeplabv3_mobilenet_v3_large"), has_attention=True),
    Row("torchvision LR-ASPP", of_torchvision("segmentation", "lraspp_mobilenet_v3_large"), has_attention=True),
    Row("torchvision FCN", of_torchvision("segmentation", "fcn_resnet50")),
    Row(
        "transformers DETR",
        of_transformers(
            "DetrForObjectDetection", lambda t: t.DetrConfig(backbone_config=_resnet(t, ("stage4",)), **_DETR)
        ),
        labels=FIVE,
        has_attention=True,
    ),
    Row(
        "transformers Deformable DETR",
        of_transformers(
            "DeformableDetrForObjectDetection",
            lambda t: t.DeformableDetrConfig(backbone_config=_resnet(t, _LEVELS), num_feature_levels=4, **_DETR),
        ),
        labels=FIVE,
        has_attention=True,
    ),
    Row(
        "transformers RT-DETR",
        of_transformers("RTDetrForObjectDetection", _rt_detr),
        lambda: image(128, 128),
        labels=FIVE,
        has_attention=True,
    ),
    Row(
        "transformers Mask2Former",
        of_transformers("Mask2FormerForUniversalSegmentation", _mask2former),
        labels=FIVE,
        has_attention=True,
        **_SEGMENTATION,
    ),
    Row(
        "transformers SegFormer",
        of_transformers(
            "SegformerForSemanticSegmentation",
            lambda t: t.SegformerConfig(
                hidden_sizes=[8, 16, 24, 32],
                depths=[1, 1, 1, 1],
                decoder_hidden_size=16,
                num_attention_heads=[1, 2, 2, 2],
                num_labels=5,
            ),
        ),
        labels=FIVE,
        has_attention=True,
        **_SEGMENTATION,
    ),
    Row(
        "transformers UperNet",
        of_transformers("UperNetForSemanticSegmentation", _upernet),
        labels=FIVE,
        **_SEGMENTATION,
    ),
    Row(
        "transformers SAM",
        of_transformers("SamModel", _sam, repeated={"input_points": torch.tensor([[[[64.0, 64.0]]]])}),
        has_attention=True,
        **_SEGMENTATION,
    ),
    Row(
        "transformers CLIP",
        of_transformers(
            "CLIPModel",
            lambda t: t.CLIPConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=16),
            shared={"input_ids": _TOKENS},
        ),
        lambda: image(64, 64),
        labels=("a cat", "a dog"),
        has_attention=True,
    ),
    Row(
        "transformers SigLIP",
        of_transformers(
            "SiglipModel",
            lambda t: t.SiglipConfig(text_config=_TEXT, vision_config=_VISION),
            shared={"input_ids": _TOKENS},
        ),
        lambda: image(64, 64),
        "multi-label",
        ("a cat", "a dog"),
        has_attention=True,
    ),
    Row(
        "transformers BLIP",
        of_transformers("BlipForImageTextRetrieval", _blip, repeated={"input_ids": _TOKENS[:1]}),
        lambda: image(64, 64),
        "classification",
        ("no match", "match"),
        Request(1),
        has_attention=True,
    ),
    Row(
        "transformers OWL-ViT",
        of_transformers(
            "OwlViTForObjectDetection",
            lambda t: t.OwlViTConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=32),
            repeated={"input_ids": _TOKENS + 3},
        ),
        lambda: image(64, 64),
        labels=("a cat", "a dog"),
        request=Request(query=5),
        has_attention=True,
    ),
    Row(
        "transformers Grounding DINO",
        of_transformers(
            "GroundingDinoForObjectDetection", _grounding_dino, repeated={"input_ids": torch.tensor([[3, 5, 6, 4]])}
        ),
        lambda: image(128, 128),
        labels=("", "a cat", "a cat", ""),
        request=Request(query=2),
        has_attention=True,
    ),
    Row(
        "transformers DINOv2, headless",
        of_transformers(
            "Dinov2Model",
            lambda t: t.Dinov2Config(
                image_size=56, patch_size=14, hidden_size=32, num_hidden_layers=3, num_attention_heads=4
            ),
        ),
        lambda: image(56, 84),
        "embedding",
        has_attention=True,
    ),
    Row(
        "transformers Depth-Anything",
        of_transformers("DepthAnythingForDepthEstimation", _depth_anything),
        lambda: image(112, 112),
        has_attention=True,
    ),
    Row("timm, num_classes=0", of_timm("seresnet18", num_classes=0), task="embedding", has_attention=True),
    Row(
        "timm, in_chans=1",
        of_timm("seresnet18", num_classes=5, in_chans=1),
        lambda: image(64, 96, channels=1),
        request=2,
        has_attention=True,
    ),
    Row(
        "timm, in_chans=12",
        of_timm("seresnet18", num_classes=5, in_chans=12),
        lambda: image(64, 96, channels=12),
        request=2,
        has_attention=True,
    ),
    Row("timm, num_classes=1", of_timm("seresnet18", num_classes=1), request=Request(), has_attention=True),
    Row("segmentation-models-pytorch U-Net with scSE", scse_unet, lambda: image(64, 96), has_attention=True),
    Row(
        "MONAI SE-ResNet in 3-D",
        of_monai("SEResNet50", spatial_dims=3, in_channels=1, num_classes=3),
        lambda: image(32, 48, 48, channels=1),
        request=1,
    ),
    Row(
        "MONAI UNETR in 3-D",
        of_monai(
            "UNETR",
            in_channels=1,
            out_channels=2,
            img_size=(32, 32, 32),
            feature_size=8,
            hidden_size=48,
            mlp_dim=64,
            num_heads=4,
        ),
        lambda: image(32, 32, 32, channels=1),
        task="segmentation",
    ),
    Row(
        "a Siamese network",
        built(Siamese),
        lambda: (image(32, 48), image(32, 48).flip(3)),
        request=1,
        images=1,
        has_attention=True,
    ),
    Row("a network with two heads", built(TwoHeads), request=ClassLogit(2), output="classes", has_attention=True),
)

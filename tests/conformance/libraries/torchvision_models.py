"""Models of torchvision: classification, segmentation and video."""

from functools import partial
from typing import Any

from conformance.entry import Entry, noise
from torch import nn

_ROWS: list[tuple[Any, ...]] = [
    # family, model, size of one input, attention
    ("alexnet", "alexnet", (3, 64, 64), False),
    ("convnext", "convnext_tiny", (3, 64, 64), False),
    ("densenet", "densenet121", (3, 64, 64), False),
    ("efficientnet", "efficientnet_b0", (3, 64, 64), True),
    ("efficientnet", "efficientnet_v2_s", (3, 64, 64), True),
    ("googlenet", "googlenet", (3, 64, 64), False, {"aux_logits": False, "init_weights": False}),
    ("inception", "inception_v3", (3, 80, 80), False, {"aux_logits": False, "init_weights": False}),
    ("maxvit", "maxvit_t", (3, 224, 224), True),
    ("mnasnet", "mnasnet0_5", (3, 64, 64), False),
    ("mobilenetv2", "mobilenet_v2", (3, 64, 64), False),
    ("mobilenetv3", "mobilenet_v3_small", (3, 64, 64), True),
    ("regnet", "regnet_y_400mf", (3, 64, 64), True),
    ("regnet", "regnet_x_400mf", (3, 64, 64), False),
    ("resnet", "resnet18", (3, 64, 64), False),
    ("resnet", "resnext50_32x4d", (3, 64, 64), False),
    ("shufflenetv2", "shufflenet_v2_x0_5", (3, 64, 64), False),
    ("squeezenet", "squeezenet1_1", (3, 64, 64), False),
    ("swin_transformer", "swin_t", (3, 64, 64), True),
    ("swin_transformer", "swin_v2_t", (3, 64, 64), True),
    ("vgg", "vgg11", (3, 32, 32), False),
    ("vision_transformer", "vit_b_32", (3, 64, 64), True, {"image_size": 64}),
    ("segmentation.deeplabv3", "deeplabv3_mobilenet_v3_large", (3, 64, 64), True, {"weights_backbone": None}),
    ("segmentation.deeplabv3", "deeplabv3_resnet50", (3, 64, 64), False, {"weights_backbone": None}),
    ("segmentation.fcn", "fcn_resnet50", (3, 64, 64), False, {"weights_backbone": None}),
    ("segmentation.lraspp", "lraspp_mobilenet_v3_large", (3, 64, 64), True, {"weights_backbone": None}),
    ("video.mvit", "mvit_v1_b", (3, 16, 224, 224), True),
    ("video.mvit", "mvit_v2_s", (3, 16, 224, 224), True),
    ("video.resnet", "r3d_18", (3, 4, 32, 32), False),
    ("video.resnet", "mc3_18", (3, 4, 32, 32), False),
    ("video.resnet", "r2plus1d_18", (3, 4, 32, 32), False),
    ("video.s3d", "s3d", (3, 16, 224, 224), False),
    ("video.swin_transformer", "swin3d_t", (3, 4, 64, 64), True),
]
_QUICK = frozenset({"mobilenet_v2", "lraspp_mobilenet_v3_large"})


def _build(name: str, **options: Any) -> nn.Module:
    import torchvision

    model = torchvision.models.get_model(name, weights=None, **options)
    for module in model.modules():
        # Its initial weights are 1e-6: the scaled values would vanish in rounding.
        if hasattr(module, "layer_scale"):
            nn.init.constant_(module.layer_scale, 1e-1)
    return model


def _entry(family: str, model: str, size: tuple[int, ...], attention: bool, options: Any = None) -> Entry:
    builder = partial(_build, model, **(options or {}))
    return Entry("torchvision", family, model, builder, noise(*size), attention=attention, quick=model in _QUICK)


ENTRIES = tuple(_entry(*row) for row in _ROWS)

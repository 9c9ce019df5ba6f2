"""The third-party models for the conformance tests, the smallest of each family, with random weights.

The names were chosen by parameter count, so that a run builds one model per family and not two thousand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from conformance.transformers_zoo import BUILDERS
from torch import Tensor, nn


@dataclass(frozen=True)
class Entry:
    """One model of the list.

    Attributes:
        library: ``"timm"``, ``"torchvision"`` or ``"transformers"``.
        family: The module of the library that defines it.
        model: The name of the model in the library.
        size: Shape of one input, without the batch.
        options: Further arguments of the builder.
        attention: Whether the network has attention, by its paper.
        quick: Whether every run of the test suite checks it.
    """

    library: str
    family: str
    model: str
    size: tuple[int, ...] = (3, 224, 224)
    options: Mapping[str, Any] = field(default_factory=dict)
    attention: bool = True
    quick: bool = False

    @property
    def name(self) -> str:
        return f"{self.library}:{self.model}"

    def build(self) -> nn.Module:
        """The model in eval mode, with seeded weights."""
        torch.manual_seed(0)
        return _BUILDERS[self.library](self.model, **self.options).eval()

    def inputs(self, n: int = 2) -> Tensor:
        """A batch of noise."""
        generator = torch.Generator().manual_seed(1)
        return torch.randn(n, *self.size, generator=generator)


def _timm(name: str, **options: Any) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, **options)


def _torchvision(name: str, **options: Any) -> nn.Module:
    import torchvision

    model = torchvision.models.get_model(name, weights=None, **options)
    for module in model.modules():
        # Its initial weights are 1e-6: the scaled values would vanish in rounding.
        if hasattr(module, "layer_scale"):
            nn.init.constant_(module.layer_scale, 1e-1)
    return model


def _transformers(name: str, **options: Any) -> nn.Module:
    return BUILDERS[name](**options)


_BUILDERS = {"timm": _timm, "torchvision": _torchvision, "transformers": _transformers}

# family, model, size in pixels, then options, quick and attention if they differ from the defaults.
_TIMM_ATTENTION: list[tuple[Any, ...]] = [
    ("beit", "beit_base_patch16_224", 64, {"depth": 2, "embed_dim": 192, "num_heads": 3, "img_size": 64}),
    ("byoanet", "halonet_h1", 256),
    ("byoanet", "botnet26t_256", 256),
    ("byoanet", "lambda_resnet26t", 256),
    ("byobnet", "gcresnext26ts", 64),
    ("byobnet", "bat_resnext26ts", 256),
    ("byobnet", "eca_resnext26ts", 64),
    ("byobnet", "regnetz_b16", 64),
    ("byobnet", "resnet50_clip", 224),
    ("cait", "cait_xxs24_224", 64, {"img_size": 64, "depth": 3}, True),
    ("coat", "coat_tiny", 64, {"img_size": 64}),
    ("coat", "coat_lite_tiny", 64, {"img_size": 64}),
    ("convit", "convit_tiny", 64, {"img_size": 64}),
    ("cpubone", "cpubone_nano", 128),
    ("crossvit", "crossvit_9_dagger_240", 240),
    ("csatv2", "csatv2", 256),
    ("cspnet", "cs3sedarknet_l", 64),
    ("cspnext", "cspnext_tiny", 64),
    ("davit", "davit_tiny", 64),
    ("deit", "deit_tiny_distilled_patch16_224", 64, {"img_size": 64, "depth": 2}, True),
    ("edgenext", "edgenext_xx_small", 64, {}, True),
    ("efficientformer", "efficientformer_l1", 224),
    ("efficientformer_v2", "efficientformerv2_s0", 224),
    ("efficientnet", "efficientnet_b0", 64),
    ("efficientnet", "efficientnet_cc_b0_4e", 64),
    ("efficientnet", "gc_efficientnetv2_rw_t", 64),
    ("efficientvim", "efficientvim_m1", 224),
    ("efficientvit_mit", "efficientvit_b0", 64),
    ("efficientvit_msra", "efficientvit_m0", 224),
    ("eva", "eva02_tiny_patch14_224", 56, {"img_size": 56}),
    ("eva", "vit_medium_patch16_rope_reg1_gap_256", 64, {"img_size": 64, "depth": 2}),
    ("fastvit", "fastvit_t8", 64),
    ("fastvit", "fastvit_sa12", 128),
    ("fastvit", "fastvit_mci0", 128),
    ("focalnet", "focalnet_tiny_srf", 64),
    ("gcvit", "gcvit_xxtiny", 224),
    ("gemma4_vit", "gemma4_vit_167m", 128, {"depth": 1}),
    ("ghostnet", "ghostnet_050", 64),
    ("ghostnet", "ghostnetv2_100", 64),
    ("hardcorenas", "hardcorenas_a", 64),
    ("hgnet", "hgnet_tiny", 64),
    ("hiera", "hiera_tiny_224", 224),
    ("hieradet_sam2", "hieradet_small", 128),
    ("iformer", "iformer_t", 224),
    ("inception_v3", "inception_v3", 80, {"aux_logits": False}, False, False),
    ("lcnetv2", "lcnetv2_small", 64),
    ("levit", "levit_128s", 224),
    ("levit", "levit_conv_128s", 224),
    ("lowformer", "lowformer_b0", 224),
    ("maxxvit", "test_coatnet", 160, {}, True),
    ("maxxvit", "test_maxvit", 160),
    ("maxxvit", "maxvit_pico_rw_256", 256),
    ("metaformer", "caformer_s18", 64),
    ("mobilenetv3", "mobilenetv3_small_050", 64, {}, True),
    ("mobilenetv3", "mobilenetv4_hybrid_medium_075", 128),
    ("mobilevit", "mobilevit_xxs", 64),
    ("mobilevit", "mobilevitv2_050", 128),
    ("mvitv2", "mvitv2_tiny", 64, {"img_size": 64}),
    ("naflexvit", "naflexvit_base_patch16_map", 64, {"depth": 2, "embed_dim": 192, "num_heads": 3}),
    ("nest", "nest_tiny_jx", 224),
    ("nextvit", "nextvit_small", 64),
    ("nfnet", "eca_nfnet_l0", 64),
    ("pit", "pit_ti_distilled_224", 224),
    ("pvt_v2", "pvt_v2_b0", 64, {}, True),
    ("pvt_v2", "pvt_v2_b2_li", 64),
    ("qwen3_vit", "qwen3_vit_88m", 64, {"depth": 2}),
    ("rdnet", "rdnet_tiny", 64),
    ("regnet", "regnety_002", 64),
    ("repghost", "repghostnet_050", 64),
    ("repvit", "repvit_m0_9", 64),
    ("resnest", "resnest14d", 64, {}, True),
    ("resnet", "seresnet18", 64),
    ("resnet", "ecaresnet26t", 64),
    ("rexnet", "rexnet_100", 64),
    ("senet", "legacy_seresnet18", 64),
    ("sequencer", "sequencer2d_s", 224, {}, False, False),
    ("shvit", "shvit_s1", 224),
    ("sknet", "skresnet18", 64),
    ("swiftformer", "swiftformer_xs", 224),
    ("swin_transformer", "swin_tiny_patch4_window7_224", 224),
    ("swin_transformer_v2", "swinv2_tiny_window8_256", 128, {"img_size": 128}),
    ("swin_transformer_v2_cr", "swinv2_cr_tiny_ns_224", 224),
    ("tiny_vit", "tiny_vit_5m_224", 224),
    ("tnt", "tnt_s_patch16_224", 224),
    ("tresnet", "tresnet_m", 64),
    ("twins", "twins_pcpvt_small", 224),
    ("twins", "twins_svt_small", 224),
    ("visformer", "visformer_tiny", 224),
    ("vision_transformer", "test_vit", 160, {}, True),
    ("vision_transformer", "test_vit3", 160),
    (
        "vision_transformer",
        "vit_base_patch16_siglip_224",
        64,
        {"img_size": 64, "depth": 2, "embed_dim": 192, "num_heads": 3},
    ),
    ("vision_transformer_hybrid", "vit_tiny_r_s16_p8_224", 224),
    ("vision_transformer_relpos", "vit_relpos_small_patch16_224", 64, {"img_size": 64, "depth": 2}),
    (
        "vision_transformer_sam",
        "samvit_base_patch16",
        128,
        {"img_size": 128, "depth": 3, "embed_dim": 192, "num_heads": 3},
    ),
    ("vitamin", "vitamin_small_224", 224),
    ("volo", "volo_d1_224", 224, {}, False),
    ("vovnet", "ese_vovnet19b_slim_dw", 64, {}, True),
    ("xcit", "xcit_nano_12_p16_224", 64, {}, True),
]
_TIMM_PLAIN: list[tuple[Any, ...]] = [
    ("byobnet", "repvgg_a0", 64),
    ("convmixer", "convmixer_768_32", 56),
    ("convnext", "test_convnext", 64, {}, True),
    ("convnext", "convnextv2_atto", 64),
    ("densenet", "densenet121", 64),
    ("dla", "dla46x_c", 64),
    ("dpn", "dpn48b", 64),
    ("efficientnet", "mobilenetv2_035", 64, {}, True),
    ("fasternet", "fasternet_t0", 64),
    ("hrnet", "hrnet_w18_small", 64),
    ("inception_next", "inception_next_atto", 64),
    ("inception_resnet_v2", "inception_resnet_v2", 96),
    ("inception_v4", "inception_v4", 96),
    ("mambaout", "test_mambaout", 160),
    ("metaformer", "poolformer_s12", 64),
    ("mlp_mixer", "mixer_s32_224", 224),
    ("mlp_mixer", "gmlp_ti16_224", 224, {}, True),
    ("mlp_mixer", "resmlp_12_224", 224),
    ("nfnet", "nf_resnet26", 64),
    ("regnet", "regnetx_002", 64, {}, True),
    ("res2net", "res2net50_14w_8s", 64),
    ("resnet", "resnet10t", 64, {}, True),
    ("resnet", "resnet18", 64),
    ("resnetv2", "resnetv2_18", 64),
    ("selecsls", "selecsls42", 64),
    ("starnet", "starnet_s050", 64),
    ("vgg", "vgg11", 64, {"global_pool": "avg"}),
    ("xception", "legacy_xception", 96),
    ("xception_aligned", "xception41", 64),
]
_TORCHVISION: list[tuple[Any, ...]] = [
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
_TRANSFORMERS = (
    "vit deit beit vit_mae dinov2_with_registers clip_vision siglip_vision dinov3 swin pvt pvt_v2 focalnet segformer "
    "detr deformable_detr mask2former"
).split()
_VIDEO = ("videomae", "timesformer", "vivit")
_QUICK = frozenset("mobilenet_v2 lraspp_mobilenet_v3_large vit beit segformer detr timesformer".split())


def _timm_entry(row: tuple[Any, ...], *, attention: bool) -> Entry:
    family, model, size, *rest = row
    options, quick, attends = (*rest, *({}, False, attention)[len(rest) :])
    return Entry("timm", family, model, (3, size, size), options, attends, quick)


def _torchvision_entry(row: tuple[Any, ...]) -> Entry:
    family, model, size, attention, *options = row
    return Entry("torchvision", family, model, size, options[0] if options else {}, attention, model in _QUICK)


ZOO: tuple[Entry, ...] = (
    *(_timm_entry(row, attention=True) for row in _TIMM_ATTENTION),
    *(_timm_entry(row, attention=False) for row in _TIMM_PLAIN),
    *(_torchvision_entry(row) for row in _TORCHVISION),
    *(Entry("transformers", name, name, (3, 64, 64), quick=name in _QUICK) for name in _TRANSFORMERS),
    *(Entry("transformers", name, name, (4, 3, 32, 32), quick=name in _QUICK) for name in _VIDEO),
)

"""Classes of the libraries that are attention by their papers: the reference for recall.

The list was made from the sources of the libraries and is independent of how attnviz finds attention. A class is a
whole mechanism: its site can be in the module itself, in one of its descendants, or, for modules that only compute
``g``, in their parent.
"""

from fnmatch import fnmatchcase

_TIMM = """
    Attention AttentionRope EvaAttention DiffAttention ParallelScalingBlock ParallelThingsBlock RelPosAttention
    WindowAttention WindowMultiHeadAttention WindowAttentionGlobal ConvAttention Attention2d MultiScaleAttention
    TalkingHeadAttn OutlookAttention NonLocalAttn BatNonLocalAttn BottleneckAttn HaloAttn LambdaLayer
    MaskUnitAttention LocallyGroupedAttn LocalWindowAttention CascadedGroupAttention LinearSelfAttention
    GlobalSubSampleAttn FactorAttnConvRelPosEnc EfficientAttention EfficientAdditiveAttention CrossCovarianceAttn
    XCA CrossAttention ClassAttn ClassAttention SpatialAttention ChannelAttention ChannelAttentionV2 ChannelAttn
    SpatialAttn LightSpatialAttn LightChannelAttn AttentionPool2d RotAttentionPool2d AttentionPoolLatent
    AttentionPoolPrr AttentionCl PartitionAttentionCl PartitionAttention2d ParallelPartitionAttention
    Attention2dDownsample AttentionDownsample MultiQueryAttention2d MultiQueryAttentionV2 MobileAttention StripAttn
    CoordAttn SimpleCoordAttn EfficientLocalAttn GlobalContext GatherExcite EcaModule CecaModule EseModule SEModule
    SqueezeExcite SqueezeExciteCl SEWithNorm CbamModule LightCbamModule SplitAttn SelectiveKernel CondConv2d
    GroupedQueryAttention SHSA LiteMLA LiteMSA MHSA MHCA E_MHSA GPSA FocalModulation HSMSSD Gemma4Attention
    Qwen3VisionAttention SelectiveKernelAttn SEBlock SE GhostModuleV2 EffectiveSEModule SimAM Attn SHMA
""".split()
_TORCHVISION = """
    SqueezeExcitation ShiftedWindowAttention ShiftedWindowAttentionV2 ShiftedWindowAttention3d MultiscaleAttention
    RelativePositionalMultiHeadAttention MultiheadAttention
""".split()
_TRANSFORMERS = """
    ViTAttention DeiTAttention BeitAttention ViTMAEAttention Dinov2WithRegistersAttention CLIPAttention SiglipAttention
    SiglipMultiheadAttentionPoolingHead DINOv3ViTAttention SwinAttention PvtEfficientSelfAttention PvtAttention
    PvtV2SelfAttention FocalNetModulation SegformerAttention DetrSelfAttention DetrCrossAttention
    DeformableDetrSelfAttention DeformableDetrMultiscaleDeformableAttention MultiScaleDeformableAttention
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention Mask2FormerAttention VideoMAEAttention
    VideoMAESelfAttention TimeSformerAttention TimesformerSelfAttention VivitAttention
""".split()
_VISION_LANGUAGE = """
    BartAttention Blip2Attention Blip2QFormerAttention Blip2QFormerMultiHeadAttention BlipAttention BlipTextAttention
    BlipTextSelfAttention Florence2VisionChannelAttention Florence2VisionWindowAttention Gemma3Attention GemmaAttention
    GitAttention GitSelfAttention GitVisionAttention Idefics3VisionAttention LlamaAttention OPTAttention
    Qwen2VLAttention VisionAttention TrOCRAttention
""".split()
_VIT_PYTORCH = """
    AttentionResidual DSSA GlobalAttention LocalAttention InteractiveWindowedSelfAttention ScalableSelfAttention LSA
    MutualAttention PatchMerger XCAttention
""".split()
_MONAI = """
    SABlock SpatialAttentionBlock AttentionBlock AttentionLayer ChannelSELayer SEResNetBottleneck SEResNeXtBottleneck
    MBConvBlock MILModel
""".split()
_SEGMENTATION_MODELS = "FPABlock GAUBlock MFABBlock PABBlock SCSEModule".split()
_OPEN_CLIP = "AttentionalPooler ResidualAttentionBlock".split()
_KORNIA = "LinearAttention MultiHeadAttention".split()
_DIFFUSERS = "FluxAttention".split()
ATTENTION = frozenset(
    (
        *_TIMM,
        *_TORCHVISION,
        *_TRANSFORMERS,
        *_VISION_LANGUAGE,
        *_VIT_PYTORCH,
        *_MONAI,
        *_SEGMENTATION_MODELS,
        *_OPEN_CLIP,
        *_KORNIA,
        *_DIFFUSERS,
    )
)

_CONSTANT_QUERIES = (
    "the input of the first decoder layer is only learned queries: its weights are constants, not a g(x)"
)

# Named attention without a site: model, pattern of paths, reason.
KNOWN_MISSES: dict[tuple[str, str], str] = {
    ("transformers:detr", "*decoder.layers.0.self_attn"): _CONSTANT_QUERIES,
    ("transformers:deformable_detr", "*decoder.layers.0.*attn*"): _CONSTANT_QUERIES,
}

# These modules return g, and their parent applies it.
APPLIED_OUTSIDE = frozenset({"SelectiveKernelAttn", "SpatialAttention"})

# Named attention that is none, as no value weighs another: patterns of model and path, class, reason.
NAMED_ONLY: dict[tuple[str, str, str], str] = {
    ("timm:nextvit_small", "*", "ConvAttention"): (
        "a grouped convolution, an activation and a projection: there is no g(x)"
    ),
    ("transformers:qwen2-vl.*", "*", "PatchMerger"): "an MLP on concatenated patches: there is no g(x)",
    ("segmentation_models_pytorch:unet*-*0", "decoder.*", "Attention"): "an identity, as no attention is chosen",
}


def is_attention(model: str, path: str, class_name: str) -> bool:
    """Whether a module is attention by its paper."""
    exceptions = (
        name == class_name and fnmatchcase(model, models) and fnmatchcase(path, paths)
        for models, paths, name in NAMED_ONLY
    )
    return class_name in ATTENTION and not any(exceptions)


def why_missed(model: str, path: str) -> str:
    """The reason why no site is expected at a module of attention; empty if one is expected."""
    matching = (why for (name, pattern), why in KNOWN_MISSES.items() if name == model and fnmatchcase(path, pattern))
    return next(matching, "")

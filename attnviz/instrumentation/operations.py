"""What each PyTorch operation does to positions and channels, by its name."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch._ops import HigherOrderOperator, OpOverload, OpOverloadPacket

_ALIASES = {
    "multiply": "mul",
    "rmul": "mul",
    "imul": "mul",
    "radd": "add",
    "iadd": "add",
    "isub": "sub",
    "itruediv": "div",
    "rmatmul": "matmul",
    "mm": "matmul",
    "bmm": "matmul",
    "rsub": "sub",
    "subtract": "sub",
    "divide": "div",
    "true_divide": "div",
    "truediv": "div",
    "rdiv": "div",
    "rtruediv": "div",
    "max_pool2d_with_indices": "max_pool2d",
    "special_expit": "sigmoid",
    "safe_softmax": "softmax",
    # Names of exported graphs.
    "unsafe_view": "view",
    "to_copy": "to",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "native_batch_norm": "batch_norm",
    "native_batch_norm_legit": "batch_norm",
    "native_batch_norm_legit_no_training": "batch_norm",
    "native_dropout": "dropout",
    "T": "transpose",
    "mT": "transpose",
    "H": "transpose",
    "mH": "transpose",
    "data": "detach",
}

# The value passes unchanged; only its arrangement, type or storage differs.
TRANSPARENT = frozenset(
    """
    alias clone contiguous cpu cuda detach double dropout dropout1d dropout2d dropout3d expand expand_as flatten
    float half identity bfloat16 movedim moveaxis permute reshape reshape_as resolve_conj squeeze swapaxes to
    transpose type type_as unflatten unsqueeze view view_as atleast_2d broadcast_to alpha_dropout feature_dropout
    requires_grad
    """.split()
)

# Parts of a value are selected or repeated: the numbers stay the same.
SLICING = frozenset(
    """
    getitem chunk split split_with_sizes tensor_split unbind narrow select index_select repeat tile
    """.split()
)

# A new value from neighbours or from other channels, with learned weights.
LEARNED = frozenset(
    """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear bilinear matmul einsum addmm
    baddbmm convolution multi_head_attention_forward scaled_dot_product_attention deform_conv2d embedding
    """.split()
)

# A new value from several positions or channels, by a fixed rule.
POOLED = frozenset(
    """
    mean sum amax amin max min std var std_mean var_mean norm vector_norm linalg_vector_norm logsumexp median
    nanmean softmax softmin log_softmax cumsum sort topk avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d
    max_pool3d lp_pool2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d interpolate upsample grid_sample unfold fft2 rfft2 irfft2
    """.split()
)

# Bounded functions, which turn a score into a weight.
SQUASHES = frozenset(
    """
    sigmoid hardsigmoid softmax softmin tanh hardtanh relu6 clamp clip logistic
    """.split()
)

# Operations that rescale or resize a weight: ``1 + sigmoid(s)`` (BAM, GCT), ``2 * sigmoid(s)``.
AFFINE = frozenset(
    """
    add sub mul div interpolate upsample
    """.split()
)

# Products that are summed.
CONTRACTIONS = frozenset(
    """
    matmul einsum baddbmm addbmm addmm addmv mv dot inner tensordot linear bilinear multi_dot linalg_multi_dot
    chain_matmul sparse_mm sparse_addmm vecdot linalg_vecdot
    """.split()
)
PRODUCTS = CONTRACTIONS | {"mul", "addcmul"}

# Normalisation and similar operations: values of other positions change a value, and its position stays.
_IN_PLACE_OF = frozenset(
    """
    softmax softmin log_softmax normalize layer_norm rms_norm group_norm batch_norm instance_norm local_response_norm
    channel_shuffle native_channel_shuffle masked_fill where threshold prelu to cast float half fill fill_diagonal
    requires_grad apply feature_alpha_dropout hardswish logsigmoid softsign tanhshrink gumbel_softmax tril triu
    quantize_per_tensor dequantize fake_quantize_per_tensor_affine
    """.split()
).union(TRANSPARENT)


@functools.cache
def keeps_positions(name: str) -> bool:
    """Whether each value of the result has the position of the corresponding value of an operand.

    >>> keeps_positions("gelu"), keeps_positions("scatter")
    (True, False)
    """
    packet = getattr(torch.ops.aten, name, None)
    overloads = () if packet is None else (getattr(packet, overload) for overload in packet.overloads())
    return name in _IN_PLACE_OF or any(torch.Tag.pointwise in overload.tags for overload in overloads)


# Only the shape, type or device of the operand is used.
SHAPE_ONLY = frozenset(
    """
    zeros_like ones_like full_like rand_like randn_like randint_like new_zeros new_ones new_full new_tensor
    """.split()
)

# Operators of other libraries whose values are known.
_KNOWN_OPERATORS = frozenset(
    """
    torchvision::deform_conv2d torchvision::nms torchvision::roi_align torchvision::roi_pool
    torchvision::ps_roi_align torchvision::ps_roi_pool
    """.split()
)
_KNOWN_LIBRARIES = frozenset({"aten", "prims", "prim", "quantized", "quantized_decomposed", "attnviz"})

_CHANNELS_FIRST = (
    "conv",
    "batch_norm",
    "group_norm",
    "instance_norm",
    "avg_pool",
    "max_pool",
    "adaptive_",
    "pixel_",
    "interpolate",
    "upsample",
    "prelu",
    "local_response_norm",
)
_CHANNELS_LAST = ("linear", "layer_norm", "rms_norm", "embedding")


@functools.lru_cache(maxsize=2048)
def name_of(func: Callable[..., Any]) -> str:
    """Name of the operation, one for all spellings: ``*``, ``*=``, ``torch.mul`` and ``Tensor.mul_`` are ``"mul"``.

    >>> import torch
    >>> name_of(torch.Tensor.mul_), name_of(torch.multiply)
    ('mul', 'mul')
    """
    name = _property(func) or getattr(func, "__name__", type(func).__name__)
    return plain_name(name.partition(".")[0] if isinstance(func, OpOverload) else name)


def plain_name(name: str) -> str:
    """The one name of an operation, without underscores at its ends.

    >>> plain_name("mul_"), plain_name("__rmatmul__")
    ('mul', 'matmul')
    """
    name = name.strip("_")
    return _ALIASES.get(name, name)


@functools.lru_cache(maxsize=2048)
def is_opaque(func: Callable[..., Any]) -> bool:
    """Whether ``func`` is an operator of a library that attnviz does not know.

    >>> import torch
    >>> is_opaque(torch.ops.aten.mul.Tensor), is_opaque(torch.mul)
    (False, False)
    """
    if isinstance(func, OpOverload | OpOverloadPacket):
        name = func.name() if isinstance(func, OpOverload) else func._qualified_op_name
        library, _, operator = name.partition("::")
        return library not in _KNOWN_LIBRARIES and f"{library}::{operator.partition('.')[0]}" not in _KNOWN_OPERATORS
    return isinstance(func, HigherOrderOperator)


def _property(func: Callable[..., Any]) -> str:
    """The name of the tensor property that ``func`` gets; empty if it is no property."""
    if getattr(func, "__name__", "") != "__get__":
        return ""
    return str(getattr(getattr(func, "__self__", None), "__name__", ""))


@functools.lru_cache(maxsize=2048)
def is_getter(func: Callable[..., Any]) -> bool:
    """Whether the call only returns metadata, such as ``x.shape``; ``x.mT`` is a value.

    >>> import torch
    >>> is_getter(torch.Tensor.shape.__get__), is_getter(torch.Tensor.mT.__get__)
    (True, False)
    """
    if getattr(func, "__name__", "") == "__get__":
        return _property(func) not in _ALIASES
    return getattr(func, "__name__", "") in {"size", "dim", "stride", "is_contiguous", "numel", "is_floating_point"}


def channel_position(name: str) -> str | None:
    """``"first"`` or ``"last"`` if the operation fixes the axis of the channels; else ``None``."""
    if name.startswith(_CHANNELS_LAST):
        return "last"
    return "first" if name.startswith(_CHANNELS_FIRST) else None

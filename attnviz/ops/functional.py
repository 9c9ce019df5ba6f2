"""The sampling operators as functions. Conventions are those of the libraries that users come from."""

from collections.abc import Sequence

import torch
from torch import Tensor

from attnviz.ops.geometry import pair
from attnviz.ops.library import call

_Size = int | Sequence[int]


def deform_conv2d(
    input: Tensor,  # noqa: A002 - torchvision's name
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Size = (1, 1),
    padding: _Size = (0, 0),
    dilation: _Size = (1, 1),
    mask: Tensor | None = None,
) -> Tensor:
    r"""Deformable convolution, v1 and (with ``mask``) v2: torchvision's function, made fast.

    .. math:: y(p) = b + \sum_k W_k\, m_k(p)\, x(p + p_k + \Delta p_k(p))

    with bilinear sampling between pixels. A sample that lies a pixel or more outside, or whose offset is NaN or
    infinite, is 0 and has slope 0. NaN or infinite pixels reach exactly the outputs that sample them.

    Args:
        input: (N, C, H, W), planes or channels-last; float16, bfloat16 (both computed in float32), float32, float64.
        offset: (N, 2*G*kh*kw, H_out, W_out) in pixels; for each offset group and tap the displacement in y, then in x.
        weight: (C_out, C/groups, kh, kw).
        bias: (C_out,).
        stride: One or two integers.
        padding: One or two integers.
        dilation: One or two integers.
        mask: (N, G*kh*kw, H_out, W_out), what multiplies each sample.

    Returns:
        (N, C_out, H_out, W_out), contiguous.

    Raises:
        ValueError: shapes, dtypes or devices do not fit together.

    Source: Dai et al., Deformable Convolutional Networks (2017); Zhu et al., Deformable ConvNets v2 (2019).

    >>> x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> half = torch.full((1, 2, 1, 1), 0.5)  # the middle between four pixels
    >>> deform_conv2d(x, half, torch.ones(1, 1, 1, 1), stride=2).item()
    2.5
    """
    geometry = pair(stride, "stride"), pair(padding, "padding"), pair(dilation, "dilation")
    out: Tensor = call("deform_conv2d", input, offset, weight, bias, *geometry, mask)
    return out


def deform_sample(
    input: Tensor,  # noqa: A002 - torch's name
    offset: Tensor,
    mask: Tensor | None = None,
    kernel_size: _Size = (1, 1),
    stride: _Size = (1, 1),
    padding: _Size = (0, 0),
    dilation: _Size = (1, 1),
) -> Tensor:
    r"""Deformable sampling without weights: what DCNv3 and DCNv4 do between their projections.

    .. math:: y_c(p) = \sum_k m_{gk}(p)\, x_c(p + p_k + \Delta p_{gk}(p)), \quad c \in \text{group } g

    Layout and treatment of points outside, NaN and infinite as in :func:`deform_conv2d`.

    Args:
        input: (N, C, H, W).
        offset: (N, 2*G*kh*kw, H_out, W_out) in pixels, y then x; G groups of C/G channels.
        mask: (N, G*kh*kw, H_out, W_out): softmax over taps in DCNv3, unbounded in DCNv4; ones if left out.
        kernel_size: One or two integers.
        stride: One or two integers.
        padding: One or two integers.
        dilation: One or two integers.

    Returns:
        (N, C, H_out, W_out), contiguous.

    Raises:
        ValueError: shapes, dtypes or devices do not fit together.

    Source: Wang et al., InternImage (2023), equation 2; Xiong et al., DCNv4 (2024).

    >>> x = torch.arange(4.0).reshape(1, 1, 2, 2)
    >>> deform_sample(x, torch.tensor([0.0, 0.25]).reshape(1, 2, 1, 1), stride=2).item()
    0.25
    """
    geometry = pair(stride, "stride"), pair(padding, "padding"), pair(dilation, "dilation")
    if min(geometry[0]) < 1:
        raise ValueError(f"stride: wanted at least 1, got {stride}")
    out: Tensor = call("deform_sample", input, offset, mask, pair(kernel_size, "kernel_size"), *geometry)
    return out


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    r"""Multi-scale deformable attention's sampling, with Deformable DETR's conventions.

    .. math:: y_{qm} = \sum_{l,t} A_{qmlt}\, x_{lm}(p_{qmlt})

    A location (0, 0) is the upper left corner of a level, (1, 1) the lower right: pixel = location * size - 1/2, as
    ``grid_sample(align_corners=False, padding_mode="zeros")`` has it.

    Args:
        value: (N, S, M, D): rows of all levels, one after the other; heads; channels of a head.
        spatial_shapes: (L, 2) integers, height and width of each level.
        level_start_index: (L,) integers, each level's first row.
        sampling_locations: (N, Q, M, L, T, 2), x then y.
        attention_weights: (N, Q, M, L, T).

    Returns:
        (N, Q, M*D).

    Raises:
        ValueError: shapes, dtypes or devices do not fit together, or a level reaches beyond S.

    Source: Zhu et al., Deformable DETR (2021), equation 3, without the projections.

    >>> value = torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1)  # one level of 1 x 2
    >>> at = torch.full((1, 1, 1, 1, 1, 2), 0.5)
    >>> ms_deform_attn(value, torch.tensor([[1, 2]]), torch.tensor([0]), at, torch.ones(1, 1, 1, 1, 1)).item()
    2.0
    """
    out: Tensor = call(
        "ms_deform_attn", value, spatial_shapes, level_start_index, sampling_locations, attention_weights
    )
    return out


def bilinear_splat(points: Tensor, weights: Tensor | None, size: tuple[int, int]) -> Tensor:
    r"""Return how much each pixel contributes to sampling points: the adjoint of bilinear sampling.

    .. math:: d(q) = \sum_p w_p\, \max(0, 1 - |q_y - p_y|)\, \max(0, 1 - |q_x - p_x|)

    The sum over pixels is the sum of the weights of the points inside the image.

    Args:
        points: (N, ..., 2) in pixels, x then y; (0, 0) is the centre of the upper left pixel. Points that are NaN,
            infinite or a pixel or more outside leave no trace.
        weights: (N, ...), any sign; ones if None.
        size: Height and width of the density.

    Returns:
        (N, H, W).

    Raises:
        ValueError: shapes do not fit together.

    Source: Jaderberg et al., Spatial Transformer Networks (2015), equation 6: its derivative by the image.

    >>> bilinear_splat(torch.tensor([[[0.5, 0.0]]]), None, (1, 2))
    tensor([[[0.5000, 0.5000]]])
    """
    if points.dim() < 2 or points.shape[-1] != 2:
        raise ValueError(f"points: wanted shape (N, ..., 2), got {tuple(points.shape)}")
    if weights is None:
        weights = torch.ones_like(points[..., 0])
    if weights.shape != points.shape[:-1]:
        raise ValueError(f"weights: wanted shape {tuple(points.shape[:-1])}, got {tuple(weights.shape)}")
    n, count = points.shape[0], weights[0].numel() if weights.shape[0] else 0
    density: Tensor = torch.ops.attnviz.bilinear_splat(
        points.reshape(n, count, 2), weights.reshape(n, count).to(points.dtype), *size
    )
    return density

"""The operators as modules, with the parameter names of the modules that they replace."""

import math

import torch
from torch import Tensor, nn

from attnviz.ops.functional import deform_conv2d, ms_deform_attn
from attnviz.ops.geometry import pair


class DeformConv2d(nn.Module):
    """Deformable convolution with learned weights: torchvision's ``DeformConv2d``, parameter for parameter.

    Args:
        in_channels: C.
        out_channels: C_out.
        kernel_size: One or two integers.
        stride: One or two integers.
        padding: One or two integers.
        dilation: One or two integers.
        groups: Groups of channels that are convolved apart.
        bias: Whether there is a bias.

    Raises:
        ValueError: ``groups`` does not divide both numbers of channels.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,  # noqa: FBT001, FBT002 - torch.nn's signature
    ) -> None:
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"groups: wanted a divisor of {in_channels} and {out_channels} channels, got {groups}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = pair(kernel_size, "kernel_size"), pair(stride, "stride")
        self.padding, self.dilation = pair(padding, "padding"), pair(dilation, "dilation")
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_channels)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as ``nn.Conv2d`` does."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: A002 - torchvision's name
        """See :func:`attnviz.ops.deform_conv2d`."""
        bias = getattr(self, "bias", None)
        return deform_conv2d(input, offset, self.weight, bias, self.stride, self.padding, self.dilation, mask)

    def extra_repr(self) -> str:
        """Its sizes."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}"
        )


class MSDeformAttn(nn.Module):
    """Multi-scale deformable attention with its projections: Deformable DETR's module, parameter for parameter.

    Args:
        d_model: Channels of queries and values.
        n_levels: L.
        n_heads: M, a divisor of ``d_model``.
        n_points: T, the points per level.

    Raises:
        ValueError: ``n_heads`` does not divide ``d_model``.

    Source: Zhu et al., Deformable DETR (2021), section 4.1 and appendix A.4 for the initial offsets.
    """

    def __init__(self, d_model: int = 256, n_levels: int = 4, n_heads: int = 8, n_points: int = 4) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"n_heads: wanted a divisor of d_model = {d_model}, got {n_heads}")
        self.d_model, self.n_levels, self.n_heads, self.n_points = d_model, n_levels, n_heads, n_points
        self.sampling_offsets = nn.Linear(d_model, n_heads * n_levels * n_points * 2)
        self.attention_weights = nn.Linear(d_model, n_heads * n_levels * n_points)
        self.value_proj = nn.Linear(d_model, d_model)
        self.output_proj = nn.Linear(d_model, d_model)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Offsets start as rays in M directions, 1 to T pixels long; attention starts even."""
        angle = torch.arange(self.n_heads, dtype=torch.float32) * (2 * math.pi / self.n_heads)
        ray = torch.stack((angle.cos(), angle.sin()), -1)
        ray = (ray / ray.abs().amax(-1, keepdim=True)).reshape(self.n_heads, 1, 1, 2)
        length = torch.arange(1, self.n_points + 1, dtype=torch.float32).reshape(1, 1, -1, 1)
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_((ray * length).expand(-1, self.n_levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        input_flatten: Tensor,
        input_spatial_shapes: Tensor,
        input_level_start_index: Tensor,
        input_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Sample the features of the image at the points of each query.

        Args:
            query: (N, Q, d_model).
            reference_points: (N, Q, L, 2) in [0, 1], x then y, or (N, Q, L, 4): boxes as centre and size.
            input_flatten: (N, S, d_model).
            input_spatial_shapes: (L, 2), height and width.
            input_level_start_index: (L,).
            input_padding_mask: (N, S), True where a row is padding.

        Returns:
            (N, Q, d_model).

        Raises:
            ValueError: reference points have neither 2 nor 4 numbers.
        """
        n, q, _ = query.shape
        value = self.value_proj(input_flatten)
        if input_padding_mask is not None:
            value = value.masked_fill(input_padding_mask[..., None], 0.0)
        value = value.unflatten(-1, (self.n_heads, -1))
        offsets = self.sampling_offsets(query).reshape(n, q, self.n_heads, self.n_levels, self.n_points, 2)
        weights = self.attention_weights(query).reshape(n, q, self.n_heads, -1).softmax(-1)
        weights = weights.unflatten(-1, (self.n_levels, self.n_points))
        points = reference_points[:, :, None, :, None]
        if reference_points.shape[-1] == 2:
            locations = points + offsets / input_spatial_shapes.flip(-1)[:, None].to(offsets)
        elif reference_points.shape[-1] == 4:
            locations = points[..., :2] + offsets / self.n_points * points[..., 2:] * 0.5
        else:
            raise ValueError(f"reference_points: wanted 2 or 4 numbers, got shape {tuple(reference_points.shape)}")
        out: Tensor = self.output_proj(
            ms_deform_attn(value, input_spatial_shapes, input_level_start_index, locations, weights)
        )
        return out

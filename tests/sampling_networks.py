"""Small networks from the papers that sample at predicted points, and some that sample at fixed points.

They map ``(N, 8, 6, 6)`` to the same shape.
"""

from collections.abc import Callable

import torch
from networks import C
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d


class SpatialTransformer(nn.Module):
    """Jaderberg et al. 2015: an affine grid from six predicted numbers."""

    def __init__(self, align_corners: bool = False, **options: str) -> None:
        super().__init__()
        self.options = {"align_corners": align_corners, **options}
        self.localisation = nn.Linear(C, 6)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.localisation(x.mean((2, 3))).view(-1, 2, 3)
        grid = F.affine_grid(theta, x.shape, align_corners=self.options["align_corners"])
        return F.grid_sample(x, grid, **self.options)


class FlowWarp(nn.Module):
    """A dense displacement, predicted and added to the identity, as in optical flow alignment (SFNet, 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = nn.Conv2d(C, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        ys, xs = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        grid = torch.stack([xs, ys], -1).to(x) + self.flow(x).permute(0, 2, 3, 1) / x.new_tensor([w, h])
        return F.grid_sample(x, grid, mode="bicubic", padding_mode="border", align_corners=True)


class Deformable(nn.Module):
    """Dai et al. 2017, or Zhu et al. 2019 with a mask: torchvision's operator with offsets from a convolution."""

    def __init__(self, *, modulated: bool = False, groups: int = 1, offset_groups: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.taps = 9 * offset_groups
        self.offset = nn.Conv2d(C, 2 * self.taps, 3, padding=1)
        self.modulation = nn.Conv2d(C, self.taps, 3, padding=1) if modulated else None
        self.conv = DeformConv2d(C, C, 3, padding=1, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        mask = None if self.modulation is None else self.modulation(x).sigmoid()
        return self.conv(x, self.offset(x), mask)


class StridedDeformable(nn.Module):
    """Different kernels, strides, padding and dilation along height and width."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = DeformConv2d(C, C, (3, 1), stride=(2, 1), padding=(2, 0), dilation=(2, 1))
        self.offset = nn.Conv2d(C, 6, (3, 1), stride=(2, 1), padding=(2, 0), dilation=(2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x, self.offset(x)).repeat_interleave(2, 2)


class OurDeformable(nn.Module):
    """The operators of attnviz: a modulated convolution, then DCNv3's sampling."""

    def __init__(self) -> None:
        super().__init__()
        self.offset, self.modulation = nn.Conv2d(C, 18, 1), nn.Conv2d(C, 9, 1)
        self.weight = nn.Parameter(torch.randn(C, C, 3, 3) / C)

    def forward(self, x: Tensor) -> Tensor:
        from attnviz import ops

        offset, mask = self.offset(x), self.modulation(x).softmax(1)
        y = ops.deform_conv2d(x, offset, self.weight, padding=1, mask=mask)
        return ops.deform_sample(y, offset, mask, kernel_size=3, padding=1)


class DeformableAttentionTransformer(nn.Module):
    """Xia et al. 2022: each of two groups samples keys and values at its own shifted reference points."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = 2
        self.offset = nn.Conv2d(C // 2, 2, 1)
        self.q, self.k, self.v = (nn.Conv2d(C, C, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        q = self.q(x)
        offset = self.offset(q.reshape(n * self.groups, C // self.groups, h, w)).tanh().permute(0, 2, 3, 1) / h
        ys, xs = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        position = torch.stack([ys, xs], -1) + offset
        sampled = F.grid_sample(
            input=x.reshape(n * self.groups, C // self.groups, h, w),
            grid=position[..., (1, 0)],
            mode="bilinear",
            align_corners=True,
        ).reshape(n, C, h, w)
        q, k, v = (t.reshape(n, C, h * w) for t in (q, self.k(sampled), self.v(sampled)))
        g = torch.einsum("ncq, nck -> nqk", q, k).softmax(-1)
        return torch.einsum("nqk, nck -> ncq", g, v).view(n, C, h, w)


class MultiScaleDeformableAttention(nn.Module):
    """Zhu et al. 2021: two heads, two levels, three points; with ``grid_sample`` level by level, or fused."""

    def __init__(self, *, fused: bool = False) -> None:
        super().__init__()
        self.fused, self.heads, self.points = fused, 2, 3
        self.value, self.offset = nn.Linear(C, C), nn.Linear(C, 2 * 2 * 3 * 2)
        self.weight, self.out = nn.Linear(C, 2 * 2 * 3), nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        levels = [x, F.avg_pool2d(x, 2)]
        sizes = torch.tensor([level.shape[2:] for level in levels])
        queries = x.flatten(2).transpose(1, 2)
        values = self.value(torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1))
        values = values.view(n, -1, self.heads, C // self.heads)
        offset = self.offset(queries).view(n, h * w, self.heads, 2, self.points, 2)
        ys, xs = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
        reference = torch.stack([xs, ys], -1).view(1, h * w, 1, 1, 1, 2)
        locations = reference + offset / sizes.flip(-1)[:, None]
        weights = self.weight(queries).view(n, h * w, self.heads, -1).softmax(-1)
        weights = weights.view(n, h * w, self.heads, 2, self.points)
        attend = self._fused if self.fused else self._by_level
        return self.out(attend(values, sizes, locations, weights)).transpose(1, 2).reshape(x.shape)

    def _fused(self, values: Tensor, sizes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        from attnviz import ops

        areas = sizes.prod(1)
        return ops.ms_deform_attn(values, sizes, areas.cumsum(0) - areas, locations, weights)

    def _by_level(self, values: Tensor, sizes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        n, q = locations.shape[:2]
        grids, sampled = 2 * locations - 1, []
        lists = sizes.tolist()
        for level, (value, (h, w)) in enumerate(zip(values.split([h * w for h, w in lists], 1), lists, strict=True)):
            plane = value.flatten(2).transpose(1, 2).reshape(n * self.heads, C // self.heads, h, w)
            grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
            sampled.append(F.grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False))
        g = weights.transpose(1, 2).reshape(n * self.heads, 1, q, -1)
        return (torch.stack(sampled, -2).flatten(-2) * g).sum(-1).view(n, C, q).transpose(1, 2)


class Resize(nn.Module):
    """Sampling at a grid that depends on the shape of ``x`` only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        theta = torch.eye(2, 3).type_as(x) + torch.zeros_like(x[:, :2, :3, 0])
        grid = F.affine_grid(theta, x.shape, align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


class PositionTable(nn.Module):
    """A table of constants, sampled at predicted points: not attention to ``x``."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.points = nn.Parameter(torch.randn(1, C, 4, 4)), nn.Conv2d(C, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        grid = self.points(x).tanh().permute(0, 2, 3, 1)
        return x + F.grid_sample(self.table.expand(len(x), -1, -1, -1), grid, align_corners=False)


class FixedDeformable(nn.Module):
    """A deformable convolution with constant, learned offsets."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.offset = DeformConv2d(C, C, 3, padding=1), nn.Parameter(torch.randn(1, 18, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x, self.offset.expand(len(x), -1, -1, -1))


SAMPLED: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "stn": (SpatialTransformer, ["sampling"]),
    "stn-aligned-corners": (lambda: SpatialTransformer(align_corners=True), ["sampling"]),
    "stn-reflection": (lambda: SpatialTransformer(padding_mode="reflection"), ["sampling"]),
    "flow-warp": (FlowWarp, ["sampling"]),
    "dcn-v1": (Deformable, ["sampling"]),
    "dcn-v1-groups": (lambda: Deformable(groups=2, offset_groups=4, bias=False), ["sampling"]),
    "dcn-v2": (lambda: Deformable(modulated=True, offset_groups=2), ["sampling"]),
    "dcn-strided": (StridedDeformable, ["sampling"]),
    "dcn-ours": (OurDeformable, ["sampling", "sampling"]),
    "dat": (DeformableAttentionTransformer, ["sampling", "pairwise"]),
    "deformable-detr": (MultiScaleDeformableAttention, ["sampling", "sampling", "pairwise"]),
    "deformable-detr-fused": (lambda: MultiScaleDeformableAttention(fused=True), ["sampling"]),
}

FIXED: dict[str, Callable[[], nn.Module]] = {
    "resize": Resize,
    "position-table": PositionTable,
    "fixed-deformable": FixedDeformable,
}


def build(name: str, seed: int = 0) -> nn.Module:
    """The network of this name with seeded weights, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return (FIXED[name] if name in FIXED else SAMPLED[name][0])().eval()

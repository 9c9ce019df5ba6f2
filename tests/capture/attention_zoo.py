"""Attention modules as papers describe them, written by hand: each with the kinds that must be found.

They differ from the modules of libraries in how they normalise, contract and arrange their weights.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

CASES = {}


def case(*kinds, size=(16, 8, 8)):
    """Register a module with the kinds of its sites, in the order of the forward pass; ``size`` is that of an input.

    Without kinds, the attention cannot be captured and must be reported.
    """

    def register(cls):
        CASES[cls.__name__] = (cls, kinds, size)
        return cls

    return register


def heads_of(t, heads):
    """``(N, L, C)`` as ``(N, heads, L, d)``."""
    return t.unflatten(-1, (heads, -1)).transpose(1, 2)


class Tokens(nn.Module):
    """Feature maps as tokens ``(N, L, C)``, with projections to queries, keys and values."""

    def __init__(self, c=16, heads=2):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(c, 3 * c), nn.Linear(c, c)

    def forward(self, x):
        q, k, v = (heads_of(t, self.heads) for t in self.qkv(x.flatten(2).mT).chunk(3, -1))
        return self.out(self.attend(q, k, v).transpose(1, 2).flatten(2))


def scores(q, k):
    return q @ k.mT * q.shape[-1] ** -0.5


@case("pairwise")
class SoftmaxAttention(Tokens):
    def attend(self, q, k, v):
        return scores(q, k).softmax(-1) @ v


@case("pairwise")
class SigmoidAttention(Tokens):
    """Ramapuram et al., 2024."""

    def attend(self, q, k, v):
        return torch.sigmoid(scores(q, k) - math.log(q.shape[-2])) @ v


@case("pairwise")
class SquaredReluAttention(Tokens):
    """Primer, So et al., 2021."""

    def attend(self, q, k, v):
        return F.relu(scores(q, k)).square() / q.shape[-2] @ v


@case("pairwise")
class SoftmaxPlusOne(Tokens):
    def attend(self, q, k, v):
        e = torch.exp(scores(q, k))
        return e / (1 + e.sum(-1, keepdim=True)) @ v


@case("pairwise")
class ExpOfLogSoftmax(Tokens):
    def attend(self, q, k, v):
        return scores(q, k).log_softmax(-1).exp() @ v


@case("pairwise")
class Sparsemax(Tokens):
    """Martins and Astudillo, 2016: the projection of the scores onto the simplex."""

    def attend(self, q, k, v):
        s = scores(q, k)
        ranked = s.sort(-1, descending=True).values
        sums = ranked.cumsum(-1) - 1
        count = (ranked * torch.arange(1, s.shape[-1] + 1) > sums).sum(-1, keepdim=True)
        return F.relu(s - sums.gather(-1, count - 1) / count) @ v


@case("pairwise")
class SinkLogit(Tokens):
    """One more logit a row, which takes weight away from the keys."""

    def attend(self, q, k, v):
        s = scores(q, k)
        sink = torch.zeros(1).expand(*s.shape[:-1], 1)
        return torch.cat([s, sink], -1).softmax(-1)[..., :-1] @ v


@case("pairwise")
class DifferentialAttention(Tokens):
    """Ye et al., 2024: the difference of two softmax maps."""

    def attend(self, q, k, v):
        (q1, q2), (k1, k2) = q.chunk(2, -1), k.chunk(2, -1)
        return (scores(q1, k1).softmax(-1) - 0.5 * scores(q2, k2).softmax(-1)) @ v


@case("pairwise")
class ReAttention(Tokens):
    """DeepViT, Zhou et al., 2021: heads are mixed and normalised after the softmax."""

    def __init__(self):
        super().__init__()
        self.mix, self.norm = nn.Parameter(torch.randn(2, 2)), nn.LayerNorm(2)

    def attend(self, q, k, v):
        weights = torch.einsum("bhij,hg->bgij", scores(q, k).softmax(-1), self.mix)
        return self.norm(weights.movedim(1, -1)).movedim(-1, 1) @ v


@case("pairwise")
class L1Normalised(Tokens):
    def attend(self, q, k, v):
        return F.normalize(F.relu(scores(q, k)), p=1, dim=-1) @ v


@case("pairwise")
class ScatteredWeights(Tokens):
    """Only the largest scores of a row keep a weight."""

    def attend(self, q, k, v):
        top, index = scores(q, k).topk(8, -1)
        return torch.zeros(*q.shape[:-1], k.shape[-2]).scatter(-1, index, top.softmax(-1)) @ v


@case("pairwise")
class UnboundedAttention(Tokens):
    def attend(self, q, k, v):
        return scores(q, k) / k.shape[-2] @ v


@case("pairwise")
class CosineAttention(Tokens):
    """Swin V2."""

    def attend(self, q, k, v):
        return (10 * F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT).softmax(-1) @ v


@case("pairwise")
class SoftmaxByHand(Tokens):
    def attend(self, q, k, v):
        e = torch.exp(scores(q, k) - scores(q, k).amax(-1, keepdim=True))
        return e / e.sum(-1, keepdim=True) @ v


@case("pairwise")
class DividedOutput(Tokens):
    """The output is divided by the sum of the weights, and not the weights."""

    def attend(self, q, k, v):
        e = torch.exp(scores(q, k))
        return e @ v / e.sum(-1, keepdim=True)


@case("pairwise")
class EfficientMultiHead(Tokens):
    """EMSA of ResT, Zhang and Yang, 2021: reduced keys, heads mixed and normalised over each map."""

    def __init__(self):
        super().__init__()
        self.reduce, self.mix, self.norm = nn.Conv1d(8, 8, 3, 2, 1, groups=8), nn.Conv2d(2, 2, 1), nn.InstanceNorm2d(2)

    def attend(self, q, k, v):
        k, v = (self.reduce(t.mT.flatten(0, 1)).view(*t.shape[:2], 8, -1).mT for t in (k, v))
        return self.norm(self.mix(scores(q, k)).softmax(-1)) @ v


@case()
class UFO(Tokens):
    """UFO-ViT, Song, 2021: a context of keys and values, both normalised across."""

    def attend(self, q, k, v):
        context = F.normalize(k.mT @ v, dim=-1)
        return F.normalize(q, dim=-1) @ context


@case("pairwise", "pairwise")
class SlotAttention(nn.Module):
    """Locatello et al., 2020: softmax over the slots, then weights that sum to 1 over the tokens."""

    def __init__(self):
        super().__init__()
        self.slots = nn.Parameter(torch.randn(1, 4, 16))
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x):
        t = x.flatten(2).mT
        slots = self.slots.expand(len(t), -1, -1)
        for _ in range(2):
            weights = scores(self.k(t), self.q(slots)).softmax(-1) + 1e-8
            weights = weights / weights.sum(1, keepdim=True)
            slots = slots + weights.mT @ self.v(t)
        return slots


@case("pairwise")
class ExternalAttention(nn.Module):
    """Guo et al., 2021: keys and values are memories; softmax over the tokens, then a sum of 1 over the memory."""

    def __init__(self):
        super().__init__()
        self.k, self.v = nn.Linear(16, 12, bias=False), nn.Linear(12, 16, bias=False)

    def forward(self, x):
        weights = self.k(x.flatten(2).mT).softmax(1)
        return self.v(weights / weights.sum(2, keepdim=True))


@case("pairwise")
class LearnedQueries(nn.Module):
    """The first cross-attention of a decoder: queries are parameters, keys depend on the image."""

    def __init__(self):
        super().__init__()
        self.q, self.kv = nn.Parameter(torch.randn(5, 16)), nn.Linear(16, 32)

    def forward(self, x):
        k, v = self.kv(x.flatten(2).mT).chunk(2, -1)
        return scores(self.q.expand(len(k), -1, -1), k).softmax(-1) @ v


@case("pairwise")
class LinearEinsum(Tokens):
    """The linear attention of LoFTR, Sun et al., 2021."""

    def attend(self, q, k, v):
        q, k = F.elu(q) + 1, F.elu(k) + 1
        kv = torch.einsum("nhsd,nhsv->nhdv", k, v)
        z = 1 / torch.einsum("nhld,nhd->nhl", q, k.sum(2))
        return torch.einsum("nhld,nhdv,nhl->nhlv", q, kv, z)


@case()
class AttentionFree(nn.Module):
    """AFT-full, Zhai et al., 2021: exponentials of keys and positions weigh the values."""

    def __init__(self):
        super().__init__()
        self.qkv, self.bias = nn.Linear(16, 48), nn.Parameter(torch.randn(64, 64))

    def forward(self, x):
        q, k, v = self.qkv(x.flatten(2).mT).chunk(3, -1)
        weights = self.bias.exp() @ (k.exp() * v)
        return q.sigmoid() * weights / (self.bias.exp() @ k.exp())


@case("pairwise", "pairwise")
class CrissCross(nn.Module):
    """Huang et al., 2019: each position attends to its column and its row, with one softmax over both."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Conv2d(16, 48, 1)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, 1)
        _n, _c, h, _w = q.shape
        column = torch.einsum("nchw,ncjw->nhwj", q, k)
        row = torch.einsum("nchw,nchj->nhwj", q, k)
        weights = torch.cat([column, row], -1).softmax(-1)
        of_column = torch.einsum("nhwj,ncjw->nchw", weights[..., :h], v)
        return of_column + torch.einsum("nhwj,nchj->nchw", weights[..., h:], v)


@case("pairwise")
class OutlookAttention(nn.Module):
    """VOLO, Yuan et al., 2021: weights of each window are predicted from its centre."""

    def __init__(self):
        super().__init__()
        self.v, self.weights = nn.Linear(16, 16), nn.Linear(16, 81)

    def forward(self, x):
        n, c, h, w = x.shape
        t = x.movedim(1, -1)
        v = F.unfold(self.v(t).movedim(-1, 1), 3, padding=1).view(n, c, 9, h * w).permute(0, 3, 2, 1)
        weights = self.weights(t).view(n, h * w, 9, 9).softmax(-1)
        return F.fold((weights @ v).permute(0, 3, 2, 1).reshape(n, c * 9, h * w), (h, w), 3, padding=1)


@case("pooling", "pairwise")
class DoubleAttention(nn.Module):
    """A², Chen et al., 2018: features are gathered by softmax over positions, and distributed by softmax over maps."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.v = (nn.Conv2d(16, 8, 1) for _ in range(3))

    def forward(self, x):
        a, b, v = self.a(x).flatten(2), self.b(x).flatten(2).softmax(-1), self.v(x).flatten(2).softmax(1)
        return (a @ b.mT) @ v


@case("pairwise")
class PositionAttention(nn.Module):
    """DANet, Fu et al., 2019."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 4, 1), nn.Conv2d(16, 16, 1)

    def forward(self, x):
        weights = torch.bmm(self.q(x).flatten(2).mT, self.k(x).flatten(2)).softmax(-1)
        return torch.bmm(self.v(x).flatten(2), weights.mT).view_as(x) + x


@case("pairwise")
class ChannelAttentionByPairs(nn.Module):
    """DANet's channel attention: channels attend to channels."""

    def forward(self, x):
        f = x.flatten(2)
        energy = f @ f.mT
        return ((energy.amax(-1, keepdim=True) - energy).softmax(-1) @ f).view_as(x) + x


@case("pooling", "channel")
class GlobalContext(nn.Module):
    """GCNet, Cao et al., 2019, with a bounded gate."""

    def __init__(self):
        super().__init__()
        self.mask, self.fc = nn.Conv2d(16, 1, 1), nn.Conv2d(16, 16, 1)

    def forward(self, x):
        weights = self.mask(x).flatten(2).softmax(-1)
        context = (x.flatten(2) @ weights.mT)[..., None]
        return x * self.fc(context).sigmoid()


@case("channel")
class SqueezeByEinsum(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x):
        return torch.einsum("nchw,nc->nchw", x, self.fc(x.mean((2, 3))).sigmoid())


@case("channel")
class GateByAddcmul(nn.Module):
    """``x + x g`` in one operation."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x):
        return torch.addcmul(x, x, self.fc(x.mean((2, 3))).sigmoid()[..., None, None])


@case("spatial")
class GateByLerp(nn.Module):
    """A map that blends a feature map with its blurred copy."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x):
        return torch.lerp(F.avg_pool2d(x, 3, 1, 1), x, self.conv(x).sigmoid())


@case("channel")
class UnboundedSibling(nn.Module):
    """FiLM from the pooled image: another branch is scaled, without a bounded function."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 16)

    def forward(self, x):
        return self.conv(x) * self.fc(x.mean((2, 3)))[..., None, None]


@case("channel", "spatial", size=(1, 6, 8, 8))
class SqueezeBothOfVolume(nn.Module):
    """scSE on volumes."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc, self.map = nn.Conv3d(1, 8, 3, padding=1), nn.Linear(8, 8), nn.Conv3d(8, 1, 1)

    def forward(self, x):
        x = self.conv(x)
        channel = x * self.fc(x.mean((2, 3, 4))).sigmoid()[..., None, None, None]
        return channel + x * self.map(x).sigmoid()


@case("channel")
class SqueezeOfTokens(nn.Module):
    """SE on tokens ``(N, L, C)``."""

    def __init__(self):
        super().__init__()
        self.embed, self.fc = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        t = self.embed(x.flatten(2).mT)
        return t * self.fc(t.mean(1, keepdim=True)).sigmoid()


@case("spatial")
class GateOfTokens(nn.Module):
    """One weight a token."""

    def __init__(self):
        super().__init__()
        self.embed, self.fc = nn.Linear(16, 16), nn.Linear(16, 1)

    def forward(self, x):
        t = self.embed(x.flatten(2).mT)
        return t * self.fc(t).sigmoid()


@case("temporal", size=(5, 3, 8, 8))
class GateOfFrames(nn.Module):
    """One weight a frame of a clip ``(N, T, C, H, W)``."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 1)

    def forward(self, x):
        return x * self.fc(x.mean((3, 4))).sigmoid()[..., None, None]


@case("dense")
class SpatialGroupEnhance(nn.Module):
    """SGE, Li et al., 2019: one map for each group of channels, kept in the first axis."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(1, 4, 1, 1)), nn.Parameter(torch.ones(1, 4, 1, 1))

    def forward(self, x):
        n, c, h, w = x.shape
        x = x.view(n * 4, -1, h, w)
        t = (x * x.mean((2, 3), keepdim=True)).sum(1, keepdim=True).view(n * 4, -1)
        t = (t - t.mean(1, keepdim=True)) / (t.std(1, keepdim=True) + 1e-5)
        t = (t.view(n, 4, h, w) * self.weight + self.bias).view(n * 4, 1, h, w)
        return (x * t.sigmoid()).view(n, c, h, w)


@case("pooling", "channel", "pairwise", "spatial")
class ParallelPolarized(nn.Module):
    """Polarized self-attention, Liu et al., 2021: the two gates after their softmax contractions."""

    def __init__(self):
        super().__init__()
        self.v, self.q, self.z = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 1, 1), nn.Conv2d(8, 16, 1)
        self.sv, self.sq = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 1)

    def forward(self, x):
        n, _c, h, w = x.shape
        pooled = self.v(x).flatten(2) @ self.q(x).flatten(2).softmax(-1).mT
        channel = self.z(pooled[..., None]).sigmoid() * x
        query = self.sq(x).mean((2, 3))[:, None].softmax(-1)
        spatial = (query @ self.sv(x).flatten(2)).view(n, 1, h, w).sigmoid() * x
        return channel + spatial


@case("branch")
class SelectiveKernel(nn.Module):
    """Li et al., 2019."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(16, 16, k, padding=k // 2) for k in (3, 5))
        self.squeeze, self.excite = nn.Linear(16, 8), nn.ModuleList(nn.Linear(8, 16) for _ in range(2))

    def forward(self, x):
        branches = torch.stack([conv(x) for conv in self.convs])
        z = self.squeeze(branches.sum(0).mean((2, 3)))
        weights = torch.stack([fc(z) for fc in self.excite]).softmax(0)
        return (weights[..., None, None] * branches).sum(0)


@case("branch", size=(16, 4, 4))
class MixtureOfExperts(nn.Module):
    """Each patch is sent through all experts, weighed by a softmax."""

    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(16, 3), nn.ModuleList(nn.Linear(16, 16) for _ in range(3))

    def forward(self, x):
        t = x.flatten(2).mT
        outputs = torch.stack([expert(t) for expert in self.experts], -2)
        return (self.gate(t).softmax(-1)[..., None] * outputs).sum(-2)


@case("pooling")
class GatedInstances(nn.Module):
    """Gated attention pooling of a bag of instances, Ilse et al., 2018."""

    def __init__(self):
        super().__init__()
        self.v, self.u, self.w = nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(8, 1)

    def forward(self, x):
        t = x.flatten(2).mT
        return (self.w(self.v(t).tanh() * self.u(t).sigmoid()).softmax(1) * t).sum(1)


@case("pooling")
class SeparableSelfAttention(nn.Module):
    """MobileViTv2, Mehta and Rastegari, 2022: one query pools the keys; the values are scaled by the context."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Conv2d(16, 33, 1)

    def forward(self, x):
        q, k, v = self.qkv(x).flatten(2).split([1, 16, 16], 1)
        return F.relu(v) * (q.softmax(-1) * k).sum(-1, keepdim=True)


@case("dense", "dense")
class CoordinateAttention(nn.Module):
    """Hou et al., 2021: a gate along rows and one along columns."""

    def __init__(self):
        super().__init__()
        self.squeeze, self.h, self.w = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1), nn.Conv2d(8, 16, 1)

    def forward(self, x):
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).mT
        y = F.hardswish(self.squeeze(torch.cat([rows, columns], 2)))
        rows, columns = y.split([x.shape[2], x.shape[3]], 2)
        return x * self.h(rows).sigmoid() * self.w(columns.mT).sigmoid()


@case("dense")
class ParameterFree(nn.Module):
    """SimAM, Yang et al., 2021."""

    def forward(self, x):
        d = (x - x.mean((2, 3), keepdim=True)).square()
        return x * (d / (4 * (d.mean((2, 3), keepdim=True) + 1e-4)) + 0.5).sigmoid()


@case("dense", "dense", "spatial")
class TripletAttention(nn.Module):
    """Misra et al., 2021: three views of the same feature map."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(2, 1, 3, padding=1) for _ in range(3))

    def forward(self, x):
        total = 0
        for conv, (a, b) in zip(self.convs, ((1, 2), (1, 3), (1, 1)), strict=True):
            t = x.transpose(a, b)
            pooled = torch.stack([t.amax(1), t.mean(1)], 1)
            total = total + (t * conv(pooled).sigmoid()).transpose(a, b)
        return total / 3


@case("dense")
class PyramidSplit(nn.Module):
    """PSA, Zhang et al., 2021: channel gates of several scales, normalised over the scales."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(16, 4, k, padding=k // 2) for k in (1, 3, 5, 7))
        self.fcs = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(4))

    def forward(self, x):
        parts = torch.stack([conv(x) for conv in self.convs], 1)
        gates = [
            fc(part.mean((2, 3), keepdim=True)).sigmoid() for fc, part in zip(self.fcs, parts.unbind(1), strict=False)
        ]
        return (parts * torch.stack(gates, 1).softmax(1)).flatten(1, 2)


@case("dense")
class LargeKernel(nn.Module):
    """LKA, Guo et al., 2022."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (
            nn.Conv2d(16, 16, 5, padding=2, groups=16),
            nn.Conv2d(16, 16, 7, padding=9, dilation=3, groups=16),
        )
        self.c = nn.Conv2d(16, 16, 1)

    def forward(self, x):
        return x * self.c(self.b(self.a(x)))


class OverLayers(nn.Module):
    """A learned query attends over the outputs of several layers, with heads (attention residuals)."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(layers))
        self.k, self.v, self.q = nn.Linear(16, 16), nn.Linear(16, 16), nn.Parameter(torch.randn(16))

    def forward(self, x):
        t = x.flatten(2).mT
        h = torch.stack([layer(t) for layer in self.layers], 2).flatten(0, 1)
        k, v = heads_of(self.k(h), 2), heads_of(self.v(h), 2)
        q = heads_of(self.q.view(1, 1, 16), 2).expand(len(h), -1, -1, -1)
        return (scores(q, k).softmax(-1) @ v).reshape(len(x), -1, 16)


@case("branch")
class OverTwoLayers(OverLayers):
    """As many layers as heads."""

    def __init__(self):
        super().__init__(2)


@case("branch")
class OverThreeLayers(OverLayers):
    def __init__(self):
        super().__init__(3)


@case("pairwise", "pairwise")
class MutualAttention(nn.Module):
    """The second direction takes the transposed scores of the first, whose values came through them (LookViT)."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(16, 16, 2, 2), nn.Conv2d(16, 16, 4, 4)
        self.q, self.k, self.v, self.w = (nn.Linear(16, 16) for _ in range(4))

    def forward(self, x):
        a, b = self.a(x).flatten(2).mT, self.b(x).flatten(2).mT
        shared = self.q(a) @ self.k(b).mT
        a = a + shared.softmax(-1) @ self.v(b)
        return shared.mT.softmax(-1) @ self.w(a)


@case("channel")
class GateBehindPartitions(nn.Module):
    """Features are cut into parts and put together again before the gate (RepMLP)."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(64, 64, 1, groups=4), nn.Linear(16, 16)

    def forward(self, x):
        n, c, h, w = x.shape
        parts = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 1, 3, 5)
        parts = self.conv(parts.reshape(-1, 64, 2, 2)).view(n, h // 4, w // 4, c, 4, 4)
        whole = parts.permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)
        return whole * self.fc(x.mean((2, 3))).sigmoid()[..., None, None]


@case("pairwise", "dense")
class GatedHeads(Tokens):
    """The output of each head has a gate at each token, from pooled values."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(16, 2)

    def attend(self, q, k, v):
        t = v.transpose(1, 2).flatten(2)
        gates = self.gate(t - t.mean(1, keepdim=True)).sigmoid().mT[..., None]
        return scores(q, k).softmax(-1) @ v * gates


class ConstantAttention(nn.Module):
    """Queries attend to each other before they see the image (the first layer of DETR's decoder)."""

    def __init__(self):
        super().__init__()
        self.queries, self.kv = nn.Parameter(torch.randn(5, 16)), nn.Linear(16, 32)

    def forward(self, x):
        q = self.queries[None]
        q = q + scores(q, q).softmax(-1) @ q
        k, v = self.kv(x.flatten(2).mT).chunk(2, -1)
        return scores(q.expand(len(x), -1, -1), k).softmax(-1) @ v


@case("pooling", "channel")
class AdditiveAttention(nn.Module):
    """SwiftFormer, Shaker et al., 2023: scores of unit norm weigh the queries, and their sum scales the keys."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.score = nn.Linear(16, 16), nn.Linear(16, 16), nn.Parameter(torch.randn(16, 1))

    def forward(self, x):
        t = x.flatten(2).mT
        q, k = F.normalize(self.q(t), dim=-1), F.normalize(self.k(t), dim=-1)
        weights = F.normalize(q @ self.score * 0.25, dim=1)
        return q + k * (weights * q).sum(1, keepdim=True)


@case("pairwise")
class EllipsisEinsum(Tokens):
    def attend(self, q, k, v):
        return torch.einsum("...ij,...jd->...id", torch.einsum("...id,...jd->...ij", q, k).softmax(-1), v)


@case("channel")
class EllipsisGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x):
        return torch.einsum("nc...,nc->nc...", x, self.fc(x.mean((2, 3))).sigmoid())

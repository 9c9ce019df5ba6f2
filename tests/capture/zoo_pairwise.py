"""Attention modules as papers describe them, written by hand: weights for pairs of tokens, positions or channels.

They differ from the modules of libraries in how they normalise, contract and arrange their weights.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F
from zoo_cases import Tokens, case, scores


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


@case("pairwise")
class EllipsisEinsum(Tokens):
    def attend(self, q, k, v):
        return torch.einsum("...ij,...jd->...id", torch.einsum("...id,...jd->...ij", q, k).softmax(-1), v)

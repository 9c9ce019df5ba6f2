"""Small networks with pairwise attention, written from the papers. They map ``(N, 8, 6, 6)`` to the same shape."""

import torch
from plain_networks import C
from torch import Tensor, nn
from torch.nn import functional as F


class NonLocal(nn.Module):
    """Wang et al. 2018: three forms of section 3.2, and variants with a hand-written softmax and with a ReLU."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.theta, self.phi, self.g = (nn.Conv2d(C, 4, 1) for _ in range(3))
        self.out = nn.Conv2d(4, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        theta, phi, g = (f(x).flatten(2) for f in (self.theta, self.phi, self.g))
        if self.form == "gaussian":
            flat = x.flatten(2)
            affinity = torch.softmax(flat.transpose(1, 2) @ flat, dim=-1)
        elif self.form == "embedded gaussian":
            affinity = (theta.transpose(1, 2) @ phi).softmax(-1)
        elif self.form == "hand-written softmax":
            exponential = torch.exp(theta.transpose(1, 2) @ phi)
            affinity = exponential / exponential.sum(-1, keepdim=True)
        elif self.form == "dot product":
            affinity = theta.transpose(1, 2) @ phi / phi.shape[-1]
        else:
            affinity = F.relu(theta.transpose(1, 2) @ phi) / phi.shape[-1]
        return x + self.out((affinity @ g.transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:]))


class LinearAttention(nn.Module):
    """Katharopoulos et al. 2020: keys are multiplied by values first, so the map is never computed."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(C, 3 * C, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        q, k = F.relu(q), F.relu(k)
        return x + (q @ (k.transpose(1, 2) @ v)).transpose(1, 2).unflatten(2, x.shape[2:])

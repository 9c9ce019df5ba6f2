"""Small networks that count the active function modes, and helpers to capture them."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import scaled_dot_product_attention as by_name

from attnviz.recording import capture


def modes() -> int:
    """Number of active function modes."""
    return torch._C._len_torch_function_stack()


class Fused(nn.Module):
    """Self-attention with the fused operator, looked up at each call or imported by name."""

    def __init__(self, *, imported: bool = False) -> None:
        super().__init__()
        self.imported, self.modes = imported, []

    def forward(self, x):
        self.modes.append(modes())
        return x + (by_name if self.imported else F.scaled_dot_product_attention)(x, x, x)


class Gated(nn.Module):
    """A gate that is applied right after the return of the last child."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.gate, self.modes = nn.Linear(8, 8), nn.Sigmoid(), []

    def forward(self, x):
        self.modes.append(modes())
        g = self.gate(self.fc((x * x).mean((2, 3))))
        self.modes.append(modes())
        y = x * g[:, :, None, None]
        return y * 2


def tokens(n: int = 2) -> torch.Tensor:
    """Tokens ``(n, 3, 5, 4)``."""
    return torch.randn(n, 3, 5, 4, generator=torch.Generator().manual_seed(n))


def records_of(model, x, sites=None):
    """The records of one forward call."""
    with torch.no_grad(), capture(model, sites) as captured:
        model(x)
    return captured

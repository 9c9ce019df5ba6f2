"""Recurrent networks without attention. Each maps ``(N, 3, 32, 48)``, as a sequence of patches, to class scores."""

from collections.abc import Callable

import torch
from conformance.entry import Entry, noise
from torch import Tensor, nn

D = 16


class OfPatches(nn.Module):
    """Patches of 8 pixels, a recurrent network, and a linear layer on its last state."""

    def __init__(self, network: nn.Module, width: int = D) -> None:
        super().__init__()
        self.patches, self.network, self.head = nn.Conv2d(3, D, 8, 8), network, nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        values = self.network(self.patches(x).flatten(2).transpose(1, 2))
        return self.head((values[0] if isinstance(values, tuple) else values)[:, -1])


class Unrolled(nn.Module):
    """A cell that is applied to one token after the other."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for token in x.unbind(1):
            state = self.cell(token, state)
        return (state[0] if isinstance(state, tuple) else state)[:, None]


class GRUByHand(nn.Module):
    """Cho et al. 2014: gates of the size of the state."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.candidate = nn.Linear(2 * D, 2 * D), nn.Linear(2 * D, D)

    def forward(self, x: Tensor, state: Tensor | None) -> Tensor:
        state = torch.zeros_like(x) if state is None else state
        reset, update = self.gates(torch.cat([x, state], dim=-1)).sigmoid().chunk(2, dim=-1)
        candidate = self.candidate(torch.cat([x, reset * state], dim=-1)).tanh()
        return update * state + (1 - update) * candidate


class LSTMByHand(nn.Module):
    """Hochreiter and Schmidhuber 1997, with a gate that forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(2 * D, 4 * D)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        hidden, cell = (torch.zeros_like(x), torch.zeros_like(x)) if state is None else state
        enter, keep, leave, value = self.gates(torch.cat([x, hidden], dim=-1)).chunk(4, dim=-1)
        cell = keep.sigmoid() * cell + enter.sigmoid() * value.tanh()
        return leave.sigmoid() * cell.tanh(), cell


class ElmanByHand(nn.Module):
    """Elman 1990: no gates."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2 * D, D)

    def forward(self, x: Tensor, state: Tensor | None) -> Tensor:
        return self.layer(torch.cat([x, torch.zeros_like(x) if state is None else state], dim=-1)).tanh()


class ConvolutionalLSTM(nn.Module):
    """Shi et al. 2015: gates are convolutions; the image is the input of three steps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gates, self.head = nn.Conv2d(3, D, 8, 8), nn.Conv2d(2 * D, 4 * D, 3, 1, 1), nn.Linear(D, 5)

    def forward(self, x: Tensor) -> Tensor:
        features = self.stem(x)
        hidden, cell = torch.zeros_like(features), torch.zeros_like(features)
        for _ in range(3):
            enter, keep, leave, value = self.gates(torch.cat([features, hidden], dim=1)).chunk(4, dim=1)
            cell = keep.sigmoid() * cell + enter.sigmoid() * value.tanh()
            hidden = leave.sigmoid() * cell.tanh()
        return self.head(hidden.mean((2, 3)))


_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "gru": lambda: OfPatches(nn.GRU(D, D, batch_first=True)),
    "gru-in-both-directions": lambda: OfPatches(nn.GRU(D, D, batch_first=True, bidirectional=True), 2 * D),
    "lstm": lambda: OfPatches(nn.LSTM(D, D, num_layers=2, batch_first=True)),
    "rnn": lambda: OfPatches(nn.RNN(D, D, batch_first=True)),
    "gru-cell": lambda: OfPatches(Unrolled(nn.GRUCell(D, D))),
    "gru-by-hand": lambda: OfPatches(Unrolled(GRUByHand())),
    "lstm-by-hand": lambda: OfPatches(Unrolled(LSTMByHand())),
    "elman-by-hand": lambda: OfPatches(Unrolled(ElmanByHand())),
    "convolutional-lstm": ConvolutionalLSTM,
}

ENTRIES = tuple(
    Entry("plain", "recurrent", name, build, noise(3, 32, 48), attention=False, quick=True)
    for name, build in _NETWORKS.items()
)

"""Observe the inputs and outputs of the nonlinearities of a model: modules, functions and methods."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

NONLINEARITIES = frozenset(
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish hardswish hardtanh softplus softsign tanh sigmoid "
    "hardsigmoid logsigmoid threshold tanhshrink hardshrink softshrink glu".split()
)

NonlinearityObserver = Callable[[str, str, Tensor], None]


class Nonlinearities(TorchFunctionMode):
    """A context that calls ``observer(name, "before" or "after", values)`` at each nonlinearity.

    A nonlinearity is named by its operation and its number in the forward pass: ``"relu6 03"``. Those inside scripted
    modules and fused operators are not observed.

    >>> import torch
    >>> with Nonlinearities(lambda name, part, values: print(name, part, values.tolist())):
    ...     _ = torch.relu_(torch.tensor([-1.0, 2.0]))
    relu 01 before [-1.0, 2.0]
    relu 01 after [0.0, 2.0]
    """

    def __init__(self, observer: NonlinearityObserver) -> None:
        super().__init__()
        self._observe = observer
        self._count: Counter[str] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "").rstrip("_")
        if name not in NONLINEARITIES or not args or not isinstance(args[0], Tensor):
            return func(*args, **(kwargs or {}))
        self._count[name] += 1
        label = f"{name} {self._count[name]:02}"
        self._observe(label, "before", args[0])
        out = func(*args, **(kwargs or {}))
        self._observe(label, "after", out)
        return out

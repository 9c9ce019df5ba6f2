"""Which kernels are live, and whether they compute what the reference computes."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from attnviz.errors import DeviceError
from attnviz.ops import native
from attnviz.ops.functional import deform_conv2d, deform_sample, ms_deform_attn

TOLERANCE = 1e-4  # of float32 results, relative to the largest


def kernels() -> dict[str, str]:
    """Facts about the sampler on this machine, for people.

    Returns:
        ``cpu``: ``avx512``, ``avx2``, ``portable`` or ``reference``; ``why``: how that came about; ``threads``;
        ``compiler``: what built the kernels, or a dash; ``gpu``: ``triton VERSION``, ``reference`` or ``none``, and
        why.

    >>> kernels()["cpu"] in {"avx512", "avx2", "portable", "reference"}
    True
    """
    loaded, why = native.load()
    return {
        "cpu": native.live(),
        "why": why,
        "threads": str(torch.get_num_threads()),
        "compiler": loaded.compiler if loaded else "–",
        "gpu": _gpu(),
    }


def _gpu() -> str:
    if not torch.cuda.is_available():
        return "none (torch sees no CUDA or ROCm device)"
    if importlib.util.find_spec("triton") is None:
        return "reference (Triton is not installed)"
    import triton  # type: ignore[import-untyped]  # it has no stubs

    return f"triton {triton.__version__} on {torch.cuda.get_device_name()}"


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison of a kernel with the float64 reference on the CPU.

    Attributes:
        name: The op and the tensor that was compared.
        error: Largest difference, relative to the largest value.
        limit: What is allowed.
    """

    name: str
    error: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the limit; a NaN is not."""
        return self.error <= self.limit


def self_test(device: str | torch.device = "cpu", tolerance: float = TOLERANCE) -> list[Check]:
    """Compare every op, forward and backward, on a device with the float64 reference.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"mps"``, …
        tolerance: Largest error that passes.

    Returns:
        One :class:`Check` per output and gradient; about 20, in a second or so.

    Raises:
        DeviceError: the device is not there.

    >>> all(check.passed for check in self_test("cpu"))
    True
    """
    device = torch.device(device)
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DeviceError(
            f"device {device}: wanted one that torch can use, got: {str(error).splitlines()[0]}"
        ) from error
    return [
        Check(f"{name}: {tensor}", error, tolerance)
        for name, op, inputs in _cases()
        for tensor, error in _errors(op, inputs, device)
    ]


def _cases() -> Iterator[tuple[str, Callable[..., Tensor], dict[str, Tensor]]]:
    """Ops on small odd shapes, with points outside the image."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    x = {"input": normal(2, 20, 9, 7), "offset": 2 * normal(2, 36, 9, 7), "mask": normal(2, 18, 9, 7)}
    convolve = {**x, "weight": normal(10, 10, 3, 3), "bias": normal(10)}
    yield "deform_conv2d", lambda **t: deform_conv2d(**t, padding=1), convolve
    yield "deform_sample", lambda **t: deform_sample(**t, kernel_size=3, padding=1), x
    shapes, starts = torch.tensor([[6, 4], [3, 2]]), torch.tensor([0, 24])
    attend = {
        "value": normal(2, 30, 3, 20),
        "sampling_locations": 0.5 + 0.4 * normal(2, 5, 3, 2, 4, 2),
        "attention_weights": normal(2, 5, 3, 2, 4),
    }
    yield "ms_deform_attn", lambda **t: _attend(shapes, starts, **t), attend


def _attend(
    shapes: Tensor, starts: Tensor, value: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    shapes, starts = shapes.to(value.device), starts.to(value.device)
    return ms_deform_attn(value, shapes, starts, sampling_locations, attention_weights)


def _errors(op: Callable[..., Tensor], inputs: dict[str, Tensor], device: torch.device) -> Iterator[tuple[str, float]]:
    with native.use_kernel(native.REFERENCE):
        wanted = _results(op, inputs)
    narrow = {key: t.to(device, torch.float32) for key, t in inputs.items()}
    got = _results(op, narrow)
    for key, tensor in wanted.items():
        error = (got[key].to("cpu", torch.float64) - tensor).abs().max() / tensor.abs().max()
        yield key, float(error)


def _results(op: Callable[..., Tensor], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The output and the gradients of its squared sum."""
    leaves = {key: t.detach().clone().requires_grad_() for key, t in inputs.items()}
    out = op(**leaves)
    grads = torch.autograd.grad(out.square().sum(), list(leaves.values()))
    return {"output": out.detach(), **{f"gradient of {key}": g for key, g in zip(leaves, grads, strict=True)}}

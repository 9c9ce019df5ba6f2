"""Softmax attention that also gives its map, which PyTorch's fused operator keeps to itself."""

import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from attnviz._compat import safe_softmax
from attnviz.ops import native
from attnviz.ops.dispatcher_bypass import is_direct
from attnviz.ops.geometry import remembered


def softmax_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    r"""Attention and its map, in one pass where the compiled kernels can.

    .. math:: g = \mathrm{softmax}(s\, Q K^\top + M), \quad y = g V

    The compiled kernel takes float32 on the CPU without gradients, and differs from PyTorch's operations by rounding.
    Everything else is computed by those.

    Args:
        query: (N, H, Q, d).
        key: (N, H, K, d).
        value: (N, H, K, e).
        mask: What is added to the scores; spreads to (N, H, Q, K).
        scale: What the products are multiplied with; :math:`d^{-1/2}` by default.

    Returns:
        The map (N, H, Q, K), whose rows sum to 1, and to 0 where a query sees no key; the output (N, H, Q, e), laid out
        in memory as PyTorch's fused operator has it where the compiled kernel runs.

    Raises:
        ValueError: the mask does not spread to the map.

    Source: Vaswani et al., NeurIPS 2017, section 3.2.1.

    >>> x = torch.eye(2)[None, None]
    >>> g, y = softmax_attention(x, x, x, scale=0.0)
    >>> g.tolist() == y.tolist() == [[[[0.5, 0.5], [0.5, 0.5]]]]
    True
    """
    tensors = query, key, value, mask
    if mask is not None:
        _check_spreads(mask.shape, (*query.shape[:-1], key.shape[-2]))
    plan = _plan(native.current(), scale, *(_laid(t) for t in tensors)) if is_direct(*tensors) else None
    if plan is None:
        # The product would copy keys that it gets transposed.
        key = key.contiguous() if query.shape[-2] < key.shape[-2] else key
        scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.mT
        g = scores.softmax(-1) if mask is None else safe_softmax(scores + mask, -1)
        return g, g @ value
    call, of_g, of_y, steps = plan
    g = torch.empty(of_g, dtype=torch.float32, device="cpu")
    y = torch.empty_strided(of_y, steps, dtype=torch.float32, device="cpu")
    native.run(call, *tensors, g, y)
    return g, y


def _check_spreads(shape: Sequence[int], wanted: tuple[int, ...]) -> None:
    behind = wanted[len(wanted) - len(shape) :]
    if len(shape) > len(wanted) or any(size not in {1, whole} for size, whole in zip(shape, behind, strict=True)):
        raise ValueError(f"mask: wanted a shape that spreads to (N, H, Q, K) = {wanted}, got {tuple(shape)}")


_Laid = tuple[torch.dtype, tuple[int, ...], tuple[int, ...]]
_Four = tuple[int, int, int, int]


def _laid(tensor: Tensor | None) -> _Laid | None:
    """Memory layout of a tensor for a kernel."""
    return None if tensor is None else (tensor.dtype, tensor.shape, tensor.stride())


@remembered
def _plan(
    current: tuple[str, int], scale: float | None, query: _Laid, key: _Laid, value: _Laid, mask: _Laid | None
) -> tuple[native.Call, _Four, _Four, _Four] | None:
    """Return the kernel, the shapes of map and output, and the strides of the output; ``None`` if unsupported."""
    given = (query, key, value)
    if current[0] == native.REFERENCE or any(dtype != torch.float32 for dtype, *_ in (*given, mask or query)):
        return None
    if any(len(shape) != 4 or 0 in shape or steps[-1] != 1 for _, shape, steps in given):
        return None
    (n, heads, queries, depth), (*lead, keys, width) = query[1], value[1]
    if key[1] != (n, heads, keys, depth) or lead != [n, heads]:
        return None
    added: tuple[int, ...] = (0, 0, 0, 0)
    if mask is not None:
        _, shape, steps = mask
        if not shape or steps[-1] != 1:
            return None
        missing = 4 - len(shape)
        added = (0,) * missing + tuple(0 if size == 1 else step for size, step in zip(shape, steps, strict=True))
    (bits,) = struct.unpack("q", struct.pack("d", depth**-0.5 if scale is None else scale))
    of_y = n, heads, queries, width
    steps = _steps_like(query[2], of_y) if width == depth else (heads * queries * width, queries * width, width, 1)
    sizes = n, heads, queries, keys, depth, width, *query[2][:3], *key[2][:3], *value[2][:3], *added, *steps[:3], bits
    call = native.prepare(native.SOFTMAX, sizes, torch.float32, *current)
    return call, (n, heads, queries, keys), of_y, steps


def _steps_like(query: tuple[int, ...], shape: _Four) -> _Four:
    """The strides of a dense tensor whose axes lie in memory in the order of those of the queries."""
    model = torch.empty_strided(shape, query, device="meta")
    a, b, c, d = torch.empty_like(model).stride()
    return a, b, c, d

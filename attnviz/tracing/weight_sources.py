"""Where weights come from: the softmax, sigmoid or normalisation that computed them."""

from __future__ import annotations

from dataclasses import dataclass

from attnviz.instrumentation.operations import CONTRACTIONS, LEARNED, SLICING, TRANSPARENT
from attnviz.tracing.graph import Node
from attnviz.tracing.provenance import axis_moved, is_logistic, root

_MAX_STEPS = 100
_SQUASHES = frozenset({"softmax", "softmin", "sigmoid", "hardsigmoid", "normalize"})
_MASKS = frozenset({"masked_fill", "nan_to_num", "where"})
# Talking heads: CaiT mixes heads by a linear layer, EfficientFormerV2 by a 1 × 1 convolution.
_HEAD_MIXERS = frozenset({"linear", "conv2d", "conv1d", "einsum", "batch_norm", "instance_norm"})


@dataclass(frozen=True, slots=True)
class Softmax:
    """The softmax of a weight.

    Attributes:
        axis: The axis of the weight that sums to 1; ``None`` if later operations hide it.
    """

    axis: int | None


def softmax_of(node: Node) -> Softmax | None:
    """The softmax that computed ``node``, up to masks, dropout, mixing of heads and rearranging; ``None`` for none."""
    moves: list[Node] = []
    while node.name != "softmax" and not is_normalised_exponential(node):
        weights = [p for p in node.parents if p.depends]
        if not weights:
            return None
        if node.name in TRANSPARENT | _MASKS | SLICING or _is_tiled(node):
            moves.append(node)
            node = node.parents[0] if node.parents[0].depends else weights[0]
        elif node.name in {"mul", "div", "add", "sub"}:  # ConViT blends its softmax with constant scores
            same = [p for p in weights if p.shape == node.shape]
            if len(same) != 1:
                return None
            node = same[0]
        elif node.name in _HEAD_MIXERS and mixes_heads(node):
            moves.append(node)
            node = weights[0]
        else:
            return None
    axis = softmax_axis(node)
    for move in reversed(moves):
        axis = _axis_after(move, axis)
    return Softmax(axis)


def comparison_of(g: Node) -> Node | None:
    """The product of queries and keys from which ``g`` was computed, through functions of each score or of a row.

    Any normalisation is allowed: sigmoids, powers, sparse projections, sinks, differences of maps, mixtures of heads.
    The product has the axes of queries and keys of ``g``. ``None`` for none.
    """
    sizes = sorted(g.shape[-2:])
    stack, visited = [g], {id(g)}
    while stack and len(visited) < _MAX_STEPS:
        node = stack.pop()
        if is_comparison(node):
            if sizes[0] in node.shape and sizes[1] in node.shape:
                return node
            continue
        if node.name in LEARNED and not mixes_heads(node):
            continue
        for parent in node.parents:
            if parent.depends and id(parent) not in visited:
                visited.add(id(parent))
                stack.append(parent)
    return None


def is_comparison(node: Node) -> bool:
    """Whether ``node`` can be a product of queries and keys; one of them can be learned if it is a matrix product."""
    if node.name not in CONTRACTIONS or mixes_heads(node):
        return False
    return sum(parent.depends for parent in node.parents) > 1 or node.name in {"matmul", "baddbmm"}


def _is_tiled(node: Node) -> bool:
    """Whether ``node`` multiplies a value by a constant pattern, or joins parts of one value again.

    BAT (bat_resnext26ts) repeats its weights in this way.
    """
    if node.name == "mul":
        return sum(p.depends for p in node.parents) == 1 and node.shape not in {p.shape for p in node.parents}
    return node.name == "split" or (
        node.name == "cat" and len({id(p.parents[0]) for p in node.parents if p.parents}) == 1
    )


def is_normalised_exponential(node: Node) -> bool:
    """Whether ``node`` is a hand-written softmax, ``exp(x) / exp(x).sum(dim, keepdim=True)``.

    With a sigmoid in place of the exponential, it is the normalisation of BAT (bat_resnext26ts).
    """
    if node.name != "div" or len(node.parents) != 2:
        return False
    numerator, denominator = (root(p) for p in node.parents)
    is_sum = denominator.name == "sum" and root(denominator.parents[0]) is numerator
    return numerator.name in {"exp", "sigmoid"} and is_sum


def softmax_axis(node: Node) -> int | None:
    """The axis that a softmax, a hand-written softmax or ``F.normalize`` normalises; ``None`` if it was not given."""
    if node.name == "div":
        node = root(node.parents[1])
    ndim = len(node.parents[0].shape) if node.parents else len(node.shape)
    index, default = (2, 1) if node.name == "normalize" else (1, None)  # F.normalize(x, p, dim=1)
    dim = node.kwargs.get("dim", node.args[index] if len(node.args) > index else default)
    return int(dim) % ndim if isinstance(dim, int) else None


def mixes_heads(node: Node) -> bool:
    """Whether a linear map changes one small axis only, the heads; the axes of queries and keys keep their sizes."""
    if sum(parent.depends for parent in node.parents) > 1 or len(node.shape) < 4:
        return False
    before, after = sorted(node.parents[0].shape), sorted(node.shape)
    return before[1:] == after[1:] or before[-2:] == after[-2:]


def _axis_after(move: Node, axis: int | None) -> int | None:
    """The number of an axis after a rearrangement; ``None`` if it cannot be determined."""
    before, after = move.parents[0].shape, move.shape
    if axis is None:
        return None
    if move.name in {"permute", "transpose", "swapaxes", "movedim", "moveaxis"}:
        return axis_moved(move, axis)
    if len(before) == len(after):
        return axis if before[axis] == after[axis] else None
    # Other axes are merged or split: this one keeps its number from the front or from the end.
    if before[: axis + 1] == after[: axis + 1]:
        return axis
    from_end = axis - len(before)
    return from_end % len(after) if before[from_end:] == after[from_end:] else None


def squash_node(node: Node) -> Node | None:
    """The bounded function that computed weights, up to slicing, rearranging and constant scales; ``None`` for none."""
    while node.name not in _SQUASHES and not is_normalised_exponential(node) and not is_logistic(node):
        inner = [p for p in node.parents if p.depends]
        if not inner or node.name not in TRANSPARENT | SLICING | {"mul", "div", "masked_fill"}:
            return None
        if node.name in {"mul", "div"} and len(inner) > 1:
            return _modulated(inner)
        node = inner[0]
    return node


def _modulated(factors: list[Node]) -> Node | None:
    """The softmax among two factors of one shape: EfficientViM scales a softmax by a second value at each position."""
    if factors[0].shape != factors[1].shape:
        return None
    found = [squash for squash in map(squash_node, factors) if squash is not None and is_normalised(squash)]
    return found[0] if len(found) == 1 else None


def is_normalised(squash: Node) -> bool:
    """Whether a squash normalises weights along an axis."""
    return squash.name.startswith("soft") or squash.name == "normalize" or is_normalised_exponential(squash)


def squash_name(squash: Node) -> str:
    """Name of the squash; ``"softmax"`` or ``"sigmoid"`` for a hand-written one."""
    by_hand = "softmax" if is_normalised_exponential(squash) else "sigmoid"
    return squash.name if squash.name in _SQUASHES else by_hand

"""The graph of one forward pass: every operation, its operands, and the module that ran it."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.core.records import ChildReturn


@dataclass(slots=True, eq=False)
class Node:
    """One value of the forward pass.

    Attributes:
        index: Order of creation.
        name: Name of the operation; for a value that no operation of the pass computed, ``"input"``, ``"constant"``, or
            ``"outside"`` if code outside PyTorch computed it during the pass (:data:`OUTSIDE`).
        args: Positional arguments of the operation, with every tensor replaced by its node.
        kwargs: Keyword arguments, likewise.
        parents: All nodes among the arguments.
        shape: Shape of the value; ``()`` if it has no fixed one, as a nested tensor.
        strides: Strides of the value; an axis of stride 0 is repeated.
        depends: Whether the value depends on the inputs of the model.
        storage: Number of the memory that holds the value; nodes with the same number share memory.
        module: Path of the innermost running module.
        position: Number of earlier operations of this name in the same call of the module.
        source: ``file:line`` of the operation.
        itemsize: Bytes per number.
        output: Index of the value among the results of the operation.
        patchable: Whether the model looked the function up in ``torch.nn.functional``, where it can be patched.
        starts_after: The last child module that had returned before; ``None`` if that does not identify one moment.
        value: The tensor itself if it can be an index: integers or booleans, of limited size.
        is_visible: Whether a function mode receives the operation, so that it can be captured. Operations inside
            scripted functions are traced and cannot be captured.
        is_opaque: Whether the operation is unknown: an ``autograd.Function`` or an operator of another library whose
            own operations are not traced.
        bounded: Which operands of a product are numbers between 0 and 1 that differ.
        users: The nodes with this node as a parent.
        cache: Results of analyses of the value, so that a network of residual blocks is traversed only once.
    """

    index: int
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    parents: tuple[Node, ...]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    depends: bool
    storage: int
    module: str = ""
    position: int = 0
    source: str = ""
    itemsize: int = 4
    output: int = 0
    patchable: bool = False
    starts_after: ChildReturn | None = None
    value: Tensor | None = field(default=None, repr=False)
    is_visible: bool = True
    is_opaque: bool = False
    bounded: tuple[int, ...] = ()
    users: list[Node] = field(default_factory=list, init=False, repr=False)
    cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)


@dataclass(slots=True)
class Graph:
    """All nodes of one forward pass, and the overwrites of memory.

    Attributes:
        nodes: In the order of the forward pass.
        images: Batch size: the first axis of the image input (:func:`image_input`).
        overwrites: For each memory, the node indices at which it was overwritten.
        type_names: Class name of each module, by path.
        unpatchable: Modules with a call of a patchable function that bypassed the patch, whose calls a patch miscounts.
        outputs: The output of each call of a module, by path; ``None`` if it is no tensor.
        untraceable: Operations whose values could not be described, such as those of nested tensors, with the reason.
    """

    nodes: list[Node] = field(default_factory=list)
    images: int = 0
    overwrites: dict[int, list[int]] = field(default_factory=dict)
    type_names: dict[str, str] = field(default_factory=dict)
    unpatchable: set[str] = field(default_factory=set)
    outputs: dict[str, list[Node | None]] = field(default_factory=dict)
    untraceable: list[tuple[Node, str]] = field(default_factory=list)

    def add(self, node: Node) -> Node:
        """Append a node, and enter it among the users of its parents."""
        self.nodes.append(node)
        for parent in dict.fromkeys(node.parents):
            parent.users.append(node)
        return node

    def overwritten_after(self, node: Node, index: int) -> bool:
        """Whether the memory of ``node`` is overwritten by the operation of node ``index`` or a later one."""
        return any(overwrite >= index for overwrite in self.overwrites.get(node.storage, ()))


OUTSIDE = "outside"
"""Name of a value that code outside PyTorch computed during the pass: a NumPy array, or memory that a kernel filled."""


WITHOUT_TENSORS = frozenset((type(None), bool, int, float, str, torch.dtype, torch.device, slice, set))
"""Types of most arguments and attributes: known at once, as the checks for a mapping and a dataclass are slow."""


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor in nested sequences, mappings and dataclasses."""
    found: list[Tensor] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[Tensor]) -> None:
    kind = type(value)
    if kind in WITHOUT_TENSORS:
        return
    if isinstance(value, Tensor):
        found.append(value)
    elif kind is tuple or kind is list:
        for item in value:
            _collect(item, found)
    elif kind is dict or kind is OrderedDict:
        for item in value.values():
            _collect(item, found)
    else:
        _collect_of_unusual(value, found)


def _collect_of_unusual(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Mapping):
        for item in value.values():
            _collect(item, found)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, found)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for entry in dataclasses.fields(value):
            _collect(getattr(value, entry.name, None), found)


def input_tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor of the inputs of a model, also those that are attributes of an object, such as a batch encoding."""
    items = value if isinstance(value, list | tuple) else value.values() if isinstance(value, Mapping) else (value,)
    for item in items:
        if isinstance(item, Tensor | list | tuple | Mapping) or dataclasses.is_dataclass(item):
            yield from tensors_in(item)
        elif not isinstance(item, nn.Module | type):
            yield from tensors_in(getattr(item, "__dict__", None))


def image_input(tensors: list[Tensor]) -> Tensor | None:
    """The images or clips among the inputs: the first floating-point tensor with 4 or 5 axes, or the first tensor."""
    ranked = [tensor for tensor in tensors if tensor.ndim]
    images = (tensor for tensor in ranked if tensor.ndim in {4, 5} and tensor.is_floating_point())
    return next(images, ranked[0] if ranked else None)

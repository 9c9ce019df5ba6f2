"""The graph of one forward pass: every operation, its operands, and the module that ran it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from attnviz.core.records import ChildReturn


@dataclass(slots=True, eq=False)
class Node:
    """One value of the forward pass.

    Attributes:
        index: Order of creation.
        name: Name of the operation; ``"input"`` or ``"constant"`` for a value that no traced operation computed.
        args: Positional arguments of the operation, with every tensor replaced by its node.
        kwargs: Keyword arguments, likewise.
        parents: All nodes among the arguments.
        shape: Shape of the value.
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
    cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)


@dataclass(slots=True)
class Graph:
    """All nodes of one forward pass, and the overwrites of memory.

    Attributes:
        nodes: In the order of the forward pass.
        images: Batch size: the first axis of the first input.
        overwrites: For each memory, the node indices at which it was overwritten.
        type_names: Class name of each module, by path.
        unpatchable: Modules with a call of a patchable function that bypassed the patch, whose calls a patch miscounts.
    """

    nodes: list[Node] = field(default_factory=list)
    images: int = 0
    overwrites: dict[int, list[int]] = field(default_factory=dict)
    type_names: dict[str, str] = field(default_factory=dict)
    unpatchable: set[str] = field(default_factory=set)

    def overwritten_after(self, node: Node, index: int) -> bool:
        """Whether the memory of ``node`` is overwritten by the operation of node ``index`` or a later one."""
        return any(overwrite >= index for overwrite in self.overwrites.get(node.storage, ()))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)

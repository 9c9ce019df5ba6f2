"""What one forward pass did: every operation, what it was computed from, and where in the model it stands."""

from __future__ import annotations

import sys
import sysconfig
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from attnviz._compat import function_mode_depth
from attnviz.core.records import ChildReturn
from attnviz.instrumentation.adapters import adapters
from attnviz.instrumentation.forward_wrapper import wrap_forward
from attnviz.instrumentation.functional_patches import FUNCTIONS
from attnviz.instrumentation.operations import is_getter, name_of


@dataclass(slots=True, eq=False)
class Node:
    """One value of the forward pass.

    Attributes:
        index: Order of creation.
        name: The operation's name; ``"input"`` or ``"constant"`` for a value that no operation made.
        args: The operation's positional operands, every tensor replaced by its node.
        kwargs: The named ones, likewise.
        parents: All nodes among the operands.
        shape: Shape of the value.
        strides: Strides of the value: a stride of 0 is a repeated axis.
        depends: Whether the value depends on the model's inputs.
        storage: Which memory the value lives in: two nodes with the same number share it.
        module: Path of the innermost module that was running.
        position: How many operations of this name that call of the module had seen before.
        itemsize: Bytes of each number.
        output: Which of the operation's results it is.
        patchable: Whether the model looked the function up in ``torch.nn.functional``, where it can be patched.
        starts_after: The last child module that had returned before; ``None`` where that does not identify one moment.
        value: The tensor itself, where it may be an index: whole numbers or booleans, and not too many.
        source: ``file:line`` of the operation.
        cache: What was found out about the value, kept so that a network of residual blocks is walked only once.
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
    """All nodes of one forward pass, and when memory was overwritten.

    Attributes:
        nodes: In the order of the forward pass.
        overwrites: For each memory, the moments at which it was overwritten.
        type_names: The class of each module, by path.
        images: How many images the batch held: the first axis of the first input.
        unpatchable: The modules that called such a function in another way: who only stands in front would miscount.
    """

    nodes: list[Node] = field(default_factory=list)
    images: int = 0
    overwrites: dict[int, list[int]] = field(default_factory=dict)
    type_names: dict[str, str] = field(default_factory=dict)
    unpatchable: set[str] = field(default_factory=set)

    def overwritten_after(self, node: Node, moment: int) -> bool:
        """Whether the memory of ``node`` is overwritten by an operation that ended at or after ``moment``."""
        return any(index >= moment for index in self.overwrites.get(node.storage, ()))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in a nest of tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of one operation: what its results have in common."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    parents: tuple[Node, ...]
    operands: list[Tensor]
    position: int
    source: str
    patchable: bool
    starts_after: ChildReturn | None


class _Frame:
    """One running call of a module: what it counted, and which modules have run inside it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.starts_after: ChildReturn | None = None
        self._returned: set[str] = set()
        self._modes = function_mode_depth()

    def returned(self, module: str, *, is_child: bool) -> None:
        """A module has run inside this call, called by it or further in.

        A child's return is told apart if the module ran for the first time, and if no mode is on that ends later.
        """
        is_first = module not in self._returned
        self._returned.add(module)
        if is_child:
            is_known = is_first and self._modes is not None and function_mode_depth() == self._modes
            self.starts_after = ChildReturn(module, dict(self.counts)) if is_known else None


class Tracer(TorchFunctionMode):
    """Builds a :class:`Graph` while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = Graph()
        self._adapters = adapters()
        self._known: Any = WeakTensorKeyDictionary()
        self._frames = [_Frame("")]
        self._thread = threading.get_ident()
        self._patchable = False
        self._adapting = 0
        self._storages = 0

    def follow(self, model: nn.Module, undo: ExitStack) -> None:
        """Keep account of which module of ``model`` is running; ``undo`` takes it off again."""
        for path, module in model.named_modules():
            self.graph.type_names[path] = type(module).__name__
            undo.callback(wrap_forward(module, self._around(path)))

    def enter_inputs(self, inputs: Any) -> None:
        """Mark every tensor of ``inputs`` as an input of the model."""
        for tensor in tensors_in(inputs):
            self._known[tensor] = self._leaf(tensor, "input")
            if not self.graph.images and tensor.ndim:
                self.graph.images = tensor.shape[0]

    def _around(self, path: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def wrap(forward: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any, **kwargs: Any) -> Any:
                if threading.get_ident() != self._thread:  # it runs beside, and its operations are not seen
                    return forward(*args, **kwargs)
                self._frames.append(_Frame(path))
                try:
                    result = forward(*args, **kwargs)
                finally:
                    self._frames.pop()
                for frame in self._frames:
                    frame.returned(path, is_child=frame is self._frames[-1])
                return result

            return run

        return wrap

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if is_getter(func):
            return func(*args, **kwargs)
        name = name_of(func)
        if name in self._adapters:
            self._adapting += 1
            try:
                with self:
                    return self._adapters[name](*args, **kwargs)
            finally:
                self._adapting -= 1
        patchable, self._patchable = self._patchable, False
        starts_after = self._frames[-1].starts_after
        if name in FUNCTIONS and not patchable:
            self._miscount()
        operands = list(tensors_in((args, kwargs)))
        # The nodes are looked up first: an in-place operation gives its operand a new one.
        parents = tuple(self._node(t) for t in operands)
        versions = [_version(t) for t in operands]
        seen_args, seen_kwargs = self._symbolic(args), self._symbolic(kwargs)
        result = func(*args, **kwargs)
        call = _Call(
            name, seen_args, seen_kwargs, parents, operands, self._count(name), _source(), patchable, starts_after
        )
        for output, tensor in enumerate(self._made(result, operands, versions)):
            self._enter(tensor, call, output)
        return result

    def intercept(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call through the place where a capture can stand; not where an adapter makes it, which a capture calls."""
        self._patchable = not self._adapting
        try:
            return function(*args, **kwargs)
        finally:
            if self._patchable:  # the mode did not see it
                self._patchable = False
                self._miscount()

    def _miscount(self) -> None:
        """Who only stands in front of functions would miscount those of the modules that are running."""
        self.graph.unpatchable.update(frame.path for frame in self._frames)

    def _made(self, result: Any, operands: list[Tensor], versions: list[int | None]) -> list[Tensor]:
        """The tensors with a new value: new ones, and operands that were overwritten."""
        changed = [t for t, version in zip(operands, versions, strict=True) if _version(t) != version]
        old = {id(t) for t in operands}
        return [t for t in tensors_in(result) if id(t) not in old] + changed

    def _count(self, name: str) -> int:
        position = self._frames[-1].counts[name]
        for frame in self._frames:
            frame.counts[name] += 1
        return position

    def _enter(self, tensor: Tensor, call: _Call, output: int) -> None:
        own = self._known.get(tensor)
        shared = next((self._known[t].storage for t in call.operands if _share_memory(t, tensor)), None)
        if own is not None:
            self.graph.overwrites.setdefault(own.storage, []).append(len(self.graph.nodes))
        node = self._node_of(tensor, call, self._fresh() if shared is None else shared, output)
        self.graph.nodes.append(node)
        self._known[tensor] = node
        base = tensor._base
        if own is not None and base is not None and base in self._known:
            before = self._known[base]
            self._known[base] = replace(
                node, parents=(before, node), shape=before.shape, strides=before.strides, storage=before.storage
            )

    def _node_of(self, tensor: Tensor, call: _Call, storage: int, output: int) -> Node:
        return Node(
            index=len(self.graph.nodes),
            name=call.name,
            args=call.args,
            kwargs=call.kwargs,
            parents=call.parents,
            shape=tuple(tensor.shape),
            strides=_strides(tensor),
            depends=any(parent.depends for parent in call.parents),
            storage=storage,
            module=self._frames[-1].path,
            position=call.position,
            source=call.source,
            itemsize=tensor.element_size(),
            output=output,
            patchable=call.patchable,
            starts_after=call.starts_after,
            value=_as_index(tensor),
        )

    def _node(self, tensor: Tensor) -> Node:
        known: Node | None = self._known.get(tensor)
        if known is None:
            known = self._known[tensor] = self._leaf(tensor, "constant")
        return known

    def _leaf(self, tensor: Tensor, name: str) -> Node:
        index, shape, storage = len(self.graph.nodes), tuple(tensor.shape), self._fresh()
        node = Node(index, name, (), {}, (), shape, _strides(tensor), name == "input", storage)
        node.itemsize, node.value = tensor.element_size(), _as_index(tensor)
        self.graph.nodes.append(node)
        return node

    def _fresh(self) -> int:
        self._storages += 1
        return self._storages

    def _symbolic(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._node(value)
        if isinstance(value, dict):
            return {key: self._symbolic(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return tuple(self._symbolic(item) for item in value)
        return value


def _strides(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.stride()) if tensor.layout == torch.strided else ()


def _as_index(tensor: Tensor) -> Tensor | None:
    whole = not tensor.is_floating_point() and not tensor.is_complex()
    return tensor if whole and tensor.numel() <= _LARGEST_INDEX else None


_LARGEST_INDEX = 1 << 20


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _share_memory(one: Tensor, other: Tensor) -> bool:
    if one is other:
        return True
    if one.layout != torch.strided or other.layout != torch.strided:
        return False
    return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)


_LIBRARY = sysconfig.get_paths()["purelib"]
_SKIPPED = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


def _short(path: str) -> str:
    """The path below the folder of installed packages, or below the working folder, where it is there."""
    for folder in (_LIBRARY, str(Path.cwd())):
        if path.startswith(folder + "/"):
            return path[len(folder) + 1 :]
    return path


def _source() -> str:
    """``file:line`` of the nearest caller outside PyTorch and this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith(_SKIPPED):
            return f"{_short(path)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""

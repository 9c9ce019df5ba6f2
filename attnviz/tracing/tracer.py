"""Trace one forward pass into a graph of its operations."""

from __future__ import annotations

import sys
import sysconfig
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

import attnviz.instrumentation
from attnviz._compat import function_mode_depth
from attnviz.core.records import ChildReturn
from attnviz.instrumentation.adapters import adapters
from attnviz.instrumentation.forward_wrapper import wrap_forward
from attnviz.instrumentation.functional_patches import FUNCTIONS
from attnviz.instrumentation.operations import is_getter, name_of
from attnviz.tracing.graph import Graph, Node, tensors_in


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of an operation: the attributes that its results share."""

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
    """One running call of a module: its counts of operations, and the modules that have returned inside it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.starts_after: ChildReturn | None = None
        self._returned: set[str] = set()
        self._modes = function_mode_depth()

    def returned(self, module: str, *, is_child: bool) -> None:
        """Note that a module has returned inside this call, called directly or by a descendant.

        A capture can identify the return of a child if it is the module's first return in this call. It can enter a
        function mode there if no mode of the model is active that would be left later.
        """
        is_first = module not in self._returned
        self._returned.add(module)
        if is_child:
            is_usable = is_first and self._modes is not None and function_mode_depth() == self._modes
            self.starts_after = ChildReturn(module, dict(self.counts)) if is_usable else None


class Tracer(TorchFunctionMode):
    """A function mode that builds a :class:`Graph`."""

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
        """Track which module of ``model`` is running, until ``undo`` is closed."""
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
                if threading.get_ident() != self._thread:  # the mode is active in the tracing thread only
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
        # The nodes are looked up before the call: an in-place operation gives its operand a new node.
        parents = tuple(self._node(t) for t in operands)
        versions = [_version(t) for t in operands]
        node_args, node_kwargs = self._symbolic(args), self._symbolic(kwargs)
        result = func(*args, **kwargs)
        call = _Call(
            name, node_args, node_kwargs, parents, operands, self._count(name), _source(), patchable, starts_after
        )
        for output, tensor in enumerate(self._made(result, operands, versions)):
            self._add(tensor, call, output)
        return result

    def intercept(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Handle a call of a patched function; a call by an adapter does not count, as a capture runs the adapter."""
        self._patchable = not self._adapting
        try:
            return function(*args, **kwargs)
        finally:
            if self._patchable:  # the mode did not receive it, for example under torch._C.DisableTorchFunction
                self._patchable = False
                self._miscount()

    def _miscount(self) -> None:
        """Mark the running modules as unpatchable: a patch would miscount their calls."""
        self.graph.unpatchable.update(frame.path for frame in self._frames)

    def _made(self, result: Any, operands: list[Tensor], versions: list[int | None]) -> list[Tensor]:
        """The tensors with a new value: new tensors, and operands that were overwritten."""
        changed = [t for t, version in zip(operands, versions, strict=True) if _version(t) != version]
        old = {id(t) for t in operands}
        return [t for t in tensors_in(result) if id(t) not in old] + changed

    def _count(self, name: str) -> int:
        position = self._frames[-1].counts[name]
        for frame in self._frames:
            frame.counts[name] += 1
        return position

    def _add(self, tensor: Tensor, call: _Call, output: int) -> None:
        own = self._known.get(tensor)
        shared = next((self._known[t].storage for t in call.operands if _share_memory(t, tensor)), None)
        if own is not None:
            self.graph.overwrites.setdefault(own.storage, []).append(len(self.graph.nodes))
        node = self._node_of(tensor, call, self._new_storage() if shared is None else shared, output)
        self.graph.nodes.append(node)
        self._known[tensor] = node
        # Writing to a view changes its base too: torchvision's MViTv2 adds relative positions to a view of the scores.
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
        index, shape, storage = len(self.graph.nodes), tuple(tensor.shape), self._new_storage()
        node = Node(index, name, (), {}, (), shape, _strides(tensor), name == "input", storage)
        node.itemsize, node.value = tensor.element_size(), _as_index(tensor)
        self.graph.nodes.append(node)
        return node

    def _new_storage(self) -> int:
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
_SKIPPED = tuple(str(Path(path).parent) for path in (torch.__file__, attnviz.instrumentation.__file__, __file__))


def _short(path: str) -> str:
    """The path relative to the folder of installed packages or to the working folder, if it is inside one of them."""
    for folder in (_LIBRARY, str(Path.cwd())):
        if path.startswith(folder + "/"):
            return path[len(folder) + 1 :]
    return path


def _source() -> str:
    """``file:line`` of the nearest caller outside PyTorch, instrumentation and tracing."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith(_SKIPPED):
            return f"{_short(path)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""

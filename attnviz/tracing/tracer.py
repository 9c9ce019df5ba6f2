"""Trace one forward pass into a graph of its operations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from attnviz._compat import is_functorch_wrapped, pop_dispatch_mode, push_dispatch_mode, unwrapped
from attnviz.core.records import ChildReturn
from attnviz.instrumentation.adapters import adapters
from attnviz.instrumentation.forward_wrapper import wrap_forward
from attnviz.instrumentation.functional_patches import FUNCTIONS
from attnviz.instrumentation.operations import PRODUCTS, SHAPE_ONLY, is_getter, is_opaque, name_of
from attnviz.tracing.call_frames import CallFrame
from attnviz.tracing.graph import OUTSIDE, WITHOUT_TENSORS, Graph, Node, image_input, input_tensors, tensors_in
from attnviz.tracing.source_lines import source_of_caller, working_folder
from attnviz.tracing.tensor_facts import (
    as_index,
    is_bounded,
    is_regular,
    itemsize_of,
    shape_of,
    share_memory,
    strides_of,
    version_of,
)
from attnviz.tracing.tensor_nodes import TensorNodes

# Their numbers leave PyTorch, and can come back as a new tensor.
_LEAVING = frozenset("numpy array tolist item dlpack to_dlpack".split())
_ARRIVING = frozenset("tensor as_tensor asarray from_numpy frombuffer from_dlpack lift_fresh".split())
# Memory without values: if it is read before an operation has written to it, a kernel outside PyTorch has filled it.
_UNWRITTEN = frozenset("empty new_empty empty_like empty_strided new_empty_strided".split())
_OVERWRITING = frozenset("copy fill zero normal uniform random exponential bernoulli".split())


@dataclass(slots=True)
class _Call:
    """One call of an operation: the attributes that its results share."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    parents: tuple[Node, ...]
    operands: list[Tensor]
    versions: list[int | None]
    source: str
    position: int = 0
    patchable: bool = False
    starts_after: ChildReturn | None = None
    is_visible: bool = True
    is_opaque: bool = False
    bounded: tuple[int, ...] = ()


class _HiddenOperations(TorchDispatchMode):
    """Records the operations that no function mode receives, such as those of a scripted function."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; by default PyTorch imports its compiler, which takes seconds, to exclude a mode."""
        return False

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tracer = tracer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._tracer.run_hidden(func, args, kwargs or {})


class Tracer(TorchFunctionMode):
    """A function mode that builds a :class:`Graph`. An error of its own is never raised into the model."""

    def __init__(self, *, is_method: bool = False) -> None:
        super().__init__()
        self.graph = Graph()
        self._is_method = is_method  # the operations outside of any forward are those of a method
        self.hidden_operations = _HiddenOperations(self)
        self._adapters = adapters()
        self._known = TensorNodes()
        self._frames = [CallFrame("")]
        self._thread = threading.get_ident()
        self._folder = working_folder()
        self._patchable = False
        self._adapting = 0
        self._storages = 0
        self._is_running = False  # an operation that is traced already
        self._of_model: set[int] = set()  # parameters, buffers and other tensors that the modules hold
        self._left = False  # numbers that depend on the inputs have left PyTorch

    def follow(self, model: nn.Module, undo: ExitStack) -> None:
        """Track which module of ``model`` is running, until ``undo`` is closed."""
        for path, module in model.named_modules():
            self.graph.type_names[path] = type(module).__name__
            undo.callback(wrap_forward(module, self._around(path)))
            self._of_model.update(map(id, tensors_in(vars(module))))  # its parameters and buffers are in there

    def enter_inputs(self, inputs: Any) -> None:
        """Mark every tensor of ``inputs`` as an input of the model."""
        tensors = list(input_tensors(inputs))
        for tensor in tensors:
            self._known[tensor] = self._leaf(tensor, "input")
        images = image_input(tensors)
        self.graph.images = 0 if images is None else int(images.shape[0])

    def _around(self, path: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def wrap(forward: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any, **kwargs: Any) -> Any:
                if threading.get_ident() != self._thread:  # the mode is active in the tracing thread only
                    return forward(*args, **kwargs)
                self._frames.append(CallFrame(path))
                try:
                    result = forward(*args, **kwargs)
                finally:
                    self._frames.pop()
                known = self._known.get(result) if isinstance(result, Tensor) else None
                self.graph.outputs.setdefault(path, []).append(known)
                for frame in self._frames:
                    frame.returned(path, is_child=frame is self._frames[-1])
                return result

            return run

        return wrap

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._is_running or is_getter(func):
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
        call = self._described(name, args, kwargs)
        call.patchable, call.starts_after, call.is_opaque = patchable, starts_after, is_opaque(func)
        self._is_running = True
        is_off = pop_dispatch_mode(self.hidden_operations)
        try:
            call.bounded = self._bounded_operands(call)
            result = func(*args, **kwargs)
        finally:
            if is_off:
                push_dispatch_mode(self.hidden_operations)
            self._is_running = False
        call.position = self._count(name)
        self._note_leaving(call)
        self._add_results(result, call)
        return result

    def run_hidden(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation that the dispatcher received; record it if no function mode has received it."""
        if self._is_running or threading.get_ident() != self._thread:
            return func(*args, **kwargs)
        self._is_running = True
        try:
            call = self._described(name_of(func), args, kwargs)
            call.is_visible, call.is_opaque = False, is_opaque(func)
            result = func(*args, **kwargs)
            self._add_results(result, call)
        finally:
            self._is_running = False
        return result

    def apply(self, function: type[torch.autograd.Function], original: Callable[..., Any], *args: Any) -> Any:
        """Run an ``autograd.Function``; results that its traced operations do not explain are recorded as its own."""
        if self._is_running or threading.get_ident() != self._thread:
            return original(*args)
        with self._paused():
            call = self._described(function.__name__, args, {})
            call.is_visible, call.is_opaque = False, True
            first = len(self.graph.nodes)
        result = original(*args)
        with self._paused():
            made = {id(node) for node in self.graph.nodes[first:] if node.name != OUTSIDE}
            unknown = [t for t in tensors_in(result) if id(self._known.get(t)) not in made]
            for output, tensor in enumerate(unknown):
                if not any(tensor is operand for operand in call.operands):
                    self._try_to_add(tensor, call, output)
        return result

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """Record no operation inside the block: it is part of one that is recorded, or ours."""
        self._is_running = True
        try:
            yield
        finally:
            self._is_running = False

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

    def _described(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        """The operands of a call, before it runs: an in-place operation gives its operand a new node."""
        operands: list[Tensor] = []
        parents: list[Node] = []
        arguments = tuple(self._symbolic(value, operands, parents) for value in args)
        named = {key: self._symbolic(value, operands, parents) for key, value in kwargs.items()}
        if name in _OVERWRITING and parents and parents[0].name == OUTSIDE:
            del parents[0]
        versions = [version_of(tensor) for tensor in operands]
        return _Call(name, arguments, named, tuple(parents), operands, versions, source_of_caller(self._folder))

    @staticmethod
    def _bounded_operands(call: _Call) -> tuple[int, ...]:
        """Which operands of a product of two values that depend on the input are between 0 and 1."""
        if call.name not in PRODUCTS or sum(parent.depends for parent in call.parents) < 2:
            return ()
        try:
            return tuple(i for i, tensor in enumerate(call.operands) if call.parents[i].depends and is_bounded(tensor))
        except Exception:  # noqa: BLE001  # no numbers, as in a FakeTensor or under vmap; it must not reach the model
            return ()

    def _note_leaving(self, call: _Call) -> None:
        if call.name in _LEAVING and any(t.is_floating_point() for t in call.operands):
            self._left |= any(parent.depends for parent in call.parents)

    def _add_results(self, result: Any, call: _Call) -> None:
        """Add the tensors with a new value: new tensors, and operands that were overwritten."""
        pairs = zip(call.operands, call.versions, strict=True)
        changed = [tensor for tensor, version in pairs if version_of(tensor) != version]
        old = {id(tensor) for tensor in call.operands}
        new = [tensor for tensor in tensors_in(result) if id(tensor) not in old]
        for output, tensor in enumerate(new + changed):
            self._try_to_add(tensor, call, output)

    def _count(self, name: str) -> int:
        position = self._frames[-1].counts[name]
        for frame in self._frames:
            frame.counts[name] += 1
        return position

    def _try_to_add(self, tensor: Tensor, call: _Call, output: int) -> None:
        """Add a value; one that cannot be described is noted, and its history ends there."""
        try:
            self._add(tensor, call, output)
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not reach the model, which could catch it
            node = self._node_of(None, call, output)
            self.graph.untraceable.append((self.graph.add(node), f"{type(tensor).__name__}: {error}"))
            self._known[tensor] = node

    def _add(self, tensor: Tensor, call: _Call, output: int) -> None:
        own = self._known.get(tensor)
        shared = next((t for t in call.operands if share_memory(t, tensor)), None)
        node = self._node_of(tensor, call, output)
        node.storage = self._new_storage() if shared is None else self._node(shared).storage
        if own is not None:
            self.graph.overwrites.setdefault(own.storage, []).append(len(self.graph.nodes))
        self._known[tensor] = self.graph.add(node)
        inner = tensor
        while is_functorch_wrapped(inner) and (inside := unwrapped(inner)) is not None:  # one level for each vmap
            inner = inside
            linked = self._linked(inner, node)
            if self._known.get(inner) is None:
                self._known[inner] = linked
        # Writing to a view changes its base too: torchvision's MViTv2 adds relative positions to a view of the scores.
        base = None if own is None else tensor._base
        before = None if base is None else self._known.get(base)
        if own is not None and base is not None and before is not None:
            whole: dict[str, Any] = {"shape": before.shape, "strides": before.strides, "storage": before.storage}
            if call.name == "copy" and own.name == "getitem" and own.parents == (before,) and call.parents[1:]:
                # Torchvision's detectors copy each image into a part of a batch: the same as an assignment to it.
                whole |= {"name": "setitem", "args": (before, own.args[1], call.parents[-1])}
            self._known[base] = replace(node, parents=(before, node), **whole)

    def _node_of(self, tensor: Tensor | None, call: _Call, output: int) -> Node:
        """The node of a result; ``None`` for one whose shape and memory are unknown."""
        depends = call.name not in SHAPE_ONLY and any(parent.depends for parent in call.parents)
        is_unwritten = call.name in _UNWRITTEN and tensor is not None and tensor.numel() > 0
        is_outside = is_unwritten or (self._left and self._arrives(tensor, call))
        return Node(
            index=len(self.graph.nodes),
            name=OUTSIDE if is_outside else call.name,
            args=call.args,
            kwargs=call.kwargs,
            parents=call.parents,
            shape=() if tensor is None else shape_of(tensor),
            strides=() if tensor is None else strides_of(tensor),
            depends=depends or is_outside,
            storage=0,
            module=self._frames[-1].path,
            position=call.position,
            source=call.source,
            itemsize=4 if tensor is None else itemsize_of(tensor),
            output=output,
            patchable=call.patchable,
            starts_after=call.starts_after,
            value=None if tensor is None else as_index(tensor),
            is_visible=call.is_visible and tensor is not None and not (self._is_method and len(self._frames) == 1),
            is_opaque=call.is_opaque or tensor is None,
            bounded=call.bounded,
        )

    @staticmethod
    def _arrives(tensor: Tensor | None, call: _Call) -> bool:
        """Whether a new tensor can hold numbers that have left PyTorch."""
        is_new = call.name in _ARRIVING and not any(parent.depends for parent in call.parents)
        return is_new and tensor is not None and tensor.is_floating_point()

    def _node(self, tensor: Tensor) -> Node:
        known = self._known.get(tensor)
        inner = unwrapped(tensor) if known is None and is_functorch_wrapped(tensor) else None
        if inner is not None:
            known = self._known[tensor] = self._linked(tensor, self._node(inner))
        if known is None:
            # Tensors that PyTorch made during the pass are known. NumPy's numbers can be those that have left.
            is_outside = self._left and tensor.is_floating_point() and id(tensor) not in self._of_model
            known = self._known[tensor] = self._leaf(tensor, OUTSIDE if is_outside else "constant")
        return known

    def _linked(self, tensor: Tensor, other: Node) -> Node:
        """A node for the same values outside or inside of ``vmap``, where the tensor has another shape."""
        node = self._leaf(tensor, "vmap")
        node.parents, node.depends = (other,), other.depends
        other.users.append(node)
        return node

    def _leaf(self, tensor: Tensor, name: str) -> Node:
        index, storage, regular = len(self.graph.nodes), self._new_storage(), is_regular(tensor)
        shape = tuple(tensor.shape) if regular else ()
        node = Node(index, name, (), {}, (), shape, strides_of(tensor), name != "constant", storage)
        node.itemsize, node.value = itemsize_of(tensor), as_index(tensor) if regular else None
        return self.graph.add(node)

    def _new_storage(self) -> int:
        self._storages += 1
        return self._storages

    def _symbolic(self, value: Any, operands: list[Tensor], parents: list[Node]) -> Any:
        """``value`` with nodes in place of tensors; all tensors in it are appended to ``operands``, their nodes too."""
        kind = type(value)
        if kind in WITHOUT_TENSORS:
            return value
        if isinstance(value, Tensor):
            node = self._node(value)
            operands.append(value)
            parents.append(node)
            return node
        if isinstance(value, dict):
            return {key: self._symbolic(item, operands, parents) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return tuple(self._symbolic(item, operands, parents) for item in value)
        inside = tensors_in(value)
        operands.extend(inside)
        parents.extend(map(self._node, inside))
        return value

"""The compiled kernels, called through ctypes.

The shared library depends on neither Python nor torch: it gets addresses, sizes and scratch memory. One build therefore
serves every version of torch.
"""

import ctypes
import functools
import importlib.machinery
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnviz.errors import UnknownNameError

VERSION = 2
ISAS = ("portable", "avx2", "avx512")  # the library's numbers
REFERENCE = "reference"
CONV_FORWARD, CONV_BACKWARD, SAMPLE_FORWARD, SAMPLE_BACKWARD, ATTENTION_FORWARD, ATTENTION_BACKWARD, SOFTMAX = range(7)

_chosen: ContextVar[str | None] = ContextVar("attnviz_kernel", default=None)


@dataclass(frozen=True, slots=True)
class Native:
    """The loaded library.

    Attributes:
        path: Its file.
        best: The number of the best instruction set that this processor runs (:data:`ISAS`).
        compiler: What built it.
        library: The ctypes handle.
    """

    path: Path
    best: int
    compiler: str
    library: ctypes.CDLL

    @property
    def isas(self) -> tuple[str, ...]:
        """The instruction sets that can be chosen here, slowest first."""
        return ISAS[: self.best + 1]


@functools.cache
def load() -> tuple[Native | None, str]:
    """The library, and why it is there or is not.

    torch is imported first, on purpose: the library then shares torch's OpenMP runtime and its threads.
    """
    here = Path(__file__).parent
    files = [here / f"_native{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES]
    path = next((file for file in files if file.exists()), None)
    if path is None:
        return None, "the compiled kernels are not installed (no C++ compiler with OpenMP was found at install time)"
    try:
        library = ctypes.CDLL(str(path))
        version = library.attnviz_version()
    except (OSError, AttributeError) as error:
        return None, f"{path.name} cannot be loaded: {error}"
    if version != VERSION:
        return None, f"{path.name} has interface {version}, this attnviz wants {VERSION}: install it again"
    library.attnviz_compiler.restype = ctypes.c_char_p
    library.attnviz_run.restype = ctypes.c_int64
    number, size, address = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    library.attnviz_run.argtypes = [number, number, number, address, size, address, address]
    best = int(library.attnviz_best_isa())
    native = Native(path, best, library.attnviz_compiler().decode(), library)
    return native, f"compiled by {native.compiler}; {platform.machine()} runs {', '.join(native.isas)}"


def live() -> str:
    """The name of the CPU kernels that a call would use now: one of :data:`ISAS` or ``"reference"``."""
    native, _ = load()
    if native is None:
        return REFERENCE
    return _chosen.get() or ISAS[native.best]


def current() -> tuple[str, int]:
    """The name of the CPU kernels that a call would use now, and on how many threads."""
    return live(), torch.get_num_threads()


@functools.cache
def _addresses(count: int) -> type[ctypes.Array[ctypes.c_void_p]]:
    return ctypes.c_void_p * count


@contextmanager
def use_kernel(name: str) -> Iterator[None]:
    """Use one kind of CPU kernels inside the ``with``: ``"avx512"``, ``"avx2"``, ``"portable"`` or ``"reference"``.

    For tests, comparisons and the search for a bug. The choice holds in the current thread or task only.

    Raises:
        UnknownNameError: this build, or this processor, has no such kernels.

    >>> with use_kernel("reference"):
    ...     live()
    'reference'
    """
    native, _ = load()
    known = (REFERENCE, *(native.isas if native else ()))
    if name not in known:
        raise UnknownNameError("sampling kernel", name, known)
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


@dataclass(frozen=True, slots=True)
class Call:
    """A kernel with everything that does not depend on the numbers in the tensors.

    Attributes:
        function: The library's entry point.
        head: Its leading arguments.
        scratch_bytes: What the kernel needs.
    """

    function: Callable[..., int]
    head: tuple[Any, ...]
    scratch_bytes: int


def prepare(op: int, sizes: Sequence[int], dtype: torch.dtype, kernel: str, threads: int) -> Call:
    """Find a kernel and the scratch memory that it needs.

    Args:
        op: One of the library's numbers, such as :data:`CONV_FORWARD`.
        sizes: Sizes in the order of the kernel.
        dtype: float32 or float64.
        kernel: One of :data:`ISAS`.
        threads: How many to use; results do not depend on it.

    Raises:
        RuntimeError: no such library or kernel, which is a bug in attnviz.
    """
    native, reason = load()
    if native is None:
        raise RuntimeError(f"kernel {op} was called without the compiled library: {reason}")
    function = native.library.attnviz_run
    head = ISAS.index(kernel), op, dtype == torch.float64, (ctypes.c_int64 * len(sizes))(*sizes), threads
    needed = function(*head, None, None)
    if needed < 0:
        raise RuntimeError(f"{native.path.name} has no kernel {op} for {kernel}")
    return Call(function, head, needed)


def run(call: Call, *tensors: Tensor | None) -> None:
    """Run a kernel on ``tensors``: contiguous or with the layout of its sizes, all float32 or all float64.

    Scratch memory comes from torch's allocator, one block for each call: calls from several threads do not meet.
    """
    scratch = torch.empty(call.scratch_bytes + 64, dtype=torch.uint8, device="cpu")
    start = scratch.data_ptr()
    addresses = _addresses(len(tensors))(*[None if t is None else t.data_ptr() for t in tensors])
    call.function(*call.head, addresses, start + -start % 64)
